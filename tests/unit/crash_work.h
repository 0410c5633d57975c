// Random work on a qcow2 image whose file, and data file, are a CrashDisk's, with what is known of its contents: after
// each flush by the guest what the disk and its snapshots held, and what has been changed since.
#pragma once

#include "block/io_vector.h"
#include "block/node_bitmaps.h"
#include "tests/unit/crash_recorder.h"
#include "util/byte_order.h"
#include "util/progress.h"
#include "util/task_scope.h"

#include <cstring>
#include <functional>
#include <set>

namespace ashlar::test {

constexpr const char* kCrashImage = "crashed.qcow2";
constexpr const char* kCrashData = "crashed.data";  // as the image names it
constexpr const char* kCrashBitmap = "b";
constexpr const char* kTinyCaches = ", 'l2-cache-size': 1024, 'l2-cache-entry-size': 512";

inline bool is_version_2(const Bytes& image) {
    return load_be<uint32_t>(image.data() + 4) == 2;
}

struct CrashKind {
    const char* name;
    unsigned cluster_bits = 12;
    unsigned refcount_bits = 16;
    qcow2::Version version = qcow2::Version::V3;
    bool extended_l2 = false;
    bool data_file = false;
    bool data_file_raw = false;
    bool bitmap = false;     // there is a persistent one
    bool snapshots = false;  // they come and go
    bool resizes = false;
    std::vector<const char*> amends = {};  // what may be amended, any of these at a time
    const char* more = "";                 // options of the node
};

struct CrashTaken {
    std::string id;
    Bytes contents;
};

struct CrashFlushed {
    size_t log_position;
    Bytes contents;
    std::vector<bool> touched;          // bytes that have been changed since
    std::set<size_t> lengths;           // that the disk has had since
    std::vector<CrashTaken> snapshots;  // that nobody has begun to delete

    void touch(size_t offset, size_t bytes) {
        if (touched.size() < offset + bytes)
            touched.resize(offset + bytes);
        std::fill_n(touched.begin() + static_cast<ptrdiff_t>(offset), bytes, true);
    }
};

struct CrashWork {
    static constexpr size_t kSmallest = 96 << 10, kLargest = 320 << 10;

    const CrashKind& kind;
    BlockFixture fixture;
    CrashDisk file;
    std::vector<Bytes> initial;
    std::unique_ptr<BlockBackend> disk;
    Bytes contents;
    std::vector<CrashFlushed> flushes;
    std::vector<CrashTaken> snapshots;
    unsigned counter = 0, ids = 0;

    explicit CrashWork(const CrashKind& k) : kind(k), file(k.data_file ? 2 : 1) {
        fixture.registry.add(kRecorder);
        qcow2::CreateOptions options;
        options.size.bytes = 256 << 10;
        options.cluster_size.bytes = uint64_t{1} << kind.cluster_bits;
        options.refcount_bits = kind.refcount_bits;
        options.extended_l2 = kind.extended_l2;
        options.version = kind.version;
        if (kind.data_file) {
            options.data_file = kCrashData;
            options.data_file_raw = kind.data_file_raw;
            file.files[1].resize(options.size);
        }
        auto plan = qcow2::plan_image(options);
        g_assert_true(plan.has_value());
        file.files[0].resize(plan->file_length);
        for (const qcow2::ImagePart& part : plan->parts)
            std::ranges::copy(part.data, file.files[0].begin() + static_cast<ptrdiff_t>(part.offset));
        contents.resize(options.size);
        if (kind.bitmap) {
            BlockFixture::check(
                fixture.run(co_add_bitmap(open(), {.name = kCrashBitmap, .granularity = 512, .persistent = true})));
            fixture.del("q");
            file.log.clear();
        }
        initial = file.files;
        note_flush();
        attach();
    }
    ~CrashWork() {
        if (disk)
            close();
    }

    BlockDriverState& open() {
        return fixture.add(fmt::format(
            "{{'driver': 'qcow2', 'node-name': 'q', 'discard': 'unmap', 'file': {{'driver': 'recorder', 'discard': "
            "'unmap'}}{}{}}}",
            kind.data_file ? ", 'data-file': {'driver': 'recorder', 'discard': 'unmap', 'file': 1}" : "", kind.more));
    }
    void attach() {
        disk = fixture.attach(
            open(), {BlockPerm::ConsistentRead | BlockPerm::Write | BlockPerm::Resize, BlockPerm::ConsistentRead});
    }
    void close() {
        fixture.detach(disk);
        fixture.del("q");
    }

    void note_flush() {
        flushes.push_back(
            {file.log.size(), contents, std::vector<bool>(contents.size()), {contents.size()}, snapshots});
    }
    void touch(size_t offset, size_t bytes) { flushes.back().touch(offset, bytes); }
    // The disk is as long as that from some moment on; what it is cut down by is not known any more.
    void resized_from(size_t before) {
        flushes.back().lengths.insert(contents.size());
        if (contents.size() < before)
            touch(contents.size(), before - contents.size());
    }

    static Task<void> co_write_one(CrashWork& work, size_t offset, size_t bytes, std::byte value) {
        Bytes data(bytes, value);
        iovec element{data.data(), data.size()};
        g_assert_cmpint(co_await work.disk->co_pwritev(static_cast<int64_t>(offset), static_cast<int64_t>(bytes),
                                                       IoVector(element)),
                        ==, 0);
    }
    static Task<void> co_write_many(CrashWork& work) {
        TaskScope scope;
        size_t part = work.contents.size() / 8;
        for (size_t i = 0; i < 8; i++) {  // each in a part of its own
            auto bytes = static_cast<size_t>(g_test_rand_int_range(1, 6000));
            size_t offset = i * part + static_cast<size_t>(g_test_rand_int_range(0, static_cast<int>(part - bytes)));
            std::byte value = work.next_byte();
            work.touch(offset, bytes);
            std::fill_n(work.contents.begin() + static_cast<ptrdiff_t>(offset), bytes, value);
            scope.spawn(co_write_one(work, offset, bytes, value));
        }
        co_await scope.join();
    }
    std::byte next_byte() { return static_cast<std::byte>(++counter % 255 + 1); }

    ImageFormat& drained_format() {
        auto drained = fixture.run(fixture.graph->co_drain(*disk->root()));
        return *disk->root()->driver().image_format();
    }
    // What these have done is on the disk when they have returned.
    void change_snapshots() {
        ImageFormat& format = drained_format();
        if (snapshots.size() < 2) {
            std::string id = std::to_string(++ids);
            BlockFixture::check(fixture.run(format.co_create_snapshot({.id = id, .name = id})));
            snapshots.push_back({id, contents});
        } else if (auto one = snapshots.begin() + g_test_rand_int_range(0, 2); g_test_rand_bit()) {
            size_t before = contents.size();
            for (size_t i = 0; i < std::max(before, one->contents.size()); i++)
                if (i >= before || i >= one->contents.size() || contents[i] != one->contents[i])
                    touch(i, 1);
            contents = one->contents;
            resized_from(before);
            BlockFixture::check(fixture.run(format.co_apply_snapshot(one->id)));
            (void)disk->flush();  // lets it notice the new length
        } else {
            std::string id = one->id;
            snapshots.erase(one);
            flushes.back().snapshots = snapshots;
            BlockFixture::check(fixture.run(format.co_delete_snapshot(id)));
        }
        note_flush();
    }

    void resize() {
        if (is_version_2(file.files[0]) && !snapshots.empty())
            return;  // which is refused
        size_t before = contents.size(),
               size = static_cast<size_t>(g_test_rand_int_range(kSmallest / 512, kLargest / 512 + 1)) * 512;
        auto mode = size > before ? static_cast<PreallocMode>(g_test_rand_int_range(0, 4)) : PreallocMode::Off;
        contents.resize(size);
        resized_from(before);
        BlockFixture::check(disk->truncate(static_cast<int64_t>(size), true, mode));
    }

    void amend() {
        ImageFormat& format = drained_format();
        const char* options =
            kind.amends[static_cast<size_t>(g_test_rand_int_range(0, static_cast<int>(kind.amends.size())))];
        Progress progress;
        auto amended = fixture.run(format.co_amend(BlockFixture::check(parse_json_object(options)), false, progress));
        if (!amended)  // such as a snapshot of another size, which version 2 cannot have
            g_test_message("%s: %s", options, amended.error().message.c_str());
    }

    void write_compressed() {
        size_t cluster = size_t{1} << kind.cluster_bits;
        size_t offset =
            static_cast<size_t>(g_test_rand_int_range(0, static_cast<int>(contents.size() / cluster))) * cluster;
        Bytes data(cluster, next_byte());
        touch(offset, cluster);
        g_assert_cmpint(disk->pwrite(static_cast<int64_t>(offset), static_cast<int64_t>(cluster), data.data(),
                                     RequestFlags::Compressed),
                        ==, 0);
        std::ranges::copy(data, contents.begin() + static_cast<ptrdiff_t>(offset));
    }

    void discard(size_t offset, size_t bytes) {
        auto at = static_cast<int64_t>(offset), n = static_cast<int64_t>(bytes);
        touch(offset, bytes);
        g_assert_cmpint(disk->pdiscard(at, n), ==, 0);
        g_assert_cmpint(disk->pread(at, n, contents.data() + offset), ==, 0);
    }
    void zero(size_t offset, size_t bytes) {
        touch(offset, bytes);
        g_assert_cmpint(disk->pwrite_zeroes(static_cast<int64_t>(offset), static_cast<int64_t>(bytes),
                                            g_test_rand_bit() ? RequestFlags::MayUnmap : RequestFlags::None),
                        ==, 0);
        std::fill_n(contents.begin() + static_cast<ptrdiff_t>(offset), bytes, std::byte{0});
    }
    void flush() {
        g_assert_cmpint(disk->flush(), ==, 0);
        note_flush();
    }

    void step() {
        auto bytes = static_cast<size_t>(g_test_rand_int_range(1, 20)) * 2048;
        auto offset = static_cast<size_t>(g_test_rand_int_range(0, static_cast<int>(contents.size() - bytes)));
        switch (g_test_rand_int_range(0, 11)) {
            case 0:
            case 1:
                return flush();
            case 2:
                return discard(offset, bytes);
            case 3:
                return zero(offset, bytes);
            case 4:
            case 5:
                if (kind.snapshots)
                    return change_snapshots();
                break;
            case 6:
                if (kind.resizes)
                    return resize();
                break;
            case 7:
                if (!kind.amends.empty())
                    return amend();
                break;
            case 8:
                if (!kind.data_file)
                    return write_compressed();
                break;
            default:
                break;
        }
        sync_wait(*fixture.context, co_write_many(*this));
    }
};

// A crashed image as files in a folder.
struct CrashedImage {
    const TempDir& dir;
    bool has_data_file;

    std::string file() const { return dir.file(kCrashImage); }
    std::string more() const {
        return has_data_file
                   ? fmt::format(", 'data-file': {{'driver': 'file', 'filename': '{}'}}", dir.file(kCrashData))
                   : "";
    }
    std::string qemu_options() const {
        return "driver=qcow2,file.filename=" + file() +
               (has_data_file ? ",data-file.filename=" + dir.file(kCrashData) : "");
    }
    void put(const std::vector<Bytes>& files) const {
        write_file(file(), files[0]);
        if (has_data_file)
            write_file(dir.file(kCrashData), files[1]);
    }
    ImageCheck check(CheckFix fix, std::vector<std::string>* lines = nullptr) const {
        BlockFixture fixture;
        OpenImage opened(fixture, file(), fix != CheckFix::None, more());
        return BlockFixture::check(opened.check(fix, lines));
    }
    // What was known after a flush is there.
    void check_contents(const CrashFlushed& flushed, bool has_bitmap) const {
        {
            BlockFixture fixture;
            OpenImage opened(fixture, file(), false, more());
            Bytes now = opened.read_all();
            g_assert_true(flushed.lengths.contains(now.size()));
            for (size_t i = 0; i < now.size(); i++) {
                std::byte expected = i < flushed.contents.size() ? flushed.contents[i] : std::byte{0};
                if (now[i] != expected && !(i < flushed.touched.size() && flushed.touched[i]))
                    g_error("byte %zu was flushed as %02x, and is %02x", i, std::to_integer<unsigned>(expected),
                            std::to_integer<unsigned>(now[i]));
            }
            if (has_bitmap)
                check_bitmap(*opened.backend->root(), now);
        }
        check_snapshots(flushed);
    }
    void check_snapshots(const CrashFlushed& flushed) const {
        for (const CrashTaken& one : flushed.snapshots) {
            BlockFixture fixture;
            OpenImage shown(fixture, file(), false, more());
            shown.show_snapshot(one.id);
            assert_same(shown.read_all(), one.contents);
        }
    }
    // What the disk grows by is zeroes, whatever has been behind its end.
    void check_growth() const {
        BlockFixture fixture;
        OpenImage opened(fixture, file(), true, more());
        Bytes expected = opened.read_all();
        expected.resize(CrashWork::kLargest + 512);
        BlockFixture::check(opened.backend->truncate(static_cast<int64_t>(expected.size()), true, PreallocMode::Off));
        assert_same(opened.read_all(), expected);
    }
    // Every byte of the disk anew.
    void write_over() const {
        BlockFixture fixture;
        OpenImage opened(fixture, file(), true, more());
        Bytes data(static_cast<size_t>(opened.backend->length()), std::byte{0x42});
        g_assert_cmpint(opened.backend->pwrite(0, static_cast<int64_t>(data.size()), data.data()), ==, 0);
        assert_same(opened.read_all(), data);
    }
    // It is the one of a disk that was all zeroes: whatever is not is dirty, or the bitmap knows that it is not true.
    static bool check_bitmap(const BlockDriverState& node, const Bytes& contents) {
        auto bitmap = find_bitmap(node, kCrashBitmap);
        g_assert_nonnull(bitmap.get());
        for (size_t i = 0; i < contents.size() && !bitmap->is_inconsistent(); i++)
            g_assert_true(contents[i] == std::byte{0} || bitmap->is_dirty(static_cast<int64_t>(i)));
        return !bitmap->is_inconsistent();
    }
};

inline bool says_dirty(const Bytes& image) {
    return !is_version_2(image) && (load_be<uint64_t>(image.data() + 72) & qcow2::kDirty) != 0;
}

// Calls fn(files, flushed) with about `samples` states in which a crash may have left the work's files.
inline void for_crashes(const CrashWork& work, size_t samples,
                        const std::function<void(const std::vector<Bytes>&, const CrashFlushed&)>& fn) {
    const size_t points = std::max<size_t>(count_flushes(work.file.log), 1);
    CrashReplay replay(work.initial, work.file.log);
    size_t flush_index = 0;
    for (double due = 0; replay.next();) {
        due += static_cast<double>(samples) / static_cast<double>(points) * g_test_rand_double_range(0.5, 1.5);
        while (flush_index + 1 < work.flushes.size() && work.flushes[flush_index + 1].log_position <= replay.position())
            flush_index++;
        for (; due >= 1; due -= 1)
            fn(replay.crashed(), work.flushes[flush_index]);
    }
}

}  // namespace ashlar::test
