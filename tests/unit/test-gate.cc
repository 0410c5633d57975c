#include "util/gate.h"

#include <atomic>

#include "tests/unit/runtime_test.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

Task<void> stay(Gate& gate, std::string& order, char c) {
    auto pass = co_await gate.enter();
    order += c;
    co_await co_sleep(1'000'000);
    order += c;
}

Task<void> close_waits(std::string& order) {
    Gate gate;
    TaskScope scope;
    scope.spawn(stay(gate, order, 'a'));
    g_assert_cmpuint(gate.inside(), ==, 1);
    co_await gate.close();
    order += '|';
    g_assert_cmpuint(gate.inside(), ==, 0);
    scope.spawn(stay(gate, order, 'b'));
    g_assert_false(gate.try_enter());
    co_await co_sleep(2'000'000);
    order += '|';
    gate.open();
    g_assert_cmpuint(gate.inside(), ==, 1);  // who waited is inside before anyone else can be
    co_await scope.join();
}

void close_waits_for_those_inside_and_keeps_newcomers_out() {
    auto context = make_context();
    std::string order;
    sync_wait(*context, close_waits(order));
    g_assert_cmpstr(order.c_str(), ==, "aa||bb");
}

Task<void> close_twice() {
    Gate gate;
    co_await gate.close();
    co_await gate.close();
    gate.open();
    g_assert_true(gate.is_closed());
    g_assert_false(gate.try_enter());
    gate.open();
    g_assert_false(gate.is_closed());
    g_assert_true(gate.try_enter());
    gate.leave();
}

void it_opens_when_the_last_closer_opens_it() {
    auto context = make_context();
    sync_wait(*context, close_twice());
}

struct Shared {
    Gate gate;
    std::atomic<bool> quiet{false};
    std::atomic<int> closes{0};
};

Task<void> pass_through(Shared& shared, std::minstd_rand random, int rounds) {
    for (int i = 0; i < rounds; i++) {
        {
            auto pass = co_await shared.gate.enter();
            g_assert_false(shared.quiet);
            if (random() % 2)
                co_await co_yield_now();
            g_assert_false(shared.quiet);
        }
        if (random() % 4 == 0)
            co_await co_yield_now();
    }
}

Task<void> close_and_open(Shared& shared, std::minstd_rand random, int rounds) {
    for (int i = 0; i < rounds; i++) {
        co_await shared.gate.close();
        shared.quiet = true;
        g_assert_cmpuint(shared.gate.inside(), ==, 0);
        if (random() % 2)
            co_await co_yield_now();
        g_assert_cmpuint(shared.gate.inside(), ==, 0);
        shared.closes++;
        shared.quiet = false;
        shared.gate.open();
        co_await co_yield_now();
    }
}

void nobody_is_inside_while_it_is_closed() {
    Contexts contexts(4);
    Shared shared;
    sync_wait(*contexts.home, run_everywhere(contexts, 31, [&](unsigned i) {
        return i == 0 ? close_and_open(shared, random_numbers(), 300) : pass_through(shared, random_numbers(), 500);
    }));
    g_assert_cmpint(shared.closes, ==, 300);
    g_assert_cmpuint(shared.gate.inside(), ==, 0);
}

Task<void> close_and_destroy(Contexts& contexts) {
    for (int i = 0; i < 300; i++) {
        TaskScope scope;  // outlives the gate: after close() nobody may touch that
        auto gate = std::make_unique<Gate>();
        for (unsigned t = 1; t < contexts.count(); t++) {
            g_assert_true(gate->try_enter());
            struct Leaver {
                static Task<void> run(Gate& g) {
                    g.leave();
                    co_return;
                }
            };
            scope.spawn_on(contexts[t], Leaver::run(*gate));
        }
        co_await gate->close();
        gate->open();
        gate.reset();
        co_await scope.join();
    }
}

void a_closed_gate_that_is_empty_may_be_destroyed() {
    Contexts contexts(3);
    sync_wait(*contexts.home, close_and_destroy(contexts));
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    add("/gate/close-waits-for-those-inside", close_waits_for_those_inside_and_keeps_newcomers_out);
    add("/gate/it-opens-when-the-last-closer-opens-it", it_opens_when_the_last_closer_opens_it);
    add("/gate/a-closed-gate-that-is-empty-may-be-destroyed", a_closed_gate_that_is_empty_may_be_destroyed);
    add("/gate/stress", nobody_is_inside_while_it_is_closed);
    return g_test_run();
}
