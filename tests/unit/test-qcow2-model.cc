// Random operations on qcow2 images of all kinds, some of which are made up for the occasion: the contents, the
// snapshots and the dirty bitmaps are compared with a simple model, and neither we nor qemu-img find anything wrong, in
// the midst of it or with what is left.
#include <algorithm>
#include <cstring>

#include "block/block_node.h"
#include "tests/unit/bitmap_model.h"
#include "tests/unit/qcow2_fixture.h"
#include "util/progress.h"
#include "util/task_scope.h"

using namespace ashlar;
using namespace ashlar::test;
using namespace ashlar::qcow2;

namespace {

struct Kind {
    const char* name;
    unsigned cluster_bits = 16;
    unsigned refcount_bits = 16;
    bool extended_l2 = false;
    bool backing = false;
    bool data_file = false;
    bool data_file_raw = false;
    Version version = Version::V3;
    Compression compression = Compression::Zlib;
    bool lazy_refcounts = false;
    const char* more = "";  // options of the node
};

struct Model {
    Kind kind;
    TempDir dir;
    BlockFixture fixture;
    std::string file = dir.file("image.qcow2");
    Bytes contents;
    std::unique_ptr<OpenImage> image;
    struct Taken {
        std::string id;
        Bytes contents;
    };
    std::vector<Taken> snapshots;
    BitmapModels bitmaps;
    unsigned counter = 0, ids = 0;

    explicit Model(const Kind& k) : kind(k) {
        uint64_t cluster = uint64_t{1} << kind.cluster_bits;
        CreateOptions options;
        options.size.bytes = (std::min<uint64_t>(cluster * 96, 24 << 20) + 512 * 5) / 512 * 512;
        options.cluster_size.bytes = cluster;
        options.refcount_bits = kind.refcount_bits;
        options.extended_l2 = kind.extended_l2;
        options.version = kind.version;
        options.compression = kind.compression;
        options.lazy_refcounts = kind.lazy_refcounts;
        contents.resize(options.size);
        if (kind.backing) {
            Bytes base(options.size / 3 * 2 / 512 * 512);
            for (size_t i = 0; i < base.size(); i++)
                base[i] = static_cast<std::byte>(i / 512 * 7 + 1);
            std::ranges::copy(base, contents.begin());
            write_file(dir.file("base.raw"), base);
            options.backing_file = "base.raw";
            options.backing_format = "raw";
        }
        if (kind.data_file) {
            write_file(dir.file("data.raw"), Bytes(options.size));
            options.data_file = dir.file("data.raw");
            options.data_file_raw = kind.data_file_raw;
        }
        make_image(options, file);
        open();
    }

    void open() { image = std::make_unique<OpenImage>(fixture, file, true, kind.more); }
    void close() { image.reset(); }
    BlockBackend& disk() { return *image->backend; }

    struct Range {
        size_t offset, bytes;
    };
    Range random_range() {
        auto size = static_cast<int>(contents.size());
        uint64_t cluster = uint64_t{1} << kind.cluster_bits;
        int most = static_cast<int>(std::min<uint64_t>(contents.size(), cluster * 5));
        int offset = g_test_rand_int_range(0, size);
        int bytes = g_test_rand_int_range(1, most);
        switch (g_test_rand_int_range(0, 4)) {
            case 0:  // whole clusters
                offset = static_cast<int>(offset / cluster * cluster);
                bytes = static_cast<int>(std::max<uint64_t>(bytes / cluster * cluster, cluster));
                break;
            case 1:  // sectors
                offset = offset / 512 * 512;
                bytes = bytes / 512 * 512 + 512;
                break;
            case 2:
                bytes = std::min(bytes, 5000);
                break;
        }
        return {static_cast<size_t>(offset), static_cast<size_t>(std::min(bytes, size - offset))};
    }
    // Written, well or not.
    void mark(Range at) {
        for (auto& [name, bitmap] : bitmaps)
            if (bitmap.enabled)
                bitmap.set(static_cast<int64_t>(at.offset), static_cast<int64_t>(at.bytes));
    }
    std::byte next_byte() { return static_cast<std::byte>(++counter % 255 + 1); }

    void write() {
        Range at = random_range();
        Bytes data(at.bytes, next_byte());
        g_assert_cmpint(disk().pwrite(static_cast<int64_t>(at.offset), static_cast<int64_t>(at.bytes), data.data()), ==,
                        0);
        std::ranges::copy(data, contents.begin() + static_cast<ptrdiff_t>(at.offset));
        mark(at);
    }

    static Task<void> co_write_one(Model& model, Range at, std::byte value) {
        Bytes data(at.bytes, value);
        iovec element{data.data(), data.size()};
        int ret = co_await model.disk().co_pwritev(static_cast<int64_t>(at.offset), static_cast<int64_t>(at.bytes),
                                                   IoVector(element));
        g_assert_cmpint(ret, ==, 0);
    }
    static Task<void> co_write_many(Model& model) {
        TaskScope scope;
        std::vector<Range> taken;
        for (int i = 0; i < 12; i++) {
            Range at = model.random_range();
            if (std::ranges::any_of(
                    taken, [&](Range t) { return at.offset < t.offset + t.bytes && t.offset < at.offset + at.bytes; }))
                continue;
            taken.push_back(at);
            model.mark(at);
            std::byte value = model.next_byte();
            std::fill_n(model.contents.begin() + static_cast<ptrdiff_t>(at.offset), at.bytes, value);
            scope.spawn(co_write_one(model, at, value));
        }
        co_await scope.join();
    }

    void zero(RequestFlags flags) {
        Range at = random_range();
        g_assert_cmpint(disk().pwrite_zeroes(static_cast<int64_t>(at.offset), static_cast<int64_t>(at.bytes), flags),
                        ==, 0);
        std::fill_n(contents.begin() + static_cast<ptrdiff_t>(at.offset), at.bytes, std::byte{0});
        mark(at);
    }

    void discard() {
        Range at = random_range();
        g_assert_cmpint(disk().pdiscard(static_cast<int64_t>(at.offset), static_cast<int64_t>(at.bytes)), ==, 0);
        mark(at);
        Bytes now = image->read(static_cast<int64_t>(at.offset), at.bytes);
        for (size_t i = 0; i < at.bytes; i++) {
            std::byte& expected = contents[at.offset + i];
            g_assert_true(now[i] == expected || now[i] == std::byte{0});
            expected = now[i];
        }
    }

    void resize() {
        if (kind.version == Version::V2 && !snapshots.empty())
            return;
        size_t size = static_cast<size_t>(g_test_rand_int_range(1, static_cast<int>(contents.size() / 512 + 40))) * 512;
        if (g_test_rand_int_range(0, 3) != 0)
            size = std::max(size, contents.size() + 512);
        bool can_preallocate = size > contents.size() && (!kind.backing || kind.extended_l2);
        auto mode = can_preallocate ? static_cast<PreallocMode>(g_test_rand_int_range(0, 4)) : PreallocMode::Off;
        BlockFixture::check(disk().truncate(static_cast<int64_t>(size), true, mode));
        set_size(size);
    }
    void set_size(size_t size) {
        contents.resize(size);
        for (auto& [name, bitmap] : bitmaps)
            bitmap.resize(static_cast<int64_t>(size));
    }

    bool can_have_snapshots() const { return kind.refcount_bits > 1 && !kind.data_file; }

    // Many compressed clusters share one, and are to be counted once more.
    void assert_counts_are_full(const Error& error) {
        g_test_message("%s", error.message.c_str());
        g_assert_true(error.code == EINVAL && kind.refcount_bits <= 8);
    }

    // With other options, or read-only and back.
    void reopen() {
        static const char* const kOptions[] = {
            "",
            ", 'lazy-refcounts': true",
            ", 'l2-cache-size': 4096, 'l2-cache-entry-size': 512, 'refcount-cache-size': 4096",
            ", 'discard-no-unref': true, 'pass-discard-other': true",
            ", 'overlap-check': 'all', 'pass-discard-request': false",
            ", 'overlap-check': {'template': 'constant', 'active-l2': true}, 'pass-discard-snapshot': false",
        };
        const char* options =
            kOptions[g_test_rand_int_range(0, kind.version == Version::V2 ? 1 : G_N_ELEMENTS(kOptions))];
        std::string text = fmt::format(
            "{{'driver': 'qcow2', 'node-name': 'q', 'discard': 'unmap', 'file': '{}'{}{}}}",
            image->backend->root()->find_child("file")->node().node_name(),
            kind.backing ? ", 'backing': '" + image->backend->root()->cow_child()->node().node_name() + "'" : "",
            options);
        if (kind.data_file)
            text.insert(text.size() - 1,
                        ", 'data-file': '" + image->backend->root()->find_child("data-file")->node().node_name() + "'");
        std::vector<Json> all{BlockFixture::check(parse_json_object(text))};
        BlockFixture::check(fixture.run(fixture.graph->co_blockdev_reopen(std::move(all), Typing::Strict)));
    }

    void change_snapshots() {
        if (!can_have_snapshots())
            return;
        if (snapshots.empty() || (snapshots.size() < 3 && g_test_rand_bit())) {
            std::string id = std::to_string(++ids);
            auto created = image->try_create_snapshot(id);
            if (created)
                snapshots.push_back({id, contents});
            else
                assert_counts_are_full(created.error());
            return;
        }
        auto one = snapshots.begin() + g_test_rand_int_range(0, static_cast<int>(snapshots.size()));
        if (g_test_rand_bit()) {
            auto applied = image->try_apply_snapshot(one->id);
            if (applied) {
                contents = one->contents;
                set_size(contents.size());
            } else {
                assert_counts_are_full(applied.error());
            }
            mark({0, contents.size()});  // anything may have changed
        } else {
            image->delete_snapshot(one->id);
            snapshots.erase(one);
        }
    }

    // Whole clusters, some of which do not get smaller; -ENOTSUP where there is a data file.
    void write_compressed() {
        uint64_t cluster = uint64_t{1} << kind.cluster_bits;
        Range at = random_range();
        at.offset = at.offset / cluster * cluster;
        at.bytes = std::min(std::max<size_t>(at.bytes / cluster * cluster, cluster), contents.size() - at.offset);
        Bytes data(at.bytes, next_byte());
        for (size_t i = 0; i < data.size(); i += cluster)
            if (g_test_rand_int_range(0, 3) == 0)
                for (size_t j = i; j < std::min(i + cluster, data.size()); j++)
                    data[j] = static_cast<std::byte>(g_test_rand_int());
        int ret = disk().pwrite(static_cast<int64_t>(at.offset), static_cast<int64_t>(at.bytes), data.data(),
                                RequestFlags::Compressed);
        g_assert_cmpint(ret, ==, kind.data_file ? -ENOTSUP : 0);
        mark(at);
        if (ret == 0)
            std::ranges::copy(data, contents.begin() + static_cast<ptrdiff_t>(at.offset));
    }

    void change_bitmaps() {
        if (kind.version == Version::V2)
            return;
        BlockDriverState& node = *disk().root();
        auto size = static_cast<int64_t>(contents.size());
        if (bitmaps.empty() || (bitmaps.size() < 4 && g_test_rand_int_range(0, 3) == 0)) {
            std::string name = "bitmap-" + std::to_string(++ids);
            BitmapModel bitmap{.granularity = 512u << g_test_rand_int_range(0, 12), .enabled = g_test_rand_bit() != 0};
            bitmap.resize(size);
            auto added = fixture.run(co_add_bitmap(
                node,
                {.name = name, .granularity = bitmap.granularity, .persistent = true, .enabled = bitmap.enabled}));
            if (added)
                bitmaps[name] = std::move(bitmap);
            else
                g_assert_true(kind.cluster_bits == 9 && added.error().message.contains("no room for the bitmaps"));
            return;
        }
        auto random = [&] {
            return std::next(bitmaps.begin(), g_test_rand_int_range(0, static_cast<int>(bitmaps.size())));
        };
        auto one = random(), other = random();
        auto& [name, bitmap] = *one;
        switch (g_test_rand_int_range(0, 4)) {
            case 0:
                BlockFixture::check(fixture.run(co_remove_bitmap(node, name)));
                bitmaps.erase(one);
                return;
            case 1:
                BlockFixture::check(clear_bitmap(node, name));
                return bitmap.clear();
            case 2:
                bitmap.enabled = !bitmap.enabled;
                return BlockFixture::check(enable_bitmap(node, name, bitmap.enabled));
            default: {
                BitmapName source{.node = {}, .name = other->first};
                BlockFixture::check(merge_bitmaps(node, name, {&source, 1}));
                return bitmap.merge(other->second, size);
            }
        }
    }

    // Refused where counts are larger than that.
    void amend() {
        if (kind.version == Version::V2)
            return;
        unsigned bits = 1u << g_test_rand_int_range(0, 7);
        auto drained = fixture.run(fixture.graph->co_drain(*disk().root()));
        Progress progress;
        auto amended = fixture.run(disk().root()->driver().image_format()->co_amend(
            Json{{"refcount_bits", bits}, {"lazy_refcounts", g_test_rand_bit() != 0}}, false, progress));
        if (amended)
            kind.refcount_bits = bits;
        else
            g_test_message("%s", amended.error().message.c_str());
        g_assert_true(amended || bits <= 8);
    }

    void check_snapshots() {
        std::vector<const Taken*> same_size;
        for (const Taken& one : snapshots) {
            OpenImage shown(fixture, file, false);
            shown.show_snapshot(one.id);
            assert_same(shown.read_all(), one.contents);
            same_size.push_back(&one);
        }
        // (qemu-img shows as much of a snapshot as the disk has now.)
        std::erase_if(same_size, [&](const Taken* one) { return one->contents.size() != contents.size(); });
        if (same_size.empty() || !have_qemu_img())
            return;
        const Taken& one =
            *same_size[static_cast<size_t>(g_test_rand_int_range(0, static_cast<int>(same_size.size())))];
        write_file(dir.file("expected.raw"), one.contents);
        g_assert_cmpint(run_program({"qemu-img", "convert", "-l", "snapshot.id=" + one.id, "-O", "raw", file,
                                     dir.file("snapshot.raw")}),
                        ==, 0);
        g_assert_cmpint(run_program({"cmp", dir.file("snapshot.raw"), dir.file("expected.raw")}), ==, 0);
    }

    // Finds nothing, as qemu-img does.
    void check_image() {
        std::vector<std::string> lines;
        auto found = image->check(g_test_rand_bit() ? CheckFix::None : CheckFix::All, &lines);
        for (const std::string& line : lines)
            g_test_message("%s", line.c_str());
        BlockFixture::check(found);
        g_assert_cmpint(found->corruptions + found->leaks + found->errors, ==, 0);
    }

    void check_contents() {
        assert_same(image->read_all(), contents);
        assert_bitmaps(*disk().root(), bitmaps);
    }

    void check_file() {
        close();
        if (kind.data_file_raw) {
            std::string name = dir.file("data.raw");
            write_file(dir.file("expected.raw"), contents);
            g_assert_cmpint(run_program({"cmp", name, dir.file("expected.raw")}), ==, 0);
        }
        if (have_qemu_img()) {
            g_assert_cmpint(run_program({"qemu-img", "check", "-q", file}), ==, 0);
            write_file(dir.file("expected.raw"), contents);
            g_assert_cmpint(
                run_program({"qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", file, dir.file("expected.raw")}),
                ==, 0);
        }
        check_snapshots();
        open();
        check_contents();
        check_image();
        check_contents();
    }

    void step() {
        switch (g_test_rand_int_range(0, 28)) {
            case 0:
            case 1:
                return zero(RequestFlags::None);
            case 2:
                return zero(RequestFlags::MayUnmap);
            case 3:
            case 4:
                return discard();
            case 5:
                g_assert_cmpint(disk().flush(), ==, 0);
                return;
            case 6:
            case 7:
            case 8:
                return sync_wait(*fixture.context, co_write_many(*this));
            case 9:
                if (g_test_rand_int_range(0, 3) == 0)
                    resize();
                return;
            case 10:
                return change_snapshots();
            case 13:
                return reopen();
            case 14:
                return check_image();
            case 15:
            case 16:
                return change_bitmaps();
            case 17:
                if (g_test_rand_int_range(0, 3) == 0)
                    amend();
                return;
            case 11:
            case 12:
                return write_compressed();
            default:
                return write();
        }
    }
};

void play(const Kind& kind) {
    Model model(kind);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 40; i++) {
            model.step();
            if (i % 8 == 7)
                model.check_contents();
        }
        model.check_contents();
        model.check_file();
    }
}

void random_operations(gconstpointer data) {
    play(*static_cast<const Kind*>(data));
}

constexpr const char* kTinyCaches = ", 'l2-cache-size': 1024, 'l2-cache-entry-size': 512, 'cache-clean-interval': 1";

constexpr int kRandomKinds = 6;

const Kind kKinds[] = {
    {"plain"},
    {"v2", .version = Version::V2},
    {"v2-backing", .backing = true, .version = Version::V2},
    {"backing", .backing = true},
    {"cluster-512", .cluster_bits = 9},
    {"cluster-512-backing-refcount-1", .cluster_bits = 9, .refcount_bits = 1, .backing = true},
    {"cluster-512-refcount-64", .cluster_bits = 9, .refcount_bits = 64},
    {"cluster-4k-refcount-2", .cluster_bits = 12, .refcount_bits = 2},
    {"cluster-4k-refcount-4-tiny-caches", .cluster_bits = 12, .refcount_bits = 4, .more = kTinyCaches},
    {"cluster-512-tiny-caches", .cluster_bits = 9, .more = kTinyCaches},
    {"cluster-2m-refcount-8", .cluster_bits = 21, .refcount_bits = 8},
    {"refcount-32-backing", .refcount_bits = 32, .backing = true},
    {"subclusters", .extended_l2 = true},
    {"subclusters-16k-backing", .cluster_bits = 14, .extended_l2 = true, .backing = true},
    {"subclusters-2m-backing", .cluster_bits = 21, .extended_l2 = true, .backing = true},
    {"data-file", .data_file = true},
    {"data-file-backing-4k", .cluster_bits = 12, .backing = true, .data_file = true},
    {"data-file-raw", .data_file = true, .data_file_raw = true},
    {"data-file-subclusters", .extended_l2 = true, .data_file = true},
};

// Any of the varieties that there can be.
Kind random_kind() {
    auto one_of = [](int n) { return g_test_rand_int_range(0, n) == 0; };
    Kind kind{"varied"};
    kind.cluster_bits = static_cast<unsigned>(g_test_rand_int_range(9, 22));
    kind.backing = one_of(3);
    if (one_of(2))
        kind.more = kTinyCaches;
    if (one_of(6)) {
        kind.version = Version::V2;
        return kind;
    }
    kind.refcount_bits = 1u << g_test_rand_int_range(0, 7);
    kind.extended_l2 = kind.cluster_bits >= 14 && one_of(2);
    kind.data_file = one_of(4);
    kind.data_file_raw = kind.data_file && !kind.backing && one_of(2);
    kind.compression = one_of(2) ? Compression::Zstd : Compression::Zlib;
    kind.lazy_refcounts = one_of(2);
    return kind;
}

void random_operations_on_a_random_kind() {
    Kind kind = random_kind();
    g_test_message("version %d, clusters of 2^%u, refcount_bits %u%s%s%s%s%s%s%s", kind.version == Version::V2 ? 2 : 3,
                   kind.cluster_bits, kind.refcount_bits, kind.extended_l2 ? ", extended_l2" : "",
                   kind.backing ? ", backing" : "", kind.data_file ? ", data_file" : "",
                   kind.data_file_raw ? ", data_file_raw" : "", kind.compression == Compression::Zstd ? ", zstd" : "",
                   kind.lazy_refcounts ? ", lazy_refcounts" : "", kind.more);
    play(kind);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    for (const Kind& kind : kKinds)
        g_test_add_data_func(fmt::format("/qcow2-model/random-operations/{}", kind.name).c_str(), &kind,
                             random_operations);
    for (int i = 1; i <= kRandomKinds; i++)
        g_test_add_func(fmt::format("/qcow2-model/random-operations/varied-{}", i).c_str(),
                        random_operations_on_a_random_kind);
    return g_test_run();
}
