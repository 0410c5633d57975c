#include "tests/unit/block_fixture.h"
#include "util/io_thread.h"
#include "util/task_scope.h"

using namespace ashlar;

namespace {

constexpr std::string_view kMock = "{'driver': 'mock', 'node-name': 'disk', 'yields': 3}";

Task<void> read_once(BlockBackend& backend, unsigned& finished) {
    std::byte data[512];
    iovec element{data, sizeof data};
    g_assert_cmpint(co_await backend.co_preadv(0, 512, IoVector(element)), ==, 0);
    ++finished;
}

Task<void> let_others_run(unsigned turns) {
    while (turns-- > 0)
        co_await co_yield_now();
}

Task<void> requests_wait_for_the_end(BlockGraph& graph, BlockBackend& backend, MockDriver& mock) {
    TaskScope scope;
    unsigned finished = 0;
    scope.spawn(read_once(backend, finished));
    auto outer = co_await graph.co_drain(*backend.root());
    g_assert_cmpuint(finished, ==, 1);
    g_assert_cmpuint(mock.drains, ==, 1);
    scope.spawn(read_once(backend, finished));
    {
        auto inner = co_await graph.co_drain_all();
        g_assert_cmpuint(mock.drains, ==, 2);
        co_await let_others_run(20);
    }
    co_await let_others_run(20);
    g_assert_cmpuint(finished, ==, 1);
    g_assert_cmpuint(mock.inside, ==, 0);
    outer.end();
    g_assert_cmpuint(mock.drains, ==, 0);
    co_await scope.join();
    g_assert_cmpuint(finished, ==, 2);
}

void a_drained_section_holds_requests_back() {
    BlockFixture f;
    BlockDriverState& node = f.add(kMock);
    auto backend = f.attach(node);
    f.run(requests_wait_for_the_end(*f.graph, *backend, MockDriver::of(node)));
    f.detach(backend);
}

Task<void> others_go_on(BlockGraph& graph, BlockBackend& drained, BlockBackend& shares, BlockBackend& apart) {
    auto section = co_await graph.co_drain(drained.root()->primary_child()->node());
    TaskScope scope;
    unsigned of_apart = 0, of_shares = 0, of_drained = 0;
    scope.spawn(read_once(apart, of_apart));
    scope.spawn(read_once(shares, of_shares));
    scope.spawn(read_once(drained, of_drained));
    co_await let_others_run(20);
    g_assert_cmpuint(of_apart, ==, 1);
    g_assert_cmpuint(of_shares + of_drained, ==, 0);
    section.end();
    co_await scope.join();
}

void only_who_reaches_the_node_is_drained() {
    BlockFixture f;
    f.add("{'driver': 'mock', 'node-name': 'below'}");
    BlockDriverState& a = f.add("{'driver': 'raw', 'node-name': 'a', 'file': 'below'}");
    BlockDriverState& b = f.add("{'driver': 'raw', 'node-name': 'b', 'file': 'below'}");
    BlockDriverState& c = f.add("{'driver': 'mock', 'node-name': 'c'}");
    auto drained = f.attach(a), shares = f.attach(b), apart = f.attach(c);
    f.run(others_go_on(*f.graph, *drained, *shares, *apart));
    f.detach(drained);
    f.detach(shares);
    f.detach(apart);
}

Task<void> attach_in_a_drained_section(BlockFixture& f, BlockDriverState& node, BlockBackend& late) {
    auto section = co_await f.graph->co_drain(node);
    g_assert_true((co_await late.co_attach(node)).has_value());
    TaskScope scope;
    unsigned finished = 0;
    scope.spawn(read_once(late, finished));
    co_await let_others_run(20);
    g_assert_cmpuint(finished, ==, 0);
    section.end();
    co_await scope.join();
    g_assert_cmpuint(finished, ==, 1);
}

void who_comes_later_is_drained_as_well() {
    BlockFixture f;
    BlockDriverState& node = f.add(kMock);
    auto late = std::make_unique<BlockBackend>(*f.graph, "", BlockFixture::kReadWrite);
    f.run(attach_in_a_drained_section(f, node, *late));
    f.detach(late);
}

Task<void> close_in_a_drained_section(BlockFixture& f, BlockBackend& backend) {
    auto section = co_await f.graph->co_drain(*backend.root());
    g_assert_true((co_await backend.co_detach()).has_value());
    g_assert_true((co_await f.graph->co_blockdev_del("disk")).has_value());
    std::byte data[512];
    iovec element{data, sizeof data};
    g_assert_cmpint(co_await backend.co_preadv(0, 512, IoVector(element)), ==, -ENOMEDIUM);
}

void what_is_drained_may_be_closed() {
    BlockFixture f;
    auto backend = f.attach(f.add(kMock));
    f.run(close_in_a_drained_section(f, *backend));
}

// --- from several threads ---

struct Load {
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> requests{0};
};

Task<void> keep_busy(BlockBackend& backend, Load& load, int64_t offset) {
    std::vector<std::byte> data(700);
    iovec element{data.data(), data.size()};
    for (unsigned i = 0; !load.stop; ++i) {
        int ret = i % 3 == 0   ? co_await backend.co_pwritev(offset, 700, IoVector(element))
                  : i % 3 == 1 ? co_await backend.co_preadv(offset, 700, IoVector(element))
                               : co_await backend.co_flush();
        g_assert_cmpint(ret, ==, 0);
        ++load.requests;
        if (i % 8 == 0)
            co_await co_yield_now();
    }
}

struct Threads {
    std::vector<std::unique_ptr<IOThread>> threads;
    TaskScope scope;
    Load load;

    void start(BlockBackend& backend) {
        for (int i = 0; i < 3; ++i) {
            threads.push_back(BlockFixture::check(IOThread::create(fmt::format("t{}", i))));
            for (int k = 0; k < 2; ++k)
                scope.spawn_on(threads.back()->context(), keep_busy(backend, load, (i * 2 + k) * 700));
        }
    }
    Task<void> finish() {
        load.stop = true;
        co_await scope.join();
    }
};

Task<void> drain_again_and_again(BlockGraph& graph, BlockDriverState& node, Threads& threads, int rounds) {
    for (int i = 0; i < rounds; ++i) {
        auto section = co_await graph.co_drain(node);
        g_assert_cmpuint(MockDriver::of(node).inside, ==, 0);
        uint64_t before = threads.load.requests;
        co_await let_others_run(2);
        g_assert_cmpuint(MockDriver::of(node).inside, ==, 0);
        g_assert_cmpuint(threads.load.requests - before, <=, 6);  // those that had finished, but not counted yet
        section.end();
        while (threads.load.requests == before)
            co_await co_yield_now();
    }
    co_await threads.finish();
}

void draining_under_load() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk', 'yields': 2, 'align': 512}");
    auto backend = f.attach(node);
    Threads threads;
    threads.start(*backend);
    f.run(drain_again_and_again(*f.graph, node, threads, 100));
    f.detach(backend);
}

Task<void> reopen_again_and_again(BlockFixture& f, Threads& threads, int rounds) {
    for (int i = 0; i < rounds; ++i) {
        std::vector<Json> options(
            1, *parse_json_object(fmt::format("{{'driver': 'raw', 'node-name': 'fmt', 'file': '{}', 'offset': {}}}",
                                              i % 2 ? "one" : "two", i % 4 * 512)));
        auto done = co_await f.graph->co_blockdev_reopen(std::move(options), Typing::Strict);
        g_assert_true(done.has_value());
        options.assign(1, *parse_json_object(fmt::format("{{'driver': 'mock', 'node-name': 'one', 'max-transfer': {}}}",
                                                         i % 2 ? 512 : 0)));
        done = co_await f.graph->co_blockdev_reopen(std::move(options), Typing::Strict);
        g_assert_true(done.has_value());
        uint64_t before = threads.load.requests;
        while (threads.load.requests < before + 10)
            co_await co_yield_now();
    }
    co_await threads.finish();
}

void reopening_under_load() {
    BlockFixture f;
    f.add("{'driver': 'mock', 'node-name': 'one', 'yields': 2, 'align': 512}");
    f.add("{'driver': 'mock', 'node-name': 'two', 'yields': 2}");
    BlockDriverState& node = f.add("{'driver': 'raw', 'node-name': 'fmt', 'file': 'one'}");
    auto backend = f.attach(node);
    Threads threads;
    threads.start(*backend);
    f.run(reopen_again_and_again(f, threads, 50));
    g_assert_cmpint(MockDriver::of(*f.graph->find_node("one")).committed, ==, 50);
    f.detach(backend);
    f.del("fmt");
}

Task<void> attach_again_and_again(BlockFixture& f, BlockDriverState& node, Threads& threads, int rounds) {
    for (int i = 0; i < rounds; ++i) {
        BlockBackend other(*f.graph, "", BlockFixture::kReadWrite);
        g_assert_true((co_await other.co_attach(node)).has_value());
        unsigned finished = 0;
        co_await read_once(other, finished);
        g_assert_true((co_await other.co_detach()).has_value());
    }
    co_await threads.finish();
}

void attaching_others_under_load() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk', 'yields': 2}");
    auto backend = f.attach(node);
    Threads threads;
    threads.start(*backend);
    f.run(attach_again_and_again(f, node, threads, 100));
    f.detach(backend);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/block-drain/a-drained-section-holds-requests-back", a_drained_section_holds_requests_back);
    g_test_add_func("/block-drain/only-who-reaches-the-node-is-drained", only_who_reaches_the_node_is_drained);
    g_test_add_func("/block-drain/who-comes-later-is-drained-as-well", who_comes_later_is_drained_as_well);
    g_test_add_func("/block-drain/what-is-drained-may-be-closed", what_is_drained_may_be_closed);
    g_test_add_func("/block-drain/draining-under-load", draining_under_load);
    g_test_add_func("/block-drain/reopening-under-load", reopening_under_load);
    g_test_add_func("/block-drain/attaching-others-under-load", attaching_others_under_load);
    return g_test_run();
}
