// Persistent dirty bitmaps: what is stored is what was there, in images that qemu-img finds nothing wrong with; what
// was not stored is known to be so; hostile directories and tables are refused.
#include <algorithm>
#include <array>
#include <bit>
#include <filesystem>
#include <random>

#include "block/dirty_bitmap.h"
#include "block/node_bitmaps.h"
#include "block/qcow2/bitmap_directory.h"
#include "block/qcow2/format.h"
#include "tests/unit/bitmap_model.h"
#include "tests/unit/qcow2_fixture.h"
#include "util/byte_order.h"

using namespace ashlar;
using namespace ashlar::test;
using namespace ashlar::qcow2;

namespace {

Bytes read_bytes(const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

std::string node_options(const std::string& file, bool read_only) {
    return fmt::format(
        "{{'driver': 'qcow2', 'node-name': 'n', 'read-only': {}, "
        "'file': {{'driver': 'file', 'filename': '{}', 'locking': 'off'}}}}",
        read_only ? "true" : "false", file);
}

void check_with_qemu(const std::string& file) {
    if (have_qemu_img())
        g_assert_cmpint(run_program({"qemu-img", "check", file}), ==, 0);
}

std::string open_error(const std::string& file, bool read_only = true) {
    BlockFixture f;
    return f.add_error(node_options(file, read_only));
}

constexpr ChildPerm kAllPerms{BlockPerm::ConsistentRead | BlockPerm::Write | BlockPerm::Resize, BlockPerm::All};

// Random images are opened, written, resized and closed again and again.
void round_trips() {
    TempDir dir;
    const unsigned seed = g_test_rand_int() & 0xffff;
    g_test_message("seed %u", seed);
    std::minstd_rand random(seed);
    auto below = [&](int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(random); };
    for (uint64_t cluster_size : {512u, 4096u, 65536u, 2097152u}) {
        const std::string file = dir.file(fmt::format("{}.qcow2", cluster_size).c_str());
        int64_t size = (4 << 20) + below(2) * 12345 * 512;
        make_image({.size = {static_cast<uint64_t>(size)},
                    .cluster_size = {cluster_size},
                    .lazy_refcounts = below(2) == 0,
                    .refcount_bits = cluster_size == 512 ? 1u << below(7) : 16u},
                   file);
        BitmapModels models;
        for (unsigned session = 0; session < 6; ++session) {
            BlockFixture f;
            auto& node = f.add(node_options(file, false));
            assert_bitmaps(node, models);
            auto backend = f.attach(node, kAllPerms);
            for (unsigned step = 0; step < 8; ++step) {
                switch (below(6)) {
                    case 0: {
                        std::string name = fmt::format("bitmap-{}-{}", session, step);
                        BitmapModel model{.granularity = 512u << below(12), .enabled = below(3) > 0};
                        model.resize(size);
                        f.check(f.run(co_add_bitmap(node, {.name = name,
                                                           .granularity = model.granularity,
                                                           .persistent = true,
                                                           .enabled = model.enabled})));
                        models[name] = model;
                        break;
                    }
                    case 1:
                        if (!models.empty() && below(2)) {
                            auto gone = std::next(models.begin(), below(static_cast<int64_t>(models.size())));
                            f.check(f.run(co_remove_bitmap(node, gone->first)));
                            models.erase(gone);
                        }
                        break;
                    case 2:
                        if (!models.empty()) {
                            auto& [name, model] = *models.begin();
                            if (below(2)) {
                                f.check(clear_bitmap(node, name));
                                model.clear();
                            } else {
                                find_bitmap(node, name)->set_all();
                                model.set_all();
                            }
                        }
                        break;
                    case 3:
                        size = std::max<int64_t>(512, size + (below(4000) - 2000) * 512);
                        f.check(backend->truncate(size, true, PreallocMode::Off));
                        for (auto& [name, model] : models)
                            model.resize(size);
                        break;
                    default: {
                        std::vector<char> data(static_cast<size_t>(below(20000) + 1), 'd');
                        const int64_t offset = below(size);
                        const int64_t bytes = std::min(static_cast<int64_t>(data.size()), size - offset);
                        g_assert_cmpint(backend->pwrite(offset, bytes, data.data()), ==, 0);
                        for (auto& [name, model] : models)
                            if (model.enabled)
                                model.set(offset, bytes);
                        break;
                    }
                }
            }
            assert_bitmaps(node, models);
            f.detach(backend);
            f.del("n");
            check_with_qemu(file);
            // Reading changes nothing.
            const Bytes before = read_bytes(file);
            auto& again = f.add(node_options(file, true));
            assert_bitmaps(again, models);
            f.del("n");
            g_assert_true(read_bytes(file) == before);
        }
    }
}

// An image with a bitmap "b" whose first granule is dirty, and one that does not record.
void make_with_bitmaps(const std::string& file) {
    make_image({.size = {64 << 20}}, file);
    BlockFixture f;
    auto& node = f.add(node_options(file, false));
    auto backend = f.attach(node);
    f.check(f.run(co_add_bitmap(node, {.name = "b", .persistent = true})));
    f.check(f.run(co_add_bitmap(node, {.name = "off", .persistent = true, .enabled = false})));
    f.check(f.run(co_add_bitmap(node, {.name = "transient"})));
    g_assert_cmpint(backend->pwrite(0, 1, "x"), ==, 0);
    f.detach(backend);
    f.del("n");
}

void not_stored() {
    TempDir dir;
    const std::string file = dir.file("a.qcow2"), copy = dir.file("copy.qcow2");
    make_with_bitmaps(file);
    {
        BlockFixture f;
        auto& node = f.add(node_options(file, false));
        g_assert_cmpint(find_bitmap(node, "b")->count(), ==, 65536);
        g_assert_null(find_bitmap(node, "transient").get());
        // As after a crash.
        write_file(copy, read_bytes(file));
        f.del("n");
    }
    BlockFixture f;
    auto& node = f.add(node_options(copy, false));
    for (const char* name : {"b", "off"}) {
        auto bitmap = find_bitmap(node, name);
        g_assert_true(bitmap->is_inconsistent() && bitmap->is_persistent() && !bitmap->is_enabled());
        g_assert_cmpint(bitmap->count(), ==, 0);
    }
    auto stored = node.driver().image_format()->stored_bitmaps();
    g_assert_cmpuint(stored.size(), ==, 2);
    g_assert_true(stored[0].in_use && stored[0].automatic && stored[1].in_use && !stored[1].automatic);
    auto backend = f.attach(node, kAllPerms);
    auto resized = backend->truncate(32 << 20, true, PreallocMode::Off);
    g_assert_false(resized.has_value());
    assert_text(resized.error().message, "Bitmap 'b' is inconsistent and cannot be used");
    f.check(f.run(co_remove_bitmap(node, "b")));
    f.check(f.run(co_remove_bitmap(node, "off")));
    f.check(backend->truncate(32 << 20, true, PreallocMode::Off));
    g_assert_cmpuint(node.driver().image_format()->stored_bitmaps().size(), ==, 0);
    f.detach(backend);
    f.del("n");
    check_with_qemu(copy);
    // The other has been closed.
    auto& closed = f.add(node_options(file, true));
    g_assert_cmpint(find_bitmap(closed, "b")->count(), ==, 65536);
    g_assert_true(find_bitmap(closed, "b")->is_read_only());
    auto refused = f.run(co_remove_bitmap(closed, "b"));
    g_assert_false(refused.has_value());
    assert_text(refused.error().message, "Bitmap 'b' is readonly and cannot be modified");
}

void what_can_be_stored() {
    TempDir dir;
    const std::string old = dir.file("v2.qcow2"), file = dir.file("v3.qcow2");
    make_image({.size = {1 << 20}, .version = Version::V2}, old);
    make_image({.size = {uint64_t{1} << 50}, .cluster_size = {2 << 20}}, file);
    BlockFixture f;
    auto error = [&](BlockDriverState& node, NewBitmap bitmap) {
        bitmap.persistent = true;
        auto added = f.run(co_add_bitmap(node, std::move(bitmap)));
        g_assert_false(added.has_value());
        return added.error().message;
    };
    assert_text(error(f.add(node_options(old, false)), {.name = "b"}),
                "Can't make bitmap 'b' persistent in 'n': Cannot store dirty bitmaps in qcow2 v2 files");
    f.del("n");
    auto& node = f.add(node_options(file, false));
    assert_text(error(node, {.name = std::string(1024, 'x')}),
                "Can't make bitmap '" + std::string(1024, 'x') +
                    "' persistent in 'n': Name length exceeds maximum (1023 characters)");
    assert_text(error(node, {.name = "b", .granularity = 65536}),
                "Can't make bitmap 'b' persistent in 'n': Too much space will be occupied by the bitmap. Use larger "
                "granularity");
    f.check(f.run(co_add_bitmap(node, {.name = std::string(1023, 'x'), .granularity = 1u << 31, .persistent = true})));
}

// --- hostile images ---

struct Raw {
    Bytes bytes;

    uint64_t get(uint64_t at) const { return load_be<uint64_t>(bytes.data() + at); }
    void set(uint64_t at, uint64_t value) { store_be<uint64_t>(bytes.data() + at, value); }
    void set32(uint64_t at, uint32_t value) { store_be<uint32_t>(bytes.data() + at, value); }
    void set8(uint64_t at, uint8_t value) { bytes[at] = std::byte{value}; }
    // The header extension's data.
    uint64_t extension() const {
        uint64_t at = load_be<uint32_t>(bytes.data() + 100);
        while (load_be<uint32_t>(bytes.data() + at) != 0x23852875)
            at += 8 + (load_be<uint32_t>(bytes.data() + at + 4) + 7) / 8 * 8;
        return at + 8;
    }
    uint64_t directory() const { return get(extension() + 16); }
    uint64_t table() const { return get(directory()); }
};

struct Damage {
    const char* error;  // the end of it
    void (*apply)(Raw& raw);
};

const Damage kDamages[] = {
    {"bitmap directory: entry 0: type 2 is not known", [](Raw& raw) { raw.set8(raw.directory() + 16, 2); }},
    {"bitmap directory: entry 0: granularity_bits: 8 is not between 9 and 31",
     [](Raw& raw) { raw.set8(raw.directory() + 17, 8); }},
    {"bitmap directory: entry 0: granularity_bits: 63 is not between 9 and 31",
     [](Raw& raw) { raw.set8(raw.directory() + 17, 63); }},
    {"bitmap directory: entry 0: flags 0x80000000 are not known",
     [](Raw& raw) { raw.set32(raw.directory() + 12, 0x80000002); }},
    {"bitmap directory: entry 0: a name of 0 bytes is not between 1 and 1023",
     [](Raw& raw) { raw.set8(raw.directory() + 19, 0); }},
    {"bitmap directory: entry 0: extra_data_size: 4294967295 exceeds the limit of 1024",
     [](Raw& raw) { raw.set32(raw.directory() + 20, 0xffffffff); }},
    {"bitmap 'b': bitmap_table_size: 2 entries, where a disk of 67108864 bytes takes 1",
     [](Raw& raw) { raw.set32(raw.directory() + 8, 2); }},
    {"bitmap 'b': table entry 0: 0x10001 makes no sense", [](Raw& raw) { raw.set(raw.table(), 0x10001); }},
    {"bitmap 'b': table entry 0: 0x8000000000000000 makes no sense",
     [](Raw& raw) { raw.set(raw.table(), uint64_t{1} << 63); }},
    {"bitmap 'off': bitmap_table_offset: 0x{:x} is another bitmap's",
     [](Raw& raw) { raw.set(raw.directory() + 32, raw.table()); }},
};

void hostile() {
    TempDir dir;
    const std::string good = dir.file("good.qcow2"), bad = dir.file("bad.qcow2");
    make_with_bitmaps(good);
    const Bytes bytes = read_bytes(good);
    for (const Damage& damage : kDamages) {
        Raw raw{bytes};
        damage.apply(raw);
        write_file(bad, raw.bytes);
        std::string expected = damage.error;
        if (auto at = expected.find("0x{:x}"); at != expected.npos)
            expected.replace(at, 6, fmt::format("{:#x}", raw.table()));
        assert_text(open_error(bad), bad + ": " + expected);
    }
    // Without the feature bit the bitmaps are nobody's business.
    Raw raw{bytes};
    raw.set(88, 0);
    write_file(bad, raw.bytes);
    BlockFixture f;
    g_assert_true(f.add(node_options(bad, false)).dirty_bitmaps().empty());
    f.del("n");
    // All ones, also behind the last bit.
    raw.bytes = bytes;
    raw.set(raw.table(), 1);
    write_file(bad, raw.bytes);
    g_assert_cmpint(find_bitmap(f.add(node_options(bad, true)), "b")->count(), ==, 64 << 20);
    f.del("n");
    // A directory over the L2 table of the image: it would be written to.
    raw.bytes = bytes;
    const uint64_t l2 = raw.get(raw.get(40)) & kOffsetMask;
    std::copy_n(raw.bytes.begin() + static_cast<ptrdiff_t>(raw.directory()), 64,
                raw.bytes.begin() + static_cast<ptrdiff_t>(l2));
    raw.set(raw.extension() + 16, l2);
    write_file(bad, raw.bytes);
    g_assert_true(open_error(bad, false).find("overlaps other metadata") != std::string::npos);
}

void directory() {
    Header header;
    header.bitmaps = BitmapsExtension{};
    std::vector<BitmapEntry> entries;
    for (unsigned i = 0; i < 20; ++i)
        entries.push_back({.table_offset = 65536 * (i + 1),
                           .table_entries = i,
                           .flags = i % 8,
                           .granularity_bits = static_cast<uint8_t>(9 + i),
                           .extra_data = Bytes(i * 3, std::byte{7}),
                           .name = std::string(i * 11 + 1, 'n')});
    Bytes bytes = write_bitmap_directory(entries);
    header.bitmaps->bitmaps = 20;
    header.bitmaps->directory_bytes = bytes.size();
    auto read = BlockFixture::check(read_bitmap_directory(bytes, header));
    g_assert_true(write_bitmap_directory(read) == bytes);
    g_assert_cmpuint(read[19].extra_data.size(), ==, 57);
    assert_text(read[19].name, entries[19].name);
    entries[7].name = entries[8].name;
    bytes = write_bitmap_directory(entries);
    auto twice = read_bitmap_directory(bytes, header);
    g_assert_false(twice.has_value());
    assert_text(twice.error().message,
                "bitmap directory: entry 8: there is a bitmap '" + entries[8].name + "' already");
    bytes.resize(bytes.size() - 8);
    g_assert_false(read_bitmap_directory(bytes, header).has_value());
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/qcow2/bitmaps/what-is-stored-is-what-was-there", round_trips);
    g_test_add_func("/qcow2/bitmaps/what-was-not-stored-is-inconsistent", not_stored);
    g_test_add_func("/qcow2/bitmaps/what-can-be-stored", what_can_be_stored);
    g_test_add_func("/qcow2/bitmaps/hostile-ones-are-refused", hostile);
    g_test_add_func("/qcow2/bitmaps/directory-is-read-as-it-is-written", directory);
    return g_test_run();
}
