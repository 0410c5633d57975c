// A crash at any point of random work: below the qcow2 driver every write and flush is recorded; then images are made
// of everything up to a flush and any part of what came after it, in any order. Each opens, qemu-img finds nothing but
// leaks, and what was flushed is there, in the disk and in its snapshots. (An image that says that it is dirty is
// opened for writing first, which repairs it.)
#include <algorithm>
#include <cstring>

#include "block/io_vector.h"
#include "block/node_bitmaps.h"
#include "tests/unit/qcow2_fixture.h"
#include "util/byte_order.h"
#include "util/task_scope.h"

using namespace ashlar;
using namespace ashlar::test;
using namespace ashlar::qcow2;

namespace {

struct Record {
    int64_t offset;
    Bytes data;  // empty: a flush
};

// The file, and the log of what was done to it.
struct Storage {
    Bytes bytes;
    std::vector<Record> log;
};

Storage* storage;

struct NoOptions {
    static const OptionSet<NoOptions>& options() {
        static const auto set = OptionSet<NoOptions>("recorder");
        return set;
    }
};

class Recorder final : public BlockDriver {
public:
    explicit Recorder(const OpenContext& context) : BlockDriver(context) {}

    Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags) override {
        iov_copy_in(iov, 0, storage->bytes.data() + offset, bytes);
        co_return 0;
    }
    // Takes a while, so that requests overtake each other.
    Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags) override {
        for (unsigned turns = g_test_rand_int_range(0, 4); turns > 0; turns--)
            co_await co_yield_now();
        auto end = static_cast<size_t>(offset + bytes);
        storage->bytes.resize(std::max(storage->bytes.size(), end));
        Record record{offset, Bytes(static_cast<size_t>(bytes))};
        iov_copy_out(iov, 0, record.data.data(), bytes);
        std::ranges::copy(record.data, storage->bytes.begin() + offset);
        storage->log.push_back(std::move(record));
        co_return 0;
    }
    Task<int> co_flush() override {
        // What completed before the flush began is what it covers; a later write may be stable as well, or not.
        storage->log.push_back({0, {}});
        co_await co_yield_now();
        co_return 0;
    }
    int64_t length() const override { return static_cast<int64_t>(storage->bytes.size()); }
};

Task<Result<std::unique_ptr<BlockDriver>>> co_open_recorder(OpenContext& context) {
    if (auto options = context.parse<NoOptions>(); !options)
        co_return std::unexpected(std::move(options.error()));
    co_return std::make_unique<Recorder>(context);
}

const DriverType kRecorder = {.name = "recorder",
                              .options = [] -> const OptionSchema& { return NoOptions::options(); },
                              .co_open = co_open_recorder,
                              .is_protocol = true};

constexpr const char* kBitmap = "b";
constexpr uint32_t kGranularity = 512;

struct Kind {
    const char* name;
    unsigned cluster_bits;
    unsigned refcount_bits;
    bool extended_l2;
    const char* more;
    bool bitmap = false;  // there is a persistent one
};

struct Taken {
    std::string id;
    Bytes contents;
};

// After a flush by the guest: how far the log was, what the disk held, and what has been changed since.
struct Flushed {
    size_t log_position;
    Bytes contents;
    std::vector<bool> touched;
    std::vector<Taken> snapshots;  // that nobody has begun to delete
};

struct Work {
    const Kind& kind;
    BlockFixture fixture;
    Storage file;
    Bytes initial;
    std::unique_ptr<BlockBackend> disk;
    Bytes contents;
    std::vector<Flushed> flushes;
    std::vector<Taken> snapshots;
    unsigned counter = 0, ids = 0;

    explicit Work(const Kind& k) : kind(k) {
        fixture.registry.add(kRecorder);
        CreateOptions options;
        options.size.bytes = 512 << 10;
        options.cluster_size.bytes = uint64_t{1} << kind.cluster_bits;
        options.refcount_bits = kind.refcount_bits;
        options.extended_l2 = kind.extended_l2;
        auto plan = plan_image(options);
        g_assert_true(plan.has_value());
        initial.resize(plan->file_length);
        for (const ImagePart& part : plan->parts)
            std::ranges::copy(part.data, initial.begin() + static_cast<ptrdiff_t>(part.offset));
        file.bytes = initial;
        storage = &file;
        contents.resize(options.size);
        if (kind.bitmap) {
            fixture.check(
                fixture.run(co_add_bitmap(open(), {.name = kBitmap, .granularity = kGranularity, .persistent = true})));
            fixture.del("q");
            initial = file.bytes;
            file.log.clear();
        }
        note_flush();
        disk = fixture.attach(open());
    }
    ~Work() {
        if (disk)
            close();
        storage = nullptr;
    }

    BlockDriverState& open() {
        return fixture.add(fmt::format(
            "{{'driver': 'qcow2', 'node-name': 'q', 'discard': 'unmap', 'file': {{'driver': 'recorder'}}{}}}",
            kind.more));
    }
    void close() {
        fixture.detach(disk);
        fixture.del("q");
    }

    void note_flush() { flushes.push_back({file.log.size(), contents, std::vector<bool>(contents.size()), snapshots}); }
    void touch(size_t offset, size_t bytes) {
        std::fill_n(flushes.back().touched.begin() + static_cast<ptrdiff_t>(offset), bytes, true);
    }

    static Task<void> co_write_one(Work& work, size_t offset, size_t bytes, std::byte value) {
        Bytes data(bytes, value);
        iovec element{data.data(), data.size()};
        g_assert_cmpint(co_await work.disk->co_pwritev(static_cast<int64_t>(offset), static_cast<int64_t>(bytes),
                                                       IoVector(element)),
                        ==, 0);
    }
    static Task<void> co_write_many(Work& work) {
        TaskScope scope;
        size_t part = work.contents.size() / 8;
        for (size_t i = 0; i < 8; i++) {  // each in a part of its own
            auto bytes = static_cast<size_t>(g_test_rand_int_range(1, 6000));
            size_t offset = i * part + static_cast<size_t>(g_test_rand_int_range(0, static_cast<int>(part - bytes)));
            auto value = static_cast<std::byte>(++work.counter % 255 + 1);
            work.touch(offset, bytes);
            std::fill_n(work.contents.begin() + static_cast<ptrdiff_t>(offset), bytes, value);
            scope.spawn(co_write_one(work, offset, bytes, value));
        }
        co_await scope.join();
    }

    ImageFormat& format() { return *disk->root()->driver().image_format(); }

    // What these have done is on the disk when they have returned.
    void change_snapshots() {
        auto drained = fixture.run(fixture.graph->co_drain(*disk->root()));
        if (snapshots.size() < 2) {
            std::string id = std::to_string(++ids);
            BlockFixture::check(fixture.run(format().co_create_snapshot({.id = id, .name = id})));
            snapshots.push_back({id, contents});
        } else if (auto one = snapshots.begin() + g_test_rand_int_range(0, 2); g_test_rand_bit()) {
            for (size_t i = 0; i < contents.size(); i++)
                if (contents[i] != one->contents[i])
                    touch(i, 1);
            BlockFixture::check(fixture.run(format().co_apply_snapshot(one->id)));
            contents = one->contents;
        } else {
            std::string id = one->id;
            snapshots.erase(one);
            flushes.back().snapshots = snapshots;
            BlockFixture::check(fixture.run(format().co_delete_snapshot(id)));
        }
        note_flush();
    }

    void write_compressed() {
        size_t cluster = size_t{1} << kind.cluster_bits;
        size_t offset =
            static_cast<size_t>(g_test_rand_int_range(0, static_cast<int>(contents.size() / cluster))) * cluster;
        Bytes data(cluster, static_cast<std::byte>(++counter % 255 + 1));
        touch(offset, cluster);
        g_assert_cmpint(disk->pwrite(static_cast<int64_t>(offset), static_cast<int64_t>(cluster), data.data(),
                                     RequestFlags::Compressed),
                        ==, 0);
        std::ranges::copy(data, contents.begin() + static_cast<ptrdiff_t>(offset));
    }

    void step() {
        auto bytes = static_cast<size_t>(g_test_rand_int_range(1, 20)) * 2048;
        auto offset = static_cast<size_t>(g_test_rand_int_range(0, static_cast<int>(contents.size() - bytes)));
        auto at = static_cast<int64_t>(offset), n = static_cast<int64_t>(bytes);
        switch (g_test_rand_int_range(0, 8)) {
            case 0:
                g_assert_cmpint(disk->flush(), ==, 0);
                return note_flush();
            case 1: {
                touch(offset, bytes);
                g_assert_cmpint(disk->pdiscard(at, n), ==, 0);
                g_assert_cmpint(disk->pread(at, n, contents.data() + offset), ==, 0);
                return;
            }
            case 2:
                touch(offset, bytes);
                g_assert_cmpint(disk->pwrite_zeroes(at, n, RequestFlags::MayUnmap), ==, 0);
                std::fill_n(contents.begin() + at, bytes, std::byte{0});
                return;
            case 6:
                return kind.refcount_bits > 1 && !kind.bitmap ? change_snapshots() : write_compressed();
            case 7:
                return write_compressed();
            default:
                return sync_wait(*fixture.context, co_write_many(*this));
        }
    }
};

void replay(Bytes& image, const Record& record) {
    auto offset = static_cast<size_t>(record.offset);
    image.resize(std::max(image.size(), offset + record.data.size()));
    std::ranges::copy(record.data, image.begin() + record.offset);
}

// The bitmap is the one of a disk that was all zeroes: whatever is not is dirty, or the bitmap knows that it is not
// true.
bool check_bitmap(const BlockDriverState& node, const Bytes& contents) {
    auto bitmap = find_bitmap(node, kBitmap);
    g_assert_nonnull(bitmap.get());
    for (size_t i = 0; i < contents.size() && !bitmap->is_inconsistent(); i++)
        g_assert_true(contents[i] == std::byte{0} || bitmap->is_dirty(static_cast<int64_t>(i)));
    return !bitmap->is_inconsistent();
}

void check_crashed(const Bytes& image, const Flushed& flushed, const std::string& name, bool has_bitmap) {
    write_file(name, image);
    bool dirty = (load_be<uint64_t>(image.data() + 72) & kDirty) != 0;
    if (dirty) {
        BlockFixture repairing;
        OpenImage repaired(repairing, name, true);
    }
    int status = run_program({"qemu-img", "check", "-q", "-f", "qcow2", name});
    if (status != 0 && status != 3 << 8)  // 3: leaks
        g_error("qemu-img check: exit status %d", status >> 8);
    BlockFixture fixture;
    OpenImage opened(fixture, name, false);
    Bytes contents = opened.read_all();
    for (size_t i = 0; i < contents.size(); i++)
        if (!flushed.touched[i] && contents[i] != flushed.contents[i])
            g_error("byte %zu was flushed as %02x, and is %02x", i, std::to_integer<unsigned>(flushed.contents[i]),
                    std::to_integer<unsigned>(contents[i]));
    if (has_bitmap)
        check_bitmap(*opened.backend->root(), contents);
}

void check_crashed_snapshots(const Flushed& flushed, const std::string& name) {
    for (const Taken& one : flushed.snapshots) {
        BlockFixture fixture;
        OpenImage shown(fixture, name, false);
        shown.show_snapshot(one.id);
        assert_same(shown.read_all(), one.contents);
    }
}

void crashes_lose_nothing_that_was_flushed(gconstpointer data) {
    if (!have_qemu_img())
        return g_test_skip("qemu-img is not installed");
    Bytes initial;
    std::vector<Record> log;
    std::vector<Flushed> flushes;
    const bool has_bitmap = static_cast<const Kind*>(data)->bitmap;
    {
        Work work(*static_cast<const Kind*>(data));
        for (int i = 0; i < 60; i++)
            work.step();
        if (work.kind.bitmap)
            work.close();
        initial = work.initial;
        log = work.file.log;
        flushes = work.flushes;
    }
    TempDir dir;
    Bytes image = initial;  // everything up to the last flush that was recorded
    size_t flush_index = 0, begin = 0;
    for (size_t end = 0; end < log.size(); end++) {
        if (!log[end].data.empty())
            continue;
        while (flush_index + 1 < flushes.size() && flushes[flush_index + 1].log_position <= begin)
            flush_index++;
        for (int sample = 0; sample < 2; sample++) {
            Bytes crashed = image;
            std::vector<const Record*> some;
            for (size_t i = begin; i < end; i++)
                if (!log[i].data.empty() && g_test_rand_int_range(0, 2))
                    some.push_back(&log[i]);
            if (sample == 0 && some.empty())
                continue;
            for (const Record* record : some)
                replay(crashed, *record);
            check_crashed(crashed, flushes[flush_index], dir.file("crashed.qcow2"), has_bitmap);
            check_crashed_snapshots(flushes[flush_index], dir.file("crashed.qcow2"));
        }
        for (; begin < end; begin++)
            replay(image, log[begin]);
        begin = end + 1;
    }
    if (has_bitmap) {  // it was closed, and is to be of use
        write_file(dir.file("closed.qcow2"), image);
        BlockFixture fixture;
        OpenImage opened(fixture, dir.file("closed.qcow2"), false);
        g_assert_true(check_bitmap(*opened.backend->root(), opened.read_all()));
    }
}

constexpr const char* kTinyCaches = ", 'l2-cache-size': 1024, 'l2-cache-entry-size': 512";

const Kind kKinds[] = {
    {"cluster-512-tiny-caches", 9, 16, false, kTinyCaches},  // the refcount table grows, and L2 tables are evicted
    {"cluster-4k", 12, 16, false, ""},
    {"cluster-4k-lazy-refcounts", 12, 16, false, ", 'lazy-refcounts': true"},
    {"cluster-4k-refcount-1", 12, 1, false, kTinyCaches},
    {"subclusters-16k", 14, 16, true, ""},
    {"bitmap-cluster-512", 9, 16, false, "", true},
    {"bitmap-cluster-4k", 12, 16, false, "", true},
};

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    for (const Kind& kind : kKinds)
        g_test_add_data_func(fmt::format("/qcow2-crash/loses-nothing-that-was-flushed/{}", kind.name).c_str(), &kind,
                             crashes_lose_nothing_that_was_flushed);
    return g_test_run();
}
