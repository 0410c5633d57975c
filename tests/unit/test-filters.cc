// The filters: what they do to requests, and what they leave behind.
#include "block/block_backend.h"
#include "tests/unit/block_fixture.h"
#include "tests/unit/qcow2_fixture.h"
#include "util/byte_order.h"
#include "util/io_thread.h"
#include "util/task_scope.h"

#include <sys/stat.h>

#include <fstream>

using namespace ashlar;

namespace {

using Bytes = std::vector<std::byte>;

constexpr int64_t kCluster = 65536;

Bytes filled(size_t size, uint8_t value) {
    return Bytes(size, std::byte{value});
}

Bytes operator+(Bytes a, const Bytes& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

struct Fixture : BlockFixture {
    TempDir dir = TempDir::on_disk();

    void write_file(const char* name, const Bytes& content) { test::write_file(dir.file(name), content); }
    Bytes read_file(const char* name) const {
        std::ifstream file(dir.file(name), std::ios::binary);
        std::string text{std::istreambuf_iterator<char>(file), {}};
        auto bytes = std::as_bytes(std::span(text));
        return {bytes.begin(), bytes.end()};
    }
    int64_t file_size(const char* name) const {
        struct stat st;
        g_assert_cmpint(stat(dir.file(name).c_str(), &st), ==, 0);
        return st.st_size;
    }
    // The options of a node over a file of the folder.
    std::string node(std::string_view driver, const char* name, std::string_view more = "") const {
        return fmt::format("{{'driver': '{}', 'file': {{'driver': 'file', 'filename': '{}'}}{}}}", driver,
                           dir.file(name), more);
    }
    std::string file(const char* name) const {
        return fmt::format("{{'driver': 'file', 'filename': '{}'}}", dir.file(name));
    }
};

int write(BlockBackend& backend, int64_t offset, const Bytes& data, RequestFlags flags = {}) {
    return backend.pwrite(offset, static_cast<int64_t>(data.size()), data.data(), flags);
}

Bytes read(BlockBackend& backend, int64_t offset, size_t size) {
    Bytes data(size);
    g_assert_cmpint(backend.pread(offset, static_cast<int64_t>(size), data.data()), ==, 0);
    return data;
}

// --- copy-on-read ---

// base.raw: 16 clusters whose bytes are their numbers plus one; mid.qcow2 over it; top.qcow2 over that.
struct ChainFixture : Fixture {
    static constexpr int kClusters = 16;

    ChainFixture() {
        Bytes content;
        for (int i = 0; i < kClusters; i++)
            content = content + filled(kCluster, static_cast<uint8_t>(i + 1));
        write_file("base.raw", content);
        test::make_image({.size = {1 << 20}}, dir.file("mid.qcow2"));
        test::make_image({.size = {1 << 20}}, dir.file("top.qcow2"));
    }
    std::string chain() const {
        std::string base = node("raw", "base.raw", ", 'node-name': 'base'");
        std::string mid = node("qcow2", "mid.qcow2", fmt::format(", 'node-name': 'mid', 'backing': {}", base));
        return node("qcow2", "top.qcow2", fmt::format(", 'node-name': 'top', 'backing': {}", mid));
    }
    // Of the clusters of the top layer, an 'x' for each that has data of its own, '.' for the others.
    std::string map() {
        std::string text;
        for (int i = 0; i < kClusters; i++) {
            auto status = run(graph->find_node("top")->co_block_status(false, i * kCluster, kCluster));
            text += status.has(BlockStatus::Allocated) ? 'x' : '.';
        }
        return text;
    }
    std::string filter(std::string_view more = "") const {
        return fmt::format("{{'driver': 'copy-on-read', 'node-name': 'cor', 'file': {}{}}}", chain(), more);
    }
};

void test_copies() {
    ChainFixture f;
    auto backend = f.attach(f.add(f.filter()));
    assert_text(f.map(), "................");
    g_assert_true(read(*backend, 3 * kCluster + 100, 10) == filled(10, 4));
    assert_text(f.map().substr(0, 5), "...x.");
    g_assert_true(read(*backend, 5 * kCluster - 5, 10) == filled(5, 5) + filled(5, 6));
    assert_text(f.map(), "...xxx..........");
    // What has been copied is what was there, around what was read too.
    g_assert_true(read(*backend, 3 * kCluster, kCluster) == filled(kCluster, 4));
    // Prefetching copies and brings nothing.
    g_assert_cmpint(f.run(backend->co_preadv(8 * kCluster, 2 * kCluster, {}, RequestFlags::Prefetch)), ==, 0);
    assert_text(f.map(), "...xxx..xx......");
    // Writes go through.
    g_assert_cmpint(write(*backend, 10 * kCluster, filled(kCluster, 99)), ==, 0);
    g_assert_true(read(*backend, 10 * kCluster, kCluster) == filled(kCluster, 99));
    f.detach(backend);
}

void test_bottom() {
    ChainFixture f;
    {
        auto backend = f.attach(f.add(f.node("qcow2", "mid.qcow2", ", 'node-name': 'm'")));
        g_assert_cmpint(write(*backend, 2 * kCluster, filled(kCluster, 77)), ==, 0);
        f.detach(backend);
        f.del("m");
    }
    auto backend = f.attach(f.add(f.filter(", 'bottom': 'mid'")));
    g_assert_true(read(*backend, 0, 3 * kCluster) == filled(kCluster, 1) + filled(kCluster, 2) + filled(kCluster, 77));
    assert_text(f.map(), "..x.............");  // what is in `base` stays there
    f.detach(backend);
}

void test_bottom_errors() {
    ChainFixture f;
    assert_text(f.add_error(f.filter(", 'bottom': 'nowhere'")), "Bottom node 'nowhere' not found");
    f.add("{'driver': 'null-co', 'node-name': 'other'}");
    assert_text(f.add_error(f.filter(", 'bottom': 'other'")),
                "Bottom node 'other' is not in the backing chain of 'top'");
    assert_text(f.add_error(f.filter(", 'read-only': true")), "Block node is read-only");
}

// A writer and a reader in each part of every cluster, from several threads: a copy never undoes a write.
struct Part {
    BlockBackend& backend;
    int64_t offset;
    std::mt19937 random;
    std::atomic<unsigned>& wrong;

    static Task<void> co_run(Part part, uint8_t before) {
        constexpr size_t kSize = 4096;
        uint8_t value = before;
        for (int i = 0; i < 20; i++) {
            Bytes data = filled(kSize, value);
            iovec element{data.data(), data.size()};
            if (part.random() % 3 == 0) {
                value = static_cast<uint8_t>(part.random());
                data = filled(kSize, value);
                element.iov_base = data.data();
                part.wrong += co_await part.backend.co_pwritev(part.offset, kSize, IoVector(element)) != 0;
            } else {
                part.wrong += co_await part.backend.co_preadv(part.offset, kSize, IoVector(element)) != 0;
                part.wrong += data != filled(kSize, value);
            }
        }
    }
};

void test_concurrent_writes() {
    ChainFixture f;
    auto backend = f.attach(f.add(f.filter()));
    std::vector<std::unique_ptr<IOThread>> threads;
    for (int i = 0; i < 2; i++)
        threads.push_back(*IOThread::create("t" + std::to_string(i)));
    std::atomic<unsigned> wrong = 0;
    TaskScope scope;
    const auto seed = static_cast<uint32_t>(g_test_rand_int());
    for (int64_t at = 0; at < f.kClusters * kCluster; at += 8192)
        scope.spawn_on(threads[static_cast<size_t>(at / 8192 % 2)]->context(),
                       Part::co_run({*backend, at, std::mt19937(seed + static_cast<uint32_t>(at)), wrong},
                                    static_cast<uint8_t>(at / kCluster + 1)));
    sync_wait(*f.context, scope.join());
    g_assert_cmpuint(wrong, ==, 0);
    f.detach(backend);
}

// --- compress ---

// A format that stores clusters compressed, and nothing else that is written.
class SquashDriver final : public BlockDriver {
public:
    using BlockDriver::BlockDriver;
    static constexpr int64_t kLength = 10 * 4096 + 1000;
    static inline std::vector<std::pair<int64_t, int64_t>> writes;

    Task<int> co_preadv(int64_t, int64_t bytes, IoVector iov, RequestFlags) override {
        iov_fill_zero(iov, 0, bytes);
        co_return 0;
    }
    Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override {
        g_assert_true(flags == RequestFlags::Compressed);
        g_assert_cmpint(iov_length(iov), ==, bytes);
        writes.emplace_back(offset, bytes);
        co_return 0;
    }
    int64_t length() const override { return kLength; }
    int64_t cluster_size() const override { return 4096; }
    SupportedFlags supported_flags() const override { return {.write = RequestFlags::Compressed}; }
};

const DriverType kSquash{
    .name = "squash",
    .options = kMockDriver.options,
    .co_open = [](OpenContext& context) -> Task<Result<std::unique_ptr<BlockDriver>>> {
        co_return std::make_unique<SquashDriver>(context);
    },
    .is_protocol = true,
};

void test_compress() {
    Fixture f;
    f.registry.add(kSquash);
    // (The last cluster is not whole, which for writing takes the permission to resize.)
    auto backend = f.attach(f.add("{'driver': 'compress', 'node-name': 'c', 'file': {'driver': 'squash'}}"),
                            {BlockPerm::ConsistentRead | BlockPerm::Write | BlockPerm::Resize, BlockPerm::All});
    SquashDriver::writes.clear();
    using Writes = std::vector<std::pair<int64_t, int64_t>>;
    g_assert_cmpint(write(*backend, 4096, filled(8192, 1)), ==, 0);
    g_assert_true(SquashDriver::writes == Writes({{4096, 8192}}));
    SquashDriver::writes.clear();
    g_assert_cmpint(write(*backend, 100, filled(1, 1)), ==, 0);  // whole clusters
    g_assert_true(SquashDriver::writes == Writes({{0, 4096}}));
    SquashDriver::writes.clear();
    g_assert_cmpint(write(*backend, 40960, filled(1000, 1)), ==, 0);  // or up to the end
    g_assert_true(SquashDriver::writes == Writes({{40960, 1000}}));
    f.detach(backend);
    assert_text(f.add_error("{'driver': 'compress', 'node-name': 'd', 'file': {'driver': 'null-co'}}"),
                "Compression is not supported for underlying format: null-co");
}

// --- preallocate ---

void test_preallocate() {
    Fixture f;
    f.write_file("f", filled(1000, 1));
    const ChildPerm perms{BlockPerm::ConsistentRead | BlockPerm::Write | BlockPerm::Resize, BlockPerm::All};
    auto options = [&](std::string_view more = "") {
        return f.node("preallocate", "f",
                      fmt::format(", 'node-name': 'p', 'prealloc-size': 1048576, 'prealloc-align': 65536{}", more));
    };
    auto backend = f.attach(f.add(options()), perms);
    backend->set_allow_write_beyond_end(true);
    g_assert_cmpint(backend->length(), ==, 1000);
    g_assert_cmpint(write(*backend, 500, filled(100, 2)), ==, 0);
    g_assert_cmpint(f.file_size("f"), ==, 1000);
    g_assert_cmpint(write(*backend, 1000, filled(100, 2)), ==, 0);
    g_assert_cmpint(f.file_size("f"), ==, 1048576 + 65536);
    g_assert_cmpint(f.graph->find_node("p")->length(), ==, 1100);
    // The next ones find room, and what is between them is zero.
    g_assert_cmpint(write(*backend, 5000, filled(100, 3)), ==, 0);
    g_assert_cmpint(backend->pwrite_zeroes(6000, 1000), ==, 0);
    g_assert_cmpint(f.file_size("f"), ==, 1048576 + 65536);
    g_assert_cmpint(f.graph->find_node("p")->length(), ==, 7000);
    g_assert_true(read(*backend, 1100, 3900) == filled(3900, 0));
    // Resizing is as without it.
    g_assert_true(backend->truncate(8000, true, PreallocMode::Off).has_value());
    g_assert_cmpint(backend->length(), ==, 8000);
    g_assert_true(backend->truncate(5050, true, PreallocMode::Off).has_value());
    g_assert_cmpint(backend->length(), ==, 5050);
    g_assert_cmpint(f.file_size("f"), ==, 5050);
    g_assert_cmpint(write(*backend, 5060, filled(10, 4)), ==, 0);
    g_assert_cmpint(f.file_size("f"), >, 1048576);
    f.detach(backend);
    f.del("p");
    g_assert_cmpint(f.file_size("f"), ==, 5070);
    Bytes content = f.read_file("f");
    g_assert_true(Bytes(content.begin() + 5000, content.begin() + 5050) == filled(50, 3));
    g_assert_true(Bytes(content.begin() + 5050, content.begin() + 5060) == filled(10, 0));

    assert_text(f.add_error(f.node("preallocate", "f", ", 'node-name': 'q', 'prealloc-align': 1000")),
                "prealloc-align parameter of preallocate filter is not aligned to 512");
}

void test_preallocate_read_only() {
    Fixture f;
    f.write_file("f", filled(1000, 1));
    const ChildPerm perms{BlockPerm::ConsistentRead | BlockPerm::Write | BlockPerm::Resize, BlockPerm::All};
    auto backend = f.attach(f.add(f.node("preallocate", "f", ", 'node-name': 'p'")), perms);
    backend->set_allow_write_beyond_end(true);
    g_assert_cmpint(write(*backend, 1000, filled(24, 2)), ==, 0);
    f.detach(backend);
    auto reopen = [&](const char* read_only) {
        std::vector<Json> options{*parse_json_object(
            fmt::format("{{'driver': 'preallocate', 'node-name': 'p', 'read-only': {}}}", read_only))};
        f.check(f.run(f.graph->co_blockdev_reopen(std::move(options), Typing::Strict)));
    };
    g_assert_cmpint(f.file_size("f"), >, 1024);
    reopen("true");
    g_assert_cmpint(f.file_size("f"), ==, 1024);
    reopen("false");
    backend = f.attach(*f.graph->find_node("p"), perms);
    backend->set_allow_write_beyond_end(true);
    g_assert_cmpint(write(*backend, 1024, filled(1, 3)), ==, 0);
    g_assert_cmpint(f.graph->find_node("p")->length(), ==, 1025);
    f.detach(backend);
}

// --- blkverify ---

std::string verifier(const Fixture& f) {
    return fmt::format("{{'driver': 'blkverify', 'node-name': 'v', 'raw': {}, 'test': {}}}", f.file("raw"),
                       f.node("raw", "test"));
}

void test_blkverify() {
    Fixture f;
    f.write_file("raw", filled(10000, 1));
    f.write_file("test", filled(10000, 1));
    BlockDriverState& node = f.add(verifier(f));
    assert_text(node.filename(), fmt::format("blkverify:{}:{}", f.dir.file("raw"), f.dir.file("test")));
    auto backend = f.attach(node);
    g_assert_true(read(*backend, 0, 10000) == filled(10000, 1));
    g_assert_cmpint(write(*backend, 100, filled(5000, 2)), ==, 0);
    g_assert_cmpint(backend->pwrite_zeroes(6000, 1000), ==, 0);
    g_assert_true(read(*backend, 100, 5000) == filled(5000, 2));
    g_assert_cmpint(backend->flush(), ==, 0);
    f.detach(backend);
    f.del("v");
    g_assert_true(f.read_file("raw") == f.read_file("test"));
}

void test_blkverify_mismatch() {
    // In a process of its own, which ends on the spot: the files are this one's.
    constexpr const char* kDir = "ASHLAR_TEST_BLKVERIFY_DIR";
    if (!g_test_subprocess()) {
        TempDir dir = TempDir::on_disk();
        Bytes other = filled(10000, 1);
        other[7000] = std::byte{2};
        test::write_file(dir.file("raw"), filled(10000, 1));
        test::write_file(dir.file("test"), other);
        g_setenv(kDir, dir.file("").c_str(), true);
        g_test_trap_subprocess(nullptr, 0, G_TEST_SUBPROCESS_DEFAULT);
        g_test_trap_assert_failed();
        g_test_trap_assert_stderr("*blkverify: read offset=0 bytes=10000 contents mismatch at offset 7000*");
        return;
    }
    BlockFixture f;
    const std::string dir = g_getenv(kDir);
    auto backend =
        f.attach(f.add(fmt::format("{{'driver': 'blkverify', 'node-name': 'v', "
                                   "'raw': {{'driver': 'file', 'filename': '{0}raw'}}, "
                                   "'test': {{'driver': 'file', 'filename': '{0}test'}}}}",
                                   dir)));
    read(*backend, 0, 10000);
}

// --- blklogwrites ---

struct LogEntry {
    uint64_t sector, sectors, flags;
    bool operator==(const LogEntry&) const = default;
};

// Reads the log as the kernel's documentation describes it; what it says is done to `disk`.
std::vector<LogEntry> replay(const Bytes& log, Bytes* disk = nullptr) {
    g_assert_cmpuint(load_le<uint64_t>(log.data()), ==, 0x6a736677736872);
    g_assert_cmpuint(load_le<uint64_t>(log.data() + 8), ==, 1);
    const auto count = load_le<uint64_t>(log.data() + 16);
    const auto unit = load_le<uint32_t>(log.data() + 24);
    std::vector<LogEntry> entries;
    size_t at = unit;
    for (uint64_t i = 0; i < count; i++) {
        LogEntry entry{load_le<uint64_t>(log.data() + at), load_le<uint64_t>(log.data() + at + 8),
                       load_le<uint64_t>(log.data() + at + 16)};
        at += unit;
        if (entry.sectors > 0 && !(entry.flags & 4)) {
            if (disk)
                std::copy_n(log.begin() + static_cast<ptrdiff_t>(at), entry.sectors * unit,
                            disk->begin() + static_cast<ptrdiff_t>(entry.sector * unit));
            at += entry.sectors * unit;
        }
        entries.push_back(entry);
    }
    g_assert_cmpuint(at, ==, log.size());
    return entries;
}

std::string logger(const Fixture& f, std::string_view more = "") {
    return fmt::format("{{'driver': 'blklogwrites', 'node-name': 'l', 'discard': 'unmap', 'file': {}, 'log': {}{}}}",
                       f.file("disk"), f.file("log"), more);
}

void test_log() {
    Fixture f;
    f.write_file("disk", filled(1 << 20, 0));
    f.write_file("log", filled(100, 0xee));  // an older one
    auto backend = f.attach(f.add(logger(f)));
    g_assert_cmpint(write(*backend, 0, filled(4096, 1)), ==, 0);
    g_assert_cmpint(write(*backend, 8192, filled(512, 2), RequestFlags::Fua), ==, 0);
    g_assert_cmpint(backend->flush(), ==, 0);
    g_assert_cmpint(backend->pwrite_zeroes(65536, 4096, RequestFlags::MayUnmap), ==, 0);
    g_assert_cmpint(backend->pdiscard(131072, 8192), ==, 0);
    g_assert_cmpint(write(*backend, 1000, filled(100, 3)), ==, 0);  // in a sector's middle
    f.detach(backend);
    f.del("l");
    Bytes disk = filled(1 << 20, 0);
    auto entries = replay(f.read_file("log"), &disk);
    entries.resize(6);  // then come the flushes of closing it
    g_assert_true(entries ==
                  std::vector<LogEntry>({{0, 8, 0}, {16, 1, 2}, {0, 0, 1}, {128, 8, 0}, {256, 16, 4}, {1, 2, 0}}));
    g_assert_true(disk == f.read_file("disk"));
}

void test_log_append() {
    Fixture f;
    f.write_file("disk", filled(1 << 20, 0));
    f.write_file("log", {});
    auto backend = f.attach(f.add(logger(f, ", 'log-sector-size': 4096")));
    g_assert_cmpint(write(*backend, 0, filled(8192, 1)), ==, 0);
    f.detach(backend);
    f.del("l");
    const size_t before = replay(f.read_file("log")).size();
    backend = f.attach(f.add(logger(f, ", 'log-append': true")));
    g_assert_cmpint(write(*backend, 4096, filled(4096, 2)), ==, 0);
    f.detach(backend);
    f.del("l");
    Bytes disk = filled(1 << 20, 0);
    auto entries = replay(f.read_file("log"), &disk);
    g_assert_true(entries.at(before) == LogEntry(1, 1, 0));  // in the sectors that the log has
    g_assert_true(disk == f.read_file("disk"));
}

void test_log_errors() {
    Fixture f;
    f.write_file("disk", filled(1 << 20, 0));
    f.write_file("log", filled(4096, 0));
    assert_text(f.add_error(logger(f, ", 'log-sector-size': 3")), "Invalid log sector size 3");
    assert_text(f.add_error(logger(f, ", 'log-sector-size': 8388608")), "Invalid log sector size 8388608");
    assert_text(f.add_error(logger(f, ", 'log-super-update-interval': 0")), "Invalid log superblock update interval 0");
    assert_text(f.add_error(logger(f, ", 'log-append': true")),
                "The log has no superblock: magic is 0x0, not 0x6a736677736872");
    // Logs that lie.
    auto log = [&](uint64_t version, uint64_t entries, uint32_t unit, uint64_t sectors) {
        Bytes bytes = filled(4096, 0);
        store_le<uint64_t>(bytes.data(), 0x6a736677736872);
        store_le<uint64_t>(bytes.data() + 8, version);
        store_le<uint64_t>(bytes.data() + 16, entries);
        store_le<uint32_t>(bytes.data() + 24, unit);
        store_le<uint64_t>(bytes.data() + 512 + 8, sectors);
        f.write_file("log", bytes);
        return f.add_error(logger(f, ", 'log-append': true"));
    };
    assert_text(log(2, 0, 512, 0), "Unsupported log version 2");
    assert_text(log(1, 0, 0, 0), "Invalid log sector size 0");
    assert_text(log(1, UINT64_MAX, 512, 0), "The log ends before entry 7 of 18446744073709551615");
    assert_text(log(1, 1, 512, UINT64_MAX), "The log ends within entry 0 of 1, which has 18446744073709551615 sectors");
}

// A flush covers what had completed when it began, and nothing after that.
void test_log_order() {
    Fixture f;
    f.write_file("log", {});
    BlockDriverState& disk = f.add("{'driver': 'mock', 'node-name': 'disk'}");
    auto& mock = MockDriver::of(disk);
    auto backend = f.attach(
        f.add(fmt::format("{{'driver': 'blklogwrites', 'node-name': 'l', 'file': 'disk', 'log': {}}}", f.file("log"))));
    struct Run {
        static Task<void> co_flush(BlockBackend& backend, int& result) { result = co_await backend.co_flush(); }
    };
    g_assert_cmpint(write(*backend, 0, filled(512, 1)), ==, 0);
    mock.hold_flushes = true;
    int result = 1;
    TaskScope scope;
    scope.spawn_on(*f.context, Run::co_flush(*backend, result));
    while (mock.flushes == 0)
        f.context->poll(false);
    g_assert_cmpint(write(*backend, 512, filled(512, 2)), ==, 0);
    mock.hold_flushes = false;
    sync_wait(*f.context, scope.join());
    g_assert_cmpint(result, ==, 0);
    mock.fail_flush_with = -EIO;
    g_assert_cmpint(backend->flush(), ==, -EIO);
    mock.fail_flush_with = 0;
    f.detach(backend);
    f.del("l");
    auto entries = replay(f.read_file("log"));
    entries.resize(4);
    g_assert_true(entries == std::vector<LogEntry>({{0, 1, 0}, {0, 0, 1}, {1, 1, 0}, {0, 0, 8}}));
    f.del("disk");
}

// --- snapshot-access ---

void test_snapshot_access_errors() {
    Fixture f;
    f.write_file("disk", filled(4096, 0));
    auto options = [&](std::string_view image, std::string_view more) {
        return fmt::format("{{'driver': 'snapshot-access', 'node-name': 's', 'snapshot': 'x', 'file': {}{}}}", image,
                           more);
    };
    assert_text(f.add_error(options(f.node("raw", "disk"), "")), "A snapshot can only be read");
    assert_text(f.add_error(options(f.node("raw", "disk"), ", 'read-only': true")),
                "Format 'raw' has no internal snapshots");
    f.add("{'driver': 'null-co', 'node-name': 'other', 'read-only': true}");
    assert_text(f.add_error(options("'other'", ", 'read-only': true")),
                "Parameter 'file' expects the options of a node, not the name of one");
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/filters/copy-on-read/what-is-read-is-copied-to-the-layer-in-front", test_copies);
    g_test_add_func("/filters/copy-on-read/down-to-the-bottom-and-no-further", test_bottom);
    g_test_add_func("/filters/copy-on-read/bad-bottoms-are-refused", test_bottom_errors);
    g_test_add_func("/filters/copy-on-read/a-copy-never-undoes-a-write", test_concurrent_writes);
    g_test_add_func("/filters/compress/writes-are-whole-clusters-to-be-compressed", test_compress);
    g_test_add_func("/filters/preallocate/the-file-is-longer-than-it-looks", test_preallocate);
    g_test_add_func("/filters/preallocate/and-not-when-it-is-read-only", test_preallocate_read_only);
    g_test_add_func("/filters/blkverify/both-images-get-what-is-written", test_blkverify);
    g_test_add_func("/filters/blkverify/a-difference-ends-the-program", test_blkverify_mismatch);
    g_test_add_func("/filters/blklogwrites/the-log-replays-to-the-same-disk", test_log);
    g_test_add_func("/filters/blklogwrites/a-log-goes-on", test_log_append);
    g_test_add_func("/filters/blklogwrites/logs-that-lie-are-refused", test_log_errors);
    g_test_add_func("/filters/blklogwrites/a-flush-promises-no-more-than-it-does", test_log_order);
    g_test_add_func("/filters/snapshot-access/what-it-needs-is-said", test_snapshot_access_errors);
    return g_test_run();
}
