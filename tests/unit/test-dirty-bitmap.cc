// DirtyBitmap against a model, and what a node's request path and block/node_bitmaps.h make of them.
#include "block/dirty_bitmap.h"

#include "block/node_bitmaps.h"
#include "tests/unit/block_fixture.h"
#include "util/io_thread.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

namespace ashlar {

namespace {

std::shared_ptr<DirtyBitmap> make(uint32_t granularity, int64_t size) {
    return BlockFixture::check(DirtyBitmap::create("b", granularity, size));
}

// A bitmap and what it should be.
struct Modelled {
    std::shared_ptr<DirtyBitmap> bitmap;
    std::vector<bool> bits;
    int64_t granularity, size;

    Modelled(uint32_t g, int64_t s) : bitmap(make(g, s)), granularity(g), size(s) { bits.resize(bits_for(s)); }
    size_t bits_for(int64_t s) const { return static_cast<size_t>((s + granularity - 1) / granularity); }

    void change(int64_t offset, int64_t bytes, bool value) {
        if (offset >= size)
            return;  // also where the last bit stands for more than there is
        int64_t end = std::min(offset + bytes, size);
        for (int64_t at = offset / granularity * granularity; bytes > 0 && at < end; at += granularity)
            bits[static_cast<size_t>(at / granularity)] = value;
    }
    int64_t next(int64_t offset, int64_t end, bool value) const {
        for (int64_t at = offset; at < std::min(end, size); at = (at / granularity + 1) * granularity)
            if (bits[static_cast<size_t>(at / granularity)] == value)
                return at;
        return -1;
    }
    void check() const {
        g_assert_cmpint(bitmap->size(), ==, size);
        g_assert_cmpuint(bitmap->bits(), ==, bits.size());
        g_assert_cmpint(bitmap->count(), ==, std::count(bits.begin(), bits.end(), true) * granularity);
        std::vector<std::byte> bytes(bits.size() / 8 + 9);
        bitmap->store_bits(0, bytes);
        for (size_t i = 0; i < bytes.size() * 8; ++i)
            g_assert_cmpint((bytes[i / 8] & (std::byte{1} << (i % 8))) != std::byte{0}, ==, i < bits.size() && bits[i]);
    }
};

void model() {
    std::minstd_rand random(static_cast<unsigned>(g_test_rand_int()));
    auto below = [&](int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(random); };
    for (unsigned round = 0; round < 12; ++round) {
        const uint32_t granularity = 512u << below(3);
        // Around the sizes at which pages and words end.
        const int64_t pages = below(4),
                      size = std::max<int64_t>(0, pages * 32768 * granularity + below(200000) - 100000);
        Modelled a(granularity, size);
        for (unsigned step = 0; step < 150; ++step) {
            const bool large = below(3) == 0;
            const int64_t offset = below(a.size + granularity);
            const int64_t bytes = below(large ? a.size + 1 : 70 * granularity) + 1;
            switch (below(9)) {
                case 0:
                case 1:
                case 2:
                    a.bitmap->set(offset, bytes);
                    a.change(offset, bytes, true);
                    break;
                case 3:
                case 4: {
                    int64_t from = offset / granularity * granularity,
                            n = (bytes + granularity - 1) / granularity * granularity;
                    a.bitmap->clear(from, n);
                    a.change(from, n, false);
                    break;
                }
                case 5: {
                    const int64_t now = std::max<int64_t>(0, a.size + below(granularity * 100) - granularity * 50);
                    a.bitmap->resize(now);
                    a.size = now;
                    a.bits.resize(a.bits_for(now));
                    break;
                }
                case 6: {
                    Modelled other(granularity << below(2), a.size);
                    other.bitmap->set(offset, bytes);
                    other.bitmap->set(offset / 3, 1);
                    other.change(offset, bytes, true);
                    other.change(offset / 3, 1, true);
                    for (int64_t at = 0; at < a.size; at += granularity)
                        if (other.next(at, at + 1, true) == at)
                            a.change(at, 1, true);
                    a.bitmap->merge(*other.bitmap);
                    break;
                }
                case 7: {
                    std::vector<std::byte> image(static_cast<size_t>(below(3000) + 1));
                    for (auto& byte : image)
                        byte = std::byte(below(3) ? (below(2) ? 0 : 255) : below(256));
                    const auto first = static_cast<uint64_t>(below(static_cast<int64_t>(a.bits.size()) + 1)) / 64 * 64;
                    a.bitmap->load_bits(first, image);
                    for (size_t i = 0; i < image.size() * 8 && first + i < a.bits.size(); ++i)
                        a.bits[first + i] = (image[i / 8] & (std::byte{1} << (i % 8))) != std::byte{0};
                    break;
                }
                case 8:
                    below(2) ? a.bitmap->set_all() : a.bitmap->clear_all();
                    a.change(0, a.size, a.bitmap->count() > 0);
                    break;
            }
            if (step % 10 == 0)
                a.check();
            for (unsigned i = 0; i < 20; ++i) {
                const int64_t at = below(a.size + 1), end = at + below(a.size + 2);
                g_assert_cmpint(a.bitmap->next_dirty(at, end), ==, a.next(at, end, true));
                g_assert_cmpint(a.bitmap->next_clean(at, end), ==, a.next(at, end, false));
                const auto stretch = a.bitmap->stretch(at, end);
                if (at >= std::min(end, a.size)) {
                    g_assert_cmpint(stretch.bytes, ==, 0);
                    continue;
                }
                g_assert_cmpint(stretch.dirty, ==, a.next(at, at + 1, true) == at);
                const int64_t other = a.next(at, end, !stretch.dirty);
                g_assert_cmpint(stretch.bytes, ==, (other < 0 ? std::min(end, a.size) : other) - at);
            }
        }
        a.check();
    }
}

void sparse_is_cheap() {
    constexpr int64_t kTiB = int64_t{1} << 40;
    auto bitmap = make(512, kTiB);
    for (int64_t at = 0; at < kTiB; at += kTiB / 16)
        bitmap->set(at + 12345, 1);
    g_assert_cmpint(bitmap->count(), ==, 16 * 512);
    const int64_t begin = g_get_monotonic_time();
    unsigned found = 0;
    for (int64_t at = 0; (at = bitmap->next_dirty(at, kTiB)) >= 0; at += 512)
        ++found;
    g_assert_cmpuint(found, ==, 16);
    // A bit at a time would be 2^31 of them, a word at a time 2^25.
    g_assert_cmpint(g_get_monotonic_time() - begin, <, 1'000'000);
}

void all_set_stays_so() {
    auto bitmap = make(65536, int64_t{1} << 40);
    bitmap->set_all();
    g_assert_cmpint(bitmap->count(), ==, int64_t{1} << 40);
    bitmap->clear(65536, 65536);
    g_assert_cmpint(bitmap->next_clean(0, INT64_MAX), ==, 65536);
    bitmap->set(65536, 1);
    g_assert_cmpint(bitmap->next_clean(0, INT64_MAX), ==, -1);
    // What a disk is longer by is clean, also within a page that was full.
    bitmap = make(512, 512 * 100);
    bitmap->set_all();
    bitmap->resize(512 * 200);
    g_assert_cmpint(bitmap->count(), ==, 512 * 100);
    g_assert_cmpint(bitmap->next_clean(0, INT64_MAX), ==, 512 * 100);
    bitmap->resize(512 * 50);
    g_assert_cmpint(bitmap->count(), ==, 512 * 50);
    bitmap->resize(512 * 60);
    g_assert_cmpint(bitmap->next_clean(0, INT64_MAX), ==, 512 * 50);
}

void limits() {
    for (uint32_t granularity : {0u, 1u, 256u, 513u, 1000u, 65537u}) {
        auto made = DirtyBitmap::create("b", granularity, 1 << 20);
        g_assert_false(made.has_value());
        assert_text(made.error().message, "Granularity must be power of 2 and at least 512");
    }
    g_assert_false(DirtyBitmap::create("b", 512, kMaxLength).has_value());
    g_assert_cmpint(make(1u << 31, 1)->granularity(), ==, int64_t{1} << 31);
    g_assert_cmpint(make(1u << 31, kMaxLength)->bits(), ==, uint64_t{1} << 32);
}

void threads() {
    auto bitmap = make(512, 64 << 20);
    std::vector<std::thread> writers;
    std::atomic<bool> stop{false};
    for (unsigned t = 0; t < 4; ++t)
        writers.emplace_back([&, t] {
            for (int64_t at = t * 512; at < 64 << 20; at += 4 * 512)
                bitmap->mark(at, 512, 64 << 20);
        });
    std::thread reader([&] {
        auto copy = make(512, 64 << 20);
        while (!stop) {
            copy->merge(*bitmap);
            g_assert_cmpint(copy->count(), <=, bitmap->count());
            bitmap->merge(*copy);  // changes nothing
            bitmap->stretch(0, INT64_MAX);
        }
    });
    for (auto& writer : writers)
        writer.join();
    stop = true;
    reader.join();
    g_assert_cmpint(bitmap->count(), ==, 64 << 20);
}

// --- nodes ---

int write(BlockBackend& backend, int64_t offset, int64_t bytes, RequestFlags flags = {}) {
    std::vector<char> data(static_cast<size_t>(bytes), 'x');
    return backend.pwrite(offset, bytes, data.data(), flags);
}

std::string error_of(const Result<void>& result) {
    g_assert_false(result.has_value());
    return result.error().message;
}

// Although only whole blocks are discarded, or none.
void all_that_is_discarded_is_marked() {
    BlockFixture f;
    auto& node =
        f.add("{'driver': 'mock', 'node-name': 'n', 'size': 1048576, 'discard': 'unmap', 'discard-align': 8192}");
    auto backend = f.attach(node);
    f.check(f.run(co_add_bitmap(node, {.name = "b", .granularity = 4096})));
    auto bitmap = find_bitmap(node, "b");
    g_assert_cmpint(backend->pdiscard(200000, 20000), ==, 0);
    g_assert_cmpint(bitmap->next_dirty(0, INT64_MAX), ==, 196608);
    g_assert_cmpint(bitmap->count(), ==, 6 * 4096);
    g_assert_cmpint(backend->pdiscard(131072, 512), ==, 0);
    g_assert_cmpint(bitmap->count(), ==, 7 * 4096);
    g_assert_cmpuint(MockDriver::of(node).discards, ==, 1);
    f.detach(backend);
}

void writes_are_marked() {
    BlockFixture f;
    auto& node = f.add("{'driver': 'mock', 'node-name': 'n', 'size': 1048576, 'discard': 'unmap', 'zeroes': true}");
    auto backend = f.attach(node);
    f.check(f.run(co_add_bitmap(node, {.name = "on", .granularity = 4096})));
    f.check(f.run(co_add_bitmap(node, {.name = "off", .granularity = 4096, .enabled = false})));
    auto on = find_bitmap(node, "on"), off = find_bitmap(node, "off");
    g_assert_cmpint(write(*backend, 4095, 2), ==, 0);
    g_assert_cmpint(on->next_dirty(0, INT64_MAX), ==, 0);
    g_assert_cmpint(on->count(), ==, 8192);
    g_assert_cmpint(backend->pwrite_zeroes(65536, 4096), ==, 0);
    g_assert_true(on->is_dirty(65536));
    g_assert_cmpint(backend->pdiscard(131072, 8192), ==, 0);
    g_assert_cmpint(on->count(), ==, 8192 + 4096 + 8192);
    g_assert_cmpint(off->count(), ==, 0);
    // What is read there already is no change; what failed may be one; what was refused is none.
    g_assert_cmpint(write(*backend, 262144, 4096, RequestFlags::Unchanged), ==, 0);
    g_assert_cmpint(write(*backend, 1 << 20, 1), ==, -EIO);
    g_assert_cmpint(on->count(), ==, 8192 + 4096 + 8192);
    MockDriver::of(node).fail_with = -EIO;
    g_assert_cmpint(write(*backend, 524288, 4096), ==, -EIO);
    g_assert_true(on->is_dirty(524288));
    MockDriver::of(node).fail_with = 0;

    f.check(clear_bitmap(node, "on"));
    f.check(enable_bitmap(node, "on", false));
    f.check(enable_bitmap(node, "off", true));
    g_assert_cmpint(write(*backend, 0, 1), ==, 0);
    g_assert_cmpint(on->count(), ==, 0);
    g_assert_cmpint(off->count(), ==, 4096);

    // Without bitmaps writes go straight on again.
    f.check(f.run(co_remove_bitmap(node, "on")));
    f.check(f.run(co_remove_bitmap(node, "off")));
    g_assert_cmpint(write(*backend, 0, 1), ==, 0);
    g_assert_cmpint(off->count(), ==, 4096);
    f.detach(backend);
}

void resizing() {
    BlockFixture f;
    auto& node = f.add("{'driver': 'mock', 'node-name': 'n', 'size': 1048576}");
    auto backend = f.attach(node, {BlockPerm::ConsistentRead | BlockPerm::Write | BlockPerm::Resize, BlockPerm::All});
    f.check(f.run(co_add_bitmap(node, {.name = "b"})));
    auto bitmap = find_bitmap(node, "b");
    bitmap->set_all();
    f.check(backend->truncate(2 << 20, true, PreallocMode::Off));
    g_assert_cmpint(bitmap->size(), ==, 2 << 20);
    g_assert_cmpint(bitmap->count(), ==, 1 << 20);
    f.check(backend->truncate(512 << 10, true, PreallocMode::Off));
    g_assert_cmpint(bitmap->count(), ==, 512 << 10);
    // A write that makes the disk longer, also for one that does not record.
    f.check(enable_bitmap(node, "b", false));
    backend->set_allow_write_beyond_end(true);
    g_assert_cmpint(write(*backend, 3 << 20, 1), ==, 0);
    g_assert_cmpint(bitmap->size(), ==, (3 << 20) + 1);
    g_assert_cmpint(bitmap->count(), ==, 512 << 10);
    f.detach(backend);
}

void by_name() {
    BlockFixture f;
    auto& node = f.add("{'driver': 'null-co', 'node-name': 'n0', 'size': 1048576}");
    auto& other = f.add("{'driver': 'null-co', 'node-name': 'n1', 'size': 1048576}");
    auto& small = f.add("{'driver': 'null-co', 'node-name': 'n2', 'size': 65536}");
    auto add_error = [&](NewBitmap bitmap) { return error_of(f.run(co_add_bitmap(node, std::move(bitmap)))); };
    assert_text(add_error({.name = ""}), "Bitmap name cannot be empty");
    assert_text(add_error({.name = "b", .granularity = 1000}), "Granularity must be power of 2 and at least 512");
    assert_text(add_error({.name = "b", .persistent = true}),
                "Can't store persistent bitmaps to n0: Operation not supported");
    assert_text(add_error({.name = std::string(1024, 'x')}), "Bitmap name too long: " + std::string(1024, 'x'));
    f.check(f.run(co_add_bitmap(node, {.name = "b"})));
    assert_text(add_error({.name = "b"}), "Bitmap already exists: b");
    g_assert_cmpuint(find_bitmap(node, "b")->granularity(), ==, 65536);
    f.check(f.run(co_add_bitmap(node, {.name = "c", .granularity = 512})));
    f.check(f.run(co_add_bitmap(other, {.name = "b"})));
    f.check(f.run(co_add_bitmap(small, {.name = "b"})));

    for (const auto& result : {f.run(co_remove_bitmap(node, "x")), clear_bitmap(node, "x"),
                               enable_bitmap(node, "x", true), merge_bitmaps(node, "x", {})})
        assert_text(error_of(result), "Dirty bitmap 'x' not found");

    find_bitmap(node, "c")->set(512, 512);
    find_bitmap(other, "b")->set(131072, 1);
    auto merge_error = [&](std::vector<BitmapName> from) { return error_of(merge_bitmaps(node, "b", from)); };
    assert_text(merge_error({{{}, "c"}, {"n3", "b"}}), "Node 'n3' not found");
    assert_text(merge_error({{{}, "c"}, {"n1", "x"}}), "Dirty bitmap 'x' not found");
    assert_text(
        merge_error({{{}, "c"}, {"n2", "b"}}),
        "Bitmaps are of different sizes (destination size is 1048576, source size is 65536) and can't be merged");
    auto bitmap = find_bitmap(node, "b");
    g_assert_cmpint(bitmap->count(), ==, 0);
    f.check(merge_bitmaps(node, "b", std::array<BitmapName, 3>{{{{}, "c"}, {"n1", "b"}, {{}, "b"}}}));
    g_assert_cmpint(bitmap->count(), ==, 131072);
    g_assert_true(bitmap->is_dirty(0) && bitmap->is_dirty(131072));

    constexpr auto kBusy = "Bitmap 'b' is currently in use by another operation and cannot be used";
    bitmap->set_busy(true);
    for (const auto& result :
         {f.run(co_remove_bitmap(node, "b")), clear_bitmap(node, "b"), enable_bitmap(node, "b", true),
          merge_bitmaps(node, "b", {}), merge_bitmaps(node, "c", std::array<BitmapName, 1>{{{{}, "b"}}})})
        assert_text(error_of(result), kBusy);
    bitmap->set_busy(false);
    bitmap->set_inconsistent(true);
    assert_text(error_of(clear_bitmap(node, "b")), "Bitmap 'b' is inconsistent and cannot be used");
    f.check(f.run(co_remove_bitmap(node, "b")));
    g_assert_null(find_bitmap(node, "b").get());
}

void sha256() {
    // What qemu 7.2 says of empty bitmaps of 16 and of 2048 bits.
    assert_text(bitmap_sha256(*make(65536, 1 << 20)),
                "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc");
    assert_text(bitmap_sha256(*make(65536, 128 << 20)),
                "5341e6b2646979a70e57653007a1f310169421ec9bdd9f1a5648f75ade005af1");
}

Task<void> co_write_all(BlockBackend& backend, int64_t step, int64_t first) {
    std::array<char, 512> data{};
    iovec element{data.data(), data.size()};
    for (int64_t at = first; at < 1 << 20; at += step)
        g_assert_cmpint(co_await backend.co_pwritev(at, 512, IoVector(element)), ==, 0);
}

// Bitmaps come and go while several threads write; the one that stays misses nothing.
void under_load() {
    BlockFixture f;
    auto& node = f.add("{'driver': 'mock', 'node-name': 'n', 'size': 1048576, 'yields': 3}");
    auto backend = f.attach(node);
    f.check(f.run(co_add_bitmap(node, {.name = "stays", .granularity = 512})));
    std::vector<std::unique_ptr<IOThread>> threads;
    std::vector<std::unique_ptr<TaskScope>> scopes;
    for (unsigned i = 0; i < 3; ++i) {
        threads.push_back(f.check(IOThread::create(fmt::format("t{}", i))));
        scopes.push_back(std::make_unique<TaskScope>());
        scopes.back()->spawn_on(threads.back()->context(), co_write_all(*backend, 3 * 512, i * 512));
    }
    for (unsigned i = 0; i < 20; ++i) {
        f.check(f.run(co_add_bitmap(node, {.name = "goes"})));
        f.check(clear_bitmap(node, "goes"));
        f.check(f.run(co_remove_bitmap(node, "goes")));
    }
    for (auto& scope : scopes)
        f.run(scope->join());
    g_assert_cmpint(find_bitmap(node, "stays")->count(), ==, 1 << 20);
    f.detach(backend);
}

}  // namespace

}  // namespace ashlar

int main(int argc, char** argv) {
    using namespace ashlar;
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/dirty-bitmap/behaves-like-a-vector-of-bits", model);
    g_test_add_func("/dirty-bitmap/a-sparse-one-is-searched-fast", sparse_is_cheap);
    g_test_add_func("/dirty-bitmap/full-pages", all_set_stays_so);
    g_test_add_func("/dirty-bitmap/limits", limits);
    g_test_add_func("/dirty-bitmap/any-thread-may-mark-and-look", threads);
    g_test_add_func("/dirty-bitmap/what-may-have-changed-is-marked", writes_are_marked);
    g_test_add_func("/dirty-bitmap/all-that-is-discarded-is-marked", all_that_is_discarded_is_marked);
    g_test_add_func("/dirty-bitmap/follows-the-length-of-the-disk", resizing);
    g_test_add_func("/dirty-bitmap/errors-are-qemus", by_name);
    g_test_add_func("/dirty-bitmap/hash-is-qemus", sha256);
    g_test_add_func("/dirty-bitmap/come-and-go-under-load", under_load);
    return g_test_run();
}
