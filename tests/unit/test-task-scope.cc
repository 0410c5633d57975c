#include "util/task_scope.h"

#include <atomic>

#include "tests/unit/runtime_test.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

Task<void> note_two(std::string& order) {
    order += '1';
    co_await co_yield_now();
    order += '3';
}

Task<void> spawn_and_join(std::string& order) {
    TaskScope scope;
    scope.spawn(note_two(order));
    order += '2';
    g_assert_cmpuint(scope.running(), ==, 1);
    co_await scope.join();
    order += '4';
    g_assert_cmpuint(scope.running(), ==, 0);
}

void spawn_starts_at_once_and_join_waits_for_the_end() {
    auto context = make_context();
    std::string order;
    sync_wait(*context, spawn_and_join(order));
    g_assert_cmpstr(order.c_str(), ==, "1234");
}

Task<void> spawn_another(TaskScope& scope, int left, int& ended) {
    co_await co_yield_now();
    if (left > 0)
        scope.spawn(spawn_another(scope, left - 1, ended));
    ended++;
}

Task<void> join_a_chain(int& ended) {
    TaskScope scope;
    for (int round = 0; round < 2; round++) {
        scope.spawn(spawn_another(scope, 9, ended));
        co_await scope.join();
    }
}

void join_waits_for_what_is_spawned_meanwhile_and_may_be_repeated() {
    auto context = make_context();
    int ended = 0;
    sync_wait(*context, join_a_chain(ended));
    g_assert_cmpint(ended, ==, 20);
}

Task<void> note_context(AioContext*& where) {
    where = AioContext::current();
    co_return;
}

Task<void> spawn_there(AioContext& there, AioContext*& where) {
    TaskScope scope;
    scope.spawn_on(there, note_context(where));
    co_await scope.join();
}

void spawn_on_runs_in_the_other_context_and_join_returns_in_its_own() {
    Contexts contexts(1);
    AioContext* where = nullptr;
    sync_wait(*contexts.home, spawn_there(contexts[1], where));
    g_assert_true(where == &contexts[1]);
}

// Its end takes time, and what it writes to must still be there.
struct SlowParameter {
    bool* destroyed = nullptr;
    explicit SlowParameter(bool& flag) : destroyed(&flag) {}
    SlowParameter(SlowParameter&& other) noexcept : destroyed(std::exchange(other.destroyed, nullptr)) {}
    ~SlowParameter() {
        if (!destroyed)
            return;
        g_usleep(200);
        *destroyed = true;
    }
};

Task<void> hold(SlowParameter) {
    co_return;
}

Task<void> join_and_look(AioContext& there) {
    for (int i = 0; i < 50; i++) {
        bool destroyed = false;
        TaskScope scope;
        scope.spawn_on(there, hold(SlowParameter(destroyed)));
        co_await scope.join();
        g_assert_true(destroyed);
    }
}

void what_a_coroutine_was_given_is_destroyed_before_join_returns() {
    Contexts contexts(1);
    sync_wait(*contexts.home, join_and_look(contexts[1]));
}

Task<void> wander(Contexts& contexts, std::minstd_rand random, std::atomic<int>& steps) {
    for (int i = 0; i < 100; i++) {
        co_await switch_to(contexts[static_cast<unsigned>(random()) % contexts.count()]);
        steps++;
    }
}

Task<void> nest(Contexts& contexts, std::minstd_rand random, std::atomic<int>& steps) {
    co_await run_everywhere(contexts, 8, [&](unsigned) { return wander(contexts, std::minstd_rand(random()), steps); });
}

void scopes_in_scopes_over_many_threads_are_all_joined() {
    Contexts contexts(4);
    std::atomic<int> steps{0};
    sync_wait(*contexts.home,
              run_everywhere(contexts, 40, [&](unsigned) { return nest(contexts, random_numbers(), steps); }));
    g_assert_cmpint(steps, ==, 40 * 8 * 100);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    add("/task-scope/spawn-starts-at-once-and-join-waits", spawn_starts_at_once_and_join_waits_for_the_end);
    add("/task-scope/join-waits-for-what-is-spawned-meanwhile",
        join_waits_for_what_is_spawned_meanwhile_and_may_be_repeated);
    add("/task-scope/spawn-on-runs-in-the-other-context",
        spawn_on_runs_in_the_other_context_and_join_returns_in_its_own);
    add("/task-scope/parameters-are-destroyed-before-join-returns",
        what_a_coroutine_was_given_is_destroyed_before_join_returns);
    add("/task-scope/stress", scopes_in_scopes_over_many_threads_are_all_joined);
    return g_test_run();
}
