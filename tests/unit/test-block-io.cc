#include "tests/unit/block_fixture.h"
#include "util/io_thread.h"
#include "util/task_scope.h"

#include <cstring>

using namespace ashlar;

namespace {

using Bytes = std::vector<std::byte>;

// Memory for one request: in pieces of odd sizes at odd addresses, or as one aligned block.
class Memory {
public:
    Memory(size_t bytes, std::mt19937& random, bool tidy) : store_(bytes + 4096 + 64 * 16) {
        auto start = reinterpret_cast<uintptr_t>(store_.data());
        size_t at = tidy ? (4096 - start % 4096) % 4096 : random() % 512;
        for (size_t left = bytes; left > 0;) {
            size_t n = tidy || elements_.size() == 60 ? left : 1 + random() % left;
            if (!tidy && random() % 3 == 0)
                n = std::min<size_t>(left, 512);
            elements_.push_back({store_.data() + at, n});
            at += n + (tidy ? 0 : random() % 16);
            left -= n;
        }
    }
    IoVector iov() const { return {elements_.data(), static_cast<unsigned>(elements_.size())}; }
    void fill(const std::byte* from, size_t n) { iov_copy_in(iov(), 0, from, static_cast<int64_t>(n)); }
    bool equals(const std::byte* expected, size_t n) const {
        Bytes got(n);
        iov_copy_out(iov(), 0, got.data(), static_cast<int64_t>(n));
        return std::equal(got.begin(), got.end(), expected);
    }

private:
    Bytes store_;
    std::vector<iovec> elements_;
};

// Requests of one worker, within its own bytes [begin, end) of the disk, compared with what it knows of them.
struct Worker {
    BlockBackend& backend;
    int64_t begin, end;
    std::mt19937 random;
    Bytes model;
    unsigned steps;
    size_t longest;

    Worker(BlockBackend& b, int64_t from, int64_t to, uint32_t seed, unsigned n, size_t most)
        : backend(b),
          begin(from),
          end(to),
          random(seed),
          model(static_cast<size_t>(to - from)),
          steps(n),
          longest(most) {}

    Task<void> run() {
        for (unsigned i = 0; i < steps; ++i)
            co_await step();
        Memory all(model.size(), random, false);
        g_assert_cmpint(co_await backend.co_preadv(begin, end - begin, all.iov()), ==, 0);
        g_assert_true(all.equals(model.data(), model.size()));
    }

    Task<void> step() {
        size_t at = random() % model.size();
        size_t bytes = std::min<size_t>(random() % longest, model.size() - at);
        if (random() % 4 == 0) {  // whole blocks, too
            at = std::min(at / 4096 * 4096, model.size());
            bytes = std::min(bytes / 512 * 512, model.size() - at);
        }
        const int64_t offset = begin + static_cast<int64_t>(at);
        const auto n = static_cast<int64_t>(bytes);
        const RequestFlags fua = random() % 4 == 0 ? RequestFlags::Fua : RequestFlags::None;
        switch (random() % 6) {
            case 0:
            case 1: {
                Memory memory(bytes, random, random() % 2);
                Bytes data(bytes);
                for (std::byte& b : data)
                    b = static_cast<std::byte>(1 + random() % 255);
                memory.fill(data.data(), bytes);
                g_assert_cmpint(co_await backend.co_pwritev(offset, n, memory.iov(), fua), ==, 0);
                std::copy(data.begin(), data.end(), model.begin() + static_cast<long>(at));
                break;
            }
            case 2: {
                auto unmap = random() % 2 ? RequestFlags::MayUnmap : RequestFlags::None;
                g_assert_cmpint(co_await backend.co_pwrite_zeroes(offset, n, fua | unmap), ==, 0);
                std::fill_n(model.begin() + static_cast<long>(at), bytes, std::byte{0});
                break;
            }
            case 3:
                g_assert_cmpint(co_await backend.co_pdiscard(offset, n), ==, 0);
                break;
            case 4: {
                if (bytes == 0)
                    break;
                BlockStatus status = co_await backend.co_block_status_above(offset, n);
                g_assert_cmpint(status.ret, ==, 0);
                g_assert_true(status.bytes > 0 && status.bytes <= n);
                if (status.has(BlockStatus::Zero))
                    for (int64_t i = 0; i < status.bytes; ++i)
                        g_assert_true(model[at + static_cast<size_t>(i)] == std::byte{0});
                break;
            }
            default: {
                Memory memory(bytes, random, random() % 2);
                g_assert_cmpint(co_await backend.co_preadv(offset, n, memory.iov()), ==, 0);
                g_assert_true(memory.equals(model.data() + at, bytes));
            }
        }
    }
};

std::string random_limits(std::mt19937& random, bool threads) {
    uint32_t align = 1u << (random() % 13);
    uint32_t mem_align = random() % 2 ? 1u << (random() % 13) : 1;
    // The last block is whole, but for less than a sector: else writing would need the permission to resize.
    const uint32_t size = (100'000 + random() % 5000) / align * align - random() % std::min<uint32_t>(align, 512);
    auto limit = [&](uint32_t most) { return random() % 2 ? align + random() % most : 0; };
    return fmt::format(
        "{{'driver': 'mock', 'node-name': 'disk', 'size': {}, 'align': {}, 'mem-align': {}, 'max-transfer': {}, "
        "'max-iov': {}, 'zero-align': {}, 'max-zero': {}, 'discard-align': {}, 'max-discard': {}, 'fua': {}, "
        "'zeroes': {}, 'yields': {}, 'discard': 'unmap', 'detect-zeroes': '{}'}}",
        size, align, mem_align, limit(20'000), 1 + random() % 20, random() % 2 ? align * (1 + random() % 5) : 0,
        limit(30'000), random() % 2 ? align * (1 + random() % 3) : 0, limit(30'000), random() % 2 ? "true" : "false",
        random() % 2 ? "true" : "false", threads ? 2 : random() % 4, random() % 3 ? "off" : "unmap");
}

void any_request_on_any_limits() {
    std::mt19937 random(static_cast<uint32_t>(g_test_rand_int()));
    for (int round = 0; round < 60; ++round) {
        BlockFixture f;
        std::string limits = random_limits(random, false);
        BlockDriverState& node = f.add(limits);
        auto backend = f.attach(node);
        const bool rounds_up = node.length() % node.limits().request_alignment != 0;
        Worker worker(*backend, 0, node.length(), static_cast<uint32_t>(random()), 100, 40'000);
        g_test_message("%s%s", limits.c_str(), rounds_up ? " (ends within a block)" : "");
        f.run(worker.run());
        f.detach(backend);
    }
}

Task<void> run_workers(std::vector<std::unique_ptr<Worker>>& workers,
                       const std::vector<std::unique_ptr<IOThread>>& threads) {
    TaskScope scope;
    for (size_t i = 0; i < workers.size(); ++i)
        scope.spawn_on(threads[i % threads.size()]->context(), workers[i]->run());
    co_await scope.join();
}

// Neighbours share blocks: a write that reads, modifies and writes back must not undo what another writes meanwhile.
void neighbours_in_a_block_do_not_lose_writes() {
    std::mt19937 random(static_cast<uint32_t>(g_test_rand_int()));
    std::vector<std::unique_ptr<IOThread>> threads;
    for (int i = 0; i < 3; ++i)
        threads.push_back(BlockFixture::check(IOThread::create(fmt::format("t{}", i))));
    for (int round = 0; round < 12; ++round) {
        BlockFixture f;
        std::string limits = random_limits(random, true);
        g_test_message("%s", limits.c_str());
        BlockDriverState& node = f.add(limits);
        auto backend = f.attach(node);
        std::vector<std::unique_ptr<Worker>> workers;
        int64_t at = 0;
        while (at < 60'000) {
            int64_t end = at + 1 + static_cast<int64_t>(random() % 9000);
            workers.push_back(std::make_unique<Worker>(*backend, at, end, static_cast<uint32_t>(random()), 60, 5000));
            at = end;
        }
        f.run(run_workers(workers, threads));
        g_assert_cmpuint(MockDriver::of(node).inside, ==, 0);
        f.detach(backend);
    }
}

void large_requests_are_split() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk', 'align': 512, 'max-transfer': 5000}");
    auto backend = f.attach(node);
    Bytes data(10'000);
    g_assert_cmpint(backend->pread(512, 9728, data.data()), ==, 0);
    g_assert_cmpuint(MockDriver::of(node).reads, ==, 3);  // 4608 each
    f.detach(backend);
}

void an_aligned_request_is_one_call() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk', 'align': 512}");
    auto backend = f.attach(node);
    Bytes data(8192);
    g_assert_cmpint(backend->pread(512, 8192, data.data()), ==, 0);
    g_assert_cmpint(backend->pwrite(512, 8192, data.data()), ==, 0);
    g_assert_cmpuint(MockDriver::of(node).reads, ==, 1);
    g_assert_cmpuint(MockDriver::of(node).writes, ==, 1);
    f.detach(backend);
}

void an_unaligned_write_reads_two_blocks_at_most() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk', 'align': 512}");
    auto backend = f.attach(node);
    Bytes data(8192);
    g_assert_cmpint(backend->pwrite(100, 8192, data.data()), ==, 0);
    g_assert_cmpuint(MockDriver::of(node).reads, ==, 2);
    g_assert_cmpint(backend->pwrite(600, 100, data.data()), ==, 0);
    g_assert_cmpuint(MockDriver::of(node).reads, ==, 3);  // one block
    f.detach(backend);
}

void fua_is_a_flush_where_the_driver_has_none() {
    BlockFixture f;
    BlockDriverState& with = f.add("{'driver': 'mock', 'node-name': 'with', 'fua': true, 'zeroes': true}");
    BlockDriverState& without = f.add("{'driver': 'mock', 'node-name': 'without', 'zeroes': true}");
    for (BlockDriverState* node : {&with, &without}) {
        auto backend = f.attach(*node);
        MockDriver& mock = MockDriver::of(*node);
        Bytes data(512);
        g_assert_cmpint(backend->pwrite(0, 512, data.data(), RequestFlags::Fua), ==, 0);
        g_assert_cmpuint(mock.fua_writes, ==, node == &with ? 1 : 0);
        g_assert_cmpuint(mock.flushes, ==, node == &with ? 0 : 1);
        backend->set_write_cache(false);
        g_assert_cmpint(backend->pwrite(0, 512, data.data()), ==, 0);
        g_assert_cmpint(backend->pwrite_zeroes(0, 512), ==, 0);
        g_assert_cmpuint(mock.fua_writes, ==, node == &with ? 2 : 0);
        g_assert_cmpuint(mock.flushes, ==, node == &with ? 0 : 3);
        f.detach(backend);
    }
}

void no_flush_means_no_flush() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk', 'cache': {'no-flush': true}, 'fua': true}");
    auto backend = f.attach(node);
    Bytes data(512);
    g_assert_cmpint(backend->pwrite(0, 512, data.data(), RequestFlags::Fua), ==, 0);
    g_assert_cmpint(backend->flush(), ==, 0);
    g_assert_cmpuint(MockDriver::of(node).flushes + MockDriver::of(node).fua_writes, ==, 0);
    f.detach(backend);
}

Task<void> flush_and_count(BlockBackend& backend, unsigned& done) {
    g_assert_cmpint(co_await backend.co_flush(), ==, 0);
    ++done;
}

Task<void> flush_ten_times(BlockBackend& backend, MockDriver& mock) {
    TaskScope scope;
    unsigned done = 0;
    mock.hold_flushes = true;
    scope.spawn(flush_and_count(backend, done));
    for (int i = 0; i < 9; ++i)
        scope.spawn(flush_and_count(backend, done));
    co_await co_yield_now();
    g_assert_cmpuint(mock.flushes, ==, 1);
    g_assert_cmpuint(done, ==, 0);
    mock.hold_flushes = false;
    co_await scope.join();
    g_assert_cmpuint(done, ==, 10);
    g_assert_cmpuint(mock.flushes, ==, 2);  // the nine came too late for the first, and share the second
}

void flushes_are_shared_but_not_with_what_came_later() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk'}");
    auto backend = f.attach(node);
    f.run(flush_ten_times(*backend, MockDriver::of(node)));
    f.detach(backend);
}

void zeroes_are_detected() {
    BlockFixture f;
    BlockDriverState& node = f.add(
        "{'driver': 'mock', 'node-name': 'disk', 'zeroes': true, 'discard': 'unmap', "
        "'detect-zeroes': 'unmap'}");
    auto backend = f.attach(node);
    MockDriver& mock = MockDriver::of(node);
    Bytes data(512);
    g_assert_cmpint(backend->pwrite(0, 512, data.data()), ==, 0);
    g_assert_cmpuint(mock.writes, ==, 0);
    g_assert_cmpuint(mock.unmaps, ==, 1);
    data[511] = std::byte{1};
    g_assert_cmpint(backend->pwrite(0, 512, data.data()), ==, 0);
    g_assert_cmpuint(mock.writes, ==, 1);
    f.detach(backend);
}

void discard_is_ignored_unless_asked_for() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk', 'zeroes': true}");
    auto backend = f.attach(node);
    g_assert_cmpint(backend->pdiscard(0, 4096), ==, 0);
    g_assert_cmpint(backend->pwrite_zeroes(0, 4096, RequestFlags::MayUnmap), ==, 0);
    g_assert_cmpuint(MockDriver::of(node).discards, ==, 0);
    g_assert_cmpuint(MockDriver::of(node).unmaps, ==, 0);
    f.detach(backend);
}

void fast_zero_or_nothing() {
    BlockFixture f;
    BlockDriverState& slow = f.add("{'driver': 'mock', 'node-name': 'slow', 'align': 512}");
    BlockDriverState& fast = f.add(
        "{'driver': 'mock', 'node-name': 'fast', 'align': 512, 'zeroes': true, "
        "'fast-zero': true}");
    auto backend = f.attach(slow);
    g_assert_cmpint(backend->pwrite_zeroes(0, 512, RequestFlags::NoFallback), ==, -ENOTSUP);
    g_assert_cmpuint(MockDriver::of(slow).writes, ==, 0);
    f.detach(backend);
    backend = f.attach(fast);
    g_assert_cmpint(backend->pwrite_zeroes(0, 512, RequestFlags::NoFallback), ==, 0);
    g_assert_cmpint(backend->pwrite_zeroes(1, 511, RequestFlags::NoFallback), ==, -ENOTSUP);
    f.detach(backend);
}

void reads_behind_the_end_of_a_node_are_zeroes() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk', 'size': 1000, 'align': 512}");
    auto backend = f.attach(node, {BlockPerm::ConsistentRead | BlockPerm::Write | BlockPerm::Resize, BlockPerm::All});
    backend->set_allow_write_beyond_end(true);
    Bytes ones(1000, std::byte{1}), got(2000, std::byte{9});
    g_assert_cmpint(backend->pwrite(0, 1000, ones.data()), ==, 0);
    g_assert_cmpint(node.length(), ==, 1024);  // a whole block
    g_assert_cmpint(backend->pread(500, 2000, got.data()), ==, 0);
    for (size_t i = 0; i < got.size(); ++i)
        g_assert_cmpint(static_cast<int>(got[i]), ==, i < 500);
    f.detach(backend);
}

void a_last_block_that_is_not_whole_needs_resize() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk', 'size': 5120, 'align': 4096}");
    auto reader = f.attach(node, {BlockPerm::ConsistentRead, BlockPerm::All});
    auto refused = reader->set_perms(BlockFixture::kReadWrite);
    g_assert_false(refused.has_value());
    g_assert_cmpstr(
        refused.error().message.c_str(), ==,
        "Cannot get 'write' permission without 'resize': Image size is not a multiple of request alignment");
    BlockFixture::check(reader->set_perms({BlockFixture::kReadWrite.perm | BlockPerm::Resize, BlockPerm::All}));
    Bytes data(512);
    g_assert_cmpint(reader->pwrite(4608, 512, data.data()), ==, 0);
    g_assert_cmpint(node.length(), ==, 8192);
    BlockFixture::check(reader->set_perms(BlockFixture::kReadWrite));  // it is whole now
    f.detach(reader);
}

void writes_behind_the_end_need_resize() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk', 'size': 1024}");
    auto backend = f.attach(node);
    backend->set_allow_write_beyond_end(true);
    Bytes data(512);
    g_assert_cmpint(backend->pwrite(1024, 512, data.data()), ==, -ENOSPC);
    BlockFixture::check(backend->set_perms({BlockFixture::kReadWrite.perm | BlockPerm::Resize, BlockPerm::All}));
    g_assert_cmpint(backend->pwrite(1024, 512, data.data()), ==, 0);
    g_assert_cmpint(backend->length(), ==, 1536);
    f.detach(backend);
}

void errors_come_back() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk', 'align': 512}");
    auto backend = f.attach(node);
    MockDriver::of(node).fail_with = -EBADMSG;
    Bytes data(2048);
    g_assert_cmpint(backend->pread(0, 512, data.data()), ==, -EBADMSG);
    g_assert_cmpint(backend->pread(1, 512, data.data()), ==, -EBADMSG);
    g_assert_cmpint(backend->pwrite(1, 512, data.data()), ==, -EBADMSG);
    g_assert_cmpint(backend->pwrite_zeroes(0, 2048), ==, -EBADMSG);
    g_assert_cmpint(MockDriver::of(node).fail_with.exchange(0), ==, -EBADMSG);
    g_assert_cmpint(backend->pwrite(1, 512, data.data()), ==, 0);  // nothing was left locked
    f.detach(backend);
}

void status_of_raw_is_that_of_the_file() {
    BlockFixture f;
    BlockDriverState& node = f.add(
        "{'driver': 'raw', 'node-name': 'disk', 'offset': 1024, 'size': 8192, 'file': {'driver': 'mock', "
        "'node-name': 'below', 'align': 512, 'size': 65536}}");
    auto backend = f.attach(node);
    Bytes data(512, std::byte{1});
    g_assert_cmpint(backend->length(), ==, 8192);
    g_assert_cmpint(backend->pwrite(1024, 512, data.data()), ==, 0);
    BlockStatus status = f.run(backend->co_block_status_above(0, 8192));
    g_assert_true(status.has(BlockStatus::Zero) && status.has(BlockStatus::Allocated));
    g_assert_cmpint(status.bytes, ==, 1024);
    g_assert_cmpint(status.offset, ==, 1024);
    g_assert_cmpuint(status.depth, ==, 1);
    status = f.run(backend->co_block_status_above(1100, 7000));
    g_assert_true(status.has(BlockStatus::Data) && !status.has(BlockStatus::Eof));
    g_assert_cmpint(status.bytes, ==, 436);
    g_assert_cmpint(status.offset, ==, 2124);
    status = f.run(backend->co_block_status_above(4096, 4096));
    g_assert_true(status.has(BlockStatus::Zero) && status.has(BlockStatus::Eof));
    g_assert_cmpint(status.bytes, ==, 4096);
    f.detach(backend);
}

void status_merges_neighbours() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk', 'align': 512, 'size': 65536}");
    MockDriver::of(node).status_hook = [](BlockStatus& status, int64_t) { status.bytes = 512; };
    auto backend = f.attach(node);
    g_assert_cmpint(f.run(backend->co_block_status_above(0, 4096)).bytes, ==, 4096);
    f.detach(backend);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/block-io/any-request-on-any-limits", any_request_on_any_limits);
    g_test_add_func("/block-io/neighbours-in-a-block-do-not-lose-writes", neighbours_in_a_block_do_not_lose_writes);
    g_test_add_func("/block-io/large-requests-are-split", large_requests_are_split);
    g_test_add_func("/block-io/an-aligned-request-is-one-call", an_aligned_request_is_one_call);
    g_test_add_func("/block-io/an-unaligned-write-reads-two-blocks-at-most",
                    an_unaligned_write_reads_two_blocks_at_most);
    g_test_add_func("/block-io/fua-is-a-flush-where-the-driver-has-none", fua_is_a_flush_where_the_driver_has_none);
    g_test_add_func("/block-io/no-flush-means-no-flush", no_flush_means_no_flush);
    g_test_add_func("/block-io/flushes-are-shared-but-not-with-what-came-later",
                    flushes_are_shared_but_not_with_what_came_later);
    g_test_add_func("/block-io/zeroes-are-detected", zeroes_are_detected);
    g_test_add_func("/block-io/discard-is-ignored-unless-asked-for", discard_is_ignored_unless_asked_for);
    g_test_add_func("/block-io/fast-zero-or-nothing", fast_zero_or_nothing);
    g_test_add_func("/block-io/reads-behind-the-end-of-a-node-are-zeroes", reads_behind_the_end_of_a_node_are_zeroes);
    g_test_add_func("/block-io/a-last-block-that-is-not-whole-needs-resize",
                    a_last_block_that_is_not_whole_needs_resize);
    g_test_add_func("/block-io/writes-behind-the-end-need-resize", writes_behind_the_end_need_resize);
    g_test_add_func("/block-io/errors-come-back", errors_come_back);
    g_test_add_func("/block-io/status-of-raw-is-that-of-the-file", status_of_raw_is_that_of_the_file);
    g_test_add_func("/block-io/status-merges-neighbours", status_merges_neighbours);
    return g_test_run();
}
