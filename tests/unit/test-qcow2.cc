// The qcow2 driver against images that qemu-img and qemu-io made, and against images that nobody should have made.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>

#include "block/qcow2/format.h"
#include "tests/unit/qcow2_fixture.h"
#include "util/byte_order.h"
#include "util/io_thread.h"
#include "util/task_scope.h"

using namespace ashlar;
using namespace ashlar::test;
using namespace ashlar::qcow2;

namespace {

constexpr size_t kDiskBytes = (3 << 20) + 512;

// Zeroes, text and noise, in pieces of all sizes.
Bytes mixed_contents() {
    Bytes bytes(kDiskBytes);
    for (size_t at = 0; at < bytes.size();) {
        size_t n = std::min<size_t>(bytes.size() - at, static_cast<size_t>(g_test_rand_int_range(1, 200'000)));
        int what = g_test_rand_int_range(0, 3);
        for (size_t i = at; i < at + n; i++)
            bytes[i] = what == 0   ? std::byte{0}
                       : what == 1 ? static_cast<std::byte>(i / 100)
                                   : static_cast<std::byte>(g_test_rand_int());
        at += n;
    }
    return bytes;
}

bool skip_without_qemu() {
    if (have_qemu_img())
        return false;
    g_test_skip("qemu-img is not installed");
    return true;
}

void qemu(std::vector<std::string> words) {
    g_assert_cmpint(run_program(words), ==, 0);
}

// Thirty times, some bytes up to `max_bytes`, in the image and in what it is to hold.
void write_anywhere(OpenImage& image, Bytes& contents, int max_bytes) {
    for (int i = 0; i < 30; i++) {
        auto offset = g_test_rand_int_range(0, kDiskBytes - max_bytes);
        Bytes data(static_cast<size_t>(g_test_rand_int_range(1, max_bytes)), static_cast<std::byte>(i + 1));
        g_assert_cmpint(image.backend->pwrite(offset, static_cast<int64_t>(data.size()), data.data()), ==, 0);
        std::ranges::copy(data, contents.begin() + offset);
    }
}

void check_reads(OpenImage& image, const Bytes& contents) {
    assert_same(image.read_all(), contents);
    for (int i = 0; i < 100; i++) {
        auto offset = static_cast<size_t>(g_test_rand_int_range(0, static_cast<int>(contents.size())));
        auto bytes = std::min<size_t>(contents.size() - offset, static_cast<size_t>(g_test_rand_int_range(1, 300'000)));
        Bytes got = image.read(static_cast<int64_t>(offset), bytes);
        g_assert_true(std::equal(got.begin(), got.end(), contents.begin() + static_cast<ptrdiff_t>(offset)));
    }
}

struct Made {
    const char* name;
    bool compressed;
    const char* options;
};

void images_made_by_qemu_img_are_read(gconstpointer data) {
    if (skip_without_qemu())
        return;
    const Made& made = *static_cast<const Made*>(data);
    TempDir dir;
    BlockFixture fixture;
    Bytes contents = mixed_contents();
    std::string raw = dir.file("raw"), file = dir.file("image.qcow2");
    write_file(raw, contents);
    std::vector<std::string> words{"qemu-img", "convert", "-f", "raw", "-O", "qcow2"};
    if (made.compressed)
        words.emplace_back("-c");
    words.insert(words.end(), {"-o", made.options, raw, file});
    qemu(words);
    OpenImage image(fixture, file, false);
    check_reads(image, contents);
}

const Made kMade[] = {
    {"v2", false, "compat=0.10"},
    {"v3", false, "compat=1.1"},
    {"cluster-512", false, "cluster_size=512"},
    {"cluster-2m", false, "cluster_size=2M"},
    {"subclusters", false, "extended_l2=on"},
    {"zlib", true, "compat=1.1"},
    {"zlib-v2-cluster-4k", true, "compat=0.10,cluster_size=4k"},
    {"zlib-cluster-2m", true, "cluster_size=2M"},
    {"zlib-subclusters", true, "extended_l2=on"},
    {"zstd", true, "compression_type=zstd"},
    {"zstd-cluster-4k", true, "compression_type=zstd,cluster_size=4k"},
};

void compressed_clusters_are_written_over() {
    if (skip_without_qemu())
        return;
    TempDir dir;
    BlockFixture fixture;
    Bytes contents = mixed_contents();
    std::string raw = dir.file("raw"), file = dir.file("image.qcow2");
    write_file(raw, contents);
    qemu({"qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", raw, file});
    {
        OpenImage image(fixture, file, true);
        write_anywhere(image, contents, 100'000);
        check_reads(image, contents);
    }
    write_file(raw, contents);
    qemu({"qemu-img", "check", "-q", file});
    qemu({"qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", file, raw});
}

void snapshots_keep_what_they_hold() {
    if (skip_without_qemu())
        return;
    TempDir dir;
    BlockFixture fixture;
    Bytes before = mixed_contents(), after = before;
    std::string raw = dir.file("raw"), file = dir.file("image.qcow2");
    write_file(raw, before);
    qemu({"qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", raw, file});
    qemu({"qemu-img", "snapshot", "-c", "first", file});
    {
        OpenImage image(fixture, file, true);
        write_anywhere(image, after, 30'000);
        check_reads(image, after);
    }
    qemu({"qemu-img", "check", "-q", file});
    write_file(raw, before);
    qemu({"qemu-img", "snapshot", "-a", "first", file});
    qemu({"qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", file, raw});
}

void chains_are_found_beside_the_image() {
    if (skip_without_qemu())
        return;
    TempDir dir;
    BlockFixture fixture;
    Bytes contents = mixed_contents();
    std::filesystem::create_directory(dir.file("base"));
    std::string raw = dir.file("base/raw"), base = dir.file("base/base.qcow2"), mid = dir.file("mid.qcow2"),
                top = dir.file("top.qcow2");
    write_file(raw, contents);
    qemu({"qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, base});
    qemu({"qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base/base.qcow2", mid});
    qemu({"qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b",
          "json:{\"driver\": \"qcow2\", \"file.filename\": \"" + mid + "\"}", top});
    qemu({"qemu-io", "-c", "write -P 7 100000 200000", mid});
    qemu({"qemu-io", "-c", "write -P 9 250000 1000000", "-c", "write -z 2000000 65536", top});
    std::fill_n(contents.begin() + 100'000, 200'000, std::byte{7});
    std::fill_n(contents.begin() + 250'000, 1'000'000, std::byte{9});
    std::fill_n(contents.begin() + 2'000'000, 65'536, std::byte{0});
    OpenImage image(fixture, top, false);
    check_reads(image, contents);
    BlockStatus status = fixture.run(image.backend->co_block_status_above(150'000, 1000));
    g_assert_cmpint(status.ret, ==, 0);
    g_assert_cmpuint(status.depth, ==, 2);
}

void a_chain_that_leads_back_to_itself_is_refused() {
    if (skip_without_qemu())
        return;
    TempDir dir;
    BlockFixture fixture;
    std::string file = dir.file("loop.qcow2");
    qemu({"qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "loop.qcow2", file, "1M"});
    std::string error = fixture.add_error(fmt::format(
        "{{'driver': 'qcow2', 'node-name': 'q', 'read-only': true, 'file': {{'driver': 'file', 'filename': '{}'}}}}",
        file));
    g_assert_nonnull(strstr(error.c_str(), "does it lead back to itself?"));
}

// --- images that nobody should have made ---

std::string make_small(const TempDir& dir) {
    CreateOptions options;
    options.size.bytes = 1 << 20;
    std::string file = dir.file("image.qcow2");
    make_image(options, file);
    return file;
}

void patch(const std::string& file, uint64_t offset, uint64_t value) {
    std::byte bytes[8];
    store_be<uint64_t>(bytes, value);
    std::fstream out(file, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(static_cast<std::streamoff>(offset));
    out.write(reinterpret_cast<const char*>(bytes), sizeof bytes);
}

uint64_t peek(const std::string& file, uint64_t offset) {
    std::byte bytes[8];
    std::ifstream in(file, std::ios::binary);
    in.seekg(static_cast<std::streamoff>(offset));
    in.read(reinterpret_cast<char*>(bytes), sizeof bytes);
    return load_be<uint64_t>(bytes);
}

constexpr uint64_t kL1At = 0x30000;  // in such an image; one refcount block is at 0x20000

std::string open_error(BlockFixture& fixture, const std::string& file, const char* more = "") {
    std::string error = fixture.add_error(fmt::format(
        "{{'driver': 'qcow2', 'node-name': 'q', 'file': {{'driver': 'file', 'filename': '{}'}}{}}}", file, more));
    size_t at = error.find(file);
    if (at != std::string::npos)
        error.replace(at, file.size(), "FILE");
    return error;
}

void tables_in_the_same_place_are_not_written_to() {
    TempDir dir;
    BlockFixture fixture;
    std::string file = make_small(dir);
    patch(file, kL1At, kCopied | 0x20000);
    assert_text(open_error(fixture, file), "FILE: L1 table entry 0: the L2 table at 0x20000 overlaps other metadata");
    patch(file, kL1At, 0);
    patch(file, 0x10000, 0x30000);
    assert_text(open_error(fixture, file),
                "FILE: refcount table entry 0: the refcount block at 0x30000 overlaps other metadata");
    patch(file, 0x10000, 0x20200);
    assert_text(open_error(fixture, file), "FILE: refcount table entry 0: 0x20200 is not the offset of a cluster");
}

// Metadata where data should be: the write is refused, and the image says from then on that it is corrupt.
void data_are_not_written_over_metadata() {
    TempDir dir;
    BlockFixture fixture;
    std::string file = make_small(dir);
    Bytes data(4096, std::byte{1});
    {
        OpenImage image(fixture, file, true);
        g_assert_cmpint(image.backend->pwrite(0, 4096, data.data()), ==, 0);
    }
    uint64_t l2 = peek(file, kL1At) & kOffsetMask;
    g_assert_cmpuint(l2, !=, 0);
    patch(file, l2, kCopied | kL1At);
    {
        OpenImage image(fixture, file, true);
        image.may_fail = true;
        g_assert_cmpint(image.backend->pwrite(0, 4096, data.data()), ==, -EIO);
        g_assert_cmpint(image.backend->pwrite(512 << 10, 4096, data.data()), ==, -EIO);
    }
    g_assert_cmpuint(peek(file, kL1At) & kOffsetMask, ==, l2);
    g_assert_cmpuint(peek(file, 72) & kCorrupt, ==, kCorrupt);
    assert_text(open_error(fixture, file), "FILE: qcow2: Image is corrupt; cannot be opened read/write");
}

void clusters_in_use_without_a_refcount_are_not_taken() {
    TempDir dir;
    BlockFixture fixture;
    std::string file = make_small(dir);
    Bytes data(4096, std::byte{1});
    for (uint64_t at : {0x20000, 0x10000}) {  // the counts of the header and of the tables; then their block itself
        patch(file, at, 0);
        uint64_t start = peek(file, 0), l1 = peek(file, kL1At);
        OpenImage image(fixture, file, true);
        image.may_fail = true;
        g_assert_cmpint(image.backend->pwrite(0, 4096, data.data()), ==, -EIO);
        g_assert_cmpint(image.backend->pwrite(8192, 4096, data.data()), ==, -EIO);
        g_assert_cmpuint(peek(file, 0), ==, start);
        g_assert_cmpuint(peek(file, kL1At), ==, l1);
        patch(file, 72, 0);  // not corrupt
    }
}

void what_cannot_be_written_is_refused_by_name() {
    if (skip_without_qemu())
        return;
    TempDir dir;
    BlockFixture fixture;
    std::string file = make_small(dir);
    patch(file, 72, 1 << 5);
    assert_text(open_error(fixture, file), "FILE: Unsupported qcow2 feature(s): Unknown incompatible feature: 20");
}

// A crash with lazy refcounts: what was flushed is there, and the counts are made anew when the image is opened.
void an_image_that_was_not_closed_is_repaired_on_opening() {
    if (skip_without_qemu())
        return;
    TempDir dir;
    std::string file = dir.file("image.qcow2"), crashed = dir.file("crashed.qcow2");
    CreateOptions options;
    options.size.bytes = 4 << 20;
    options.lazy_refcounts = true;
    make_image(options, file);
    Bytes data(300'000, std::byte{1});
    {
        BlockFixture fixture;
        OpenImage image(fixture, file, true);
        g_assert_cmpuint(peek(file, 72) & kDirty, ==, 0);
        g_assert_cmpint(image.backend->pwrite(100'000, 300'000, data.data()), ==, 0);
        g_assert_cmpint(image.backend->flush(), ==, 0);
        g_assert_cmpuint(peek(file, 72) & kDirty, ==, kDirty);
        std::filesystem::copy_file(file, crashed);
    }
    g_assert_cmpuint(peek(file, 72) & kDirty, ==, 0);
    qemu({"qemu-img", "check", "-q", file});
    g_assert_cmpint(run_program({"qemu-img", "check", "-q", crashed}), !=, 0);
    {
        BlockFixture fixture;
        OpenImage image(fixture, crashed, true);
        g_assert_cmpuint(peek(crashed, 72) & kDirty, ==, 0);
        assert_same(image.read(100'000, 300'000), data);
    }
    qemu({"qemu-img", "check", "-q", crashed});
    qemu({"qemu-img", "compare", "-q", file, crashed});
}

void what_an_image_says_of_itself_is_what_qemu_img_says(gconstpointer data) {
    if (skip_without_qemu())
        return;
    TempDir dir;
    std::string file = dir.file("image.qcow2"), options = static_cast<const char*>(data);
    if (size_t at = options.find("DATA"); at != std::string::npos)
        options.replace(at, 4, dir.file("data.raw"));
    qemu({"qemu-img", "create", "-q", "-f", "qcow2", "-o", options, file, "10M"});
    if (!options.starts_with("compat=0.10")) {
        qemu({"qemu-img", "bitmap", "--add", file, "b0"});
        qemu({"qemu-img", "bitmap", "--add", "-g", "128k", "--disable", file, "b1"});
    }
    Output output = run_program_output({"qemu-img", "info", "--output=json", file});
    Json expected = BlockFixture::check(parse_json_object(output.out))["format-specific"];
    BlockFixture fixture;
    OpenImage image(fixture, file, false);
    Json got = *image.backend->root()->driver().specific_info();
    assert_text(canonical(got), canonical(expected));
}

// A cluster that is discarded keeps its place, which becomes a hole in the file.
void discarded_clusters_keep_their_place() {
    TempDir dir;
    BlockFixture fixture;
    std::string file = make_small(dir);
    Bytes data(256 << 10, std::byte{1});
    OpenImage image(fixture, file, true, ", 'discard-no-unref': true");
    auto place = [&] {
        auto& driver = image.backend->root()->driver();
        return fixture.run(driver.co_block_status(false, 64 << 10, 64 << 10));
    };
    g_assert_cmpint(image.backend->pwrite(0, 256 << 10, data.data()), ==, 0);
    BlockStatus before = place();
    g_assert_cmpint(image.backend->pdiscard(64 << 10, 64 << 10), ==, 0);
    BlockStatus after = place();
    g_assert_true(before.has(BlockStatus::Data) && after.has(BlockStatus::Zero));
    g_assert_true(after.has(BlockStatus::OffsetValid));
    g_assert_cmpint(after.offset, ==, before.offset);
    assert_same(image.read(64 << 10, 64 << 10), Bytes(64 << 10));
    g_assert_cmpint(image.backend->pwrite(64 << 10, 64 << 10, data.data()), ==, 0);
    g_assert_cmpint(place().offset, ==, before.offset);
    assert_same(image.read(0, 256 << 10), data);
}

// However little of it the disk has.
void last_cluster_can_be_discarded() {
    TempDir dir;
    BlockFixture fixture;
    std::string file = dir.file("short.qcow2");
    make_image({.size = {100 << 10}}, file);
    Bytes data(100 << 10, std::byte{1});
    OpenImage image(fixture, file, true);
    auto status = [&](int64_t offset) {
        return fixture.run(image.backend->root()->driver().co_block_status(false, offset, 512));
    };
    g_assert_cmpint(image.backend->pwrite(0, 100 << 10, data.data()), ==, 0);
    g_assert_cmpint(image.backend->pdiscard(64 << 10, 35 << 10), ==, 0);
    g_assert_true(status(64 << 10).has(BlockStatus::Data));
    g_assert_cmpint(image.backend->pdiscard(60 << 10, 40 << 10), ==, 0);
    g_assert_true(status(0).has(BlockStatus::Data) && !status(64 << 10).has(BlockStatus::Data));
    assert_same(image.read(64 << 10, 36 << 10), Bytes(36 << 10));
}

void cache_options_are_checked() {
    TempDir dir;
    BlockFixture fixture;
    std::string file = make_small(dir);
    assert_text(open_error(fixture, file, ", 'cache-size': 65536, 'l2-cache-size': 1048576"),
                "FILE: l2-cache-size may not exceed cache-size");
    assert_text(open_error(fixture, file, ", 'cache-size': 1, 'l2-cache-size': 1, 'refcount-cache-size': 1"),
                "FILE: cache-size, l2-cache-size and refcount-cache-size may not be set at the same time");
    assert_text(open_error(fixture, file, ", 'overlap-check': 'most'"),
                "FILE: overlap-check: Parameter 'template' does not accept value 'most'");
    assert_text(open_error(fixture, file, ", 'l2-cache-entry-size': 131072"),
                "FILE: L2 cache entry size must be a power of two between 512 and the cluster size (65536)");
}

// --- several loops at once ---

struct Hammer {
    BlockBackend& disk;
    std::atomic<int> failures{0};
};

Task<void> co_hammer(Hammer& hammer, unsigned who) {
    for (unsigned i = 0; i < 150; i++) {
        Bytes data(3000, static_cast<std::byte>(who + 1));
        iovec element{data.data(), data.size()};
        int64_t offset = int64_t{i} * 4 * 3000 + int64_t{who} * 3000;
        if (co_await hammer.disk.co_pwritev(offset, 3000, IoVector(element)) < 0)
            hammer.failures++;
        if (co_await hammer.disk.co_preadv(offset, 3000, IoVector(element)) < 0)
            hammer.failures++;
        if (std::ranges::any_of(data, [&](std::byte b) { return b != static_cast<std::byte>(who + 1); }))
            hammer.failures++;
        if (i % 40 == 39 && co_await hammer.disk.co_flush() < 0)
            hammer.failures++;
    }
}

Task<void> co_hammer_from(Hammer& hammer, AioContext& a, AioContext& b) {
    TaskScope scope;
    for (unsigned who = 0; who < 4; who++)
        scope.spawn_on(who % 2 ? a : b, co_hammer(hammer, who));
    co_await scope.join();
}

void several_loops_write_at_once() {
    TempDir dir;
    BlockFixture fixture;
    std::string file = dir.file("image.qcow2");
    CreateOptions options;
    options.size.bytes = 4 << 20;
    options.cluster_size.bytes = 4096;
    make_image(options, file);
    auto a = BlockFixture::check(IOThread::create("a")), b = BlockFixture::check(IOThread::create("b"));
    {
        OpenImage image(fixture, file, true, ", 'l2-cache-size': 2048, 'l2-cache-entry-size': 512");
        Hammer hammer{*image.backend};
        sync_wait(*fixture.context, co_hammer_from(hammer, a->context(), b->context()));
        g_assert_cmpint(hammer.failures, ==, 0);
        for (unsigned i = 0; i < 600; i++)
            g_assert_true(image.read(int64_t{i} * 3000, 3000) == Bytes(3000, static_cast<std::byte>(i % 4 + 1)));
    }
    if (have_qemu_img())
        qemu({"qemu-img", "check", "-q", file});
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    for (const Made& made : kMade)
        g_test_add_data_func(fmt::format("/qcow2/images-made-by-qemu-img-are-read/{}", made.name).c_str(), &made,
                             images_made_by_qemu_img_are_read);
    g_test_add_func("/qcow2/compressed-clusters-are-written-over", compressed_clusters_are_written_over);
    g_test_add_func("/qcow2/snapshots-keep-what-they-hold", snapshots_keep_what_they_hold);
    g_test_add_func("/qcow2/chains-are-found-beside-the-image", chains_are_found_beside_the_image);
    g_test_add_func("/qcow2/a-chain-that-leads-back-to-itself-is-refused",
                    a_chain_that_leads_back_to_itself_is_refused);
    g_test_add_func("/qcow2/tables-in-the-same-place-are-not-written-to", tables_in_the_same_place_are_not_written_to);
    g_test_add_func("/qcow2/data-are-not-written-over-metadata", data_are_not_written_over_metadata);
    g_test_add_func("/qcow2/clusters-in-use-without-a-refcount-are-not-taken",
                    clusters_in_use_without_a_refcount_are_not_taken);
    g_test_add_func("/qcow2/what-cannot-be-written-is-refused-by-name", what_cannot_be_written_is_refused_by_name);
    g_test_add_func("/qcow2/an-image-that-was-not-closed-is-repaired-on-opening",
                    an_image_that_was_not_closed_is_repaired_on_opening);
    for (const char* options :
         {"compat=0.10", "compat=1.1", "lazy_refcounts=on", "refcount_bits=1", "extended_l2=on,cluster_size=16k",
          "compression_type=zstd", "data_file=DATA", "data_file=DATA,data_file_raw=on"})
        g_test_add_data_func(fmt::format("/qcow2/says-of-itself-what-qemu-img-says/{}", options).c_str(), options,
                             what_an_image_says_of_itself_is_what_qemu_img_says);
    g_test_add_func("/qcow2/discarded-clusters-keep-their-place", discarded_clusters_keep_their_place);
    g_test_add_func("/qcow2/last-cluster-can-be-discarded", last_cluster_can_be_discarded);
    g_test_add_func("/qcow2/cache-options-are-checked", cache_options_are_checked);
    g_test_add_func("/qcow2/several-loops-write-at-once", several_loops_write_at_once);
    return g_test_run();
}
