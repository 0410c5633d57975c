#include "util/task.h"

#include "tests/unit/runtime_test.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

Task<void> set(bool& flag) {
    flag = true;
    co_return;
}

Task<void> make_then_await(bool& flag) {
    Task<void> task = set(flag);
    g_assert_false(flag);
    co_await std::move(task);
    g_assert_true(flag);
}

void nothing_runs_until_it_is_awaited() {
    auto context = make_context();
    bool flag = false;
    sync_wait(*context, make_then_await(flag));
}

struct Counted {
    int* alive;
    explicit Counted(int& n) : alive(&n) { ++*alive; }
    Counted(const Counted& other) : alive(other.alive) { ++*alive; }
    ~Counted() { --*alive; }
};

Task<int> keep(Counted counted) {
    co_await co_yield_now();
    co_return *counted.alive;
}

void a_task_that_is_never_awaited_frees_its_parameters() {
    int alive = 0;
    {
        Task<int> task = keep(Counted(alive));
        g_assert_cmpint(alive, ==, 1);
    }
    g_assert_cmpint(alive, ==, 0);
}

Task<void> await_and_count(int& alive) {
    g_assert_cmpint(co_await keep(Counted(alive)), >=, 1);
    g_assert_cmpint(alive, ==, 0);
}

void a_finished_task_is_gone_after_the_statement_that_awaits_it() {
    auto context = make_context();
    int alive = 0;
    sync_wait(*context, await_and_count(alive));
}

Task<std::unique_ptr<int>> make_box(int value) {
    co_await co_yield_now();
    co_return std::make_unique<int>(value);
}

Task<int> unbox() {
    std::unique_ptr<int> box = co_await make_box(7);
    co_return *box;
}

void a_value_may_be_one_that_only_moves() {
    auto context = make_context();
    g_assert_cmpint(sync_wait(*context, unbox()), ==, 7);
}

Task<int> one() {
    co_return 1;
}

Task<int> sum(int n) {
    int total = 0;
    for (int i = 0; i < n; i++)
        total += co_await one();
    co_return total;
}

void awaiting_what_does_not_suspend_uses_no_stack() {
    auto context = make_context();
    g_assert_cmpint(sync_wait(*context, sum(1'000'000)), ==, 1'000'000);
}

Task<int> depth(int n) {
    if (n == 0) {
        co_await co_yield_now();
        co_return 0;
    }
    co_return 1 + co_await depth(n - 1);
}

void a_long_chain_starts_and_ends_without_stack() {
    auto context = make_context();
    g_assert_cmpint(sync_wait(*context, depth(100'000)), ==, 100'000);
}

Task<void> append(std::string& order, char c) {
    order += c;
    co_await co_yield_now();
    order += c;
}

Task<void> append_three(std::string& order) {
    TaskScope scope;
    for (char c : {'a', 'b', 'c'})
        scope.spawn(append(order, c));
    co_await scope.join();
}

void yielding_lets_everyone_else_run_first() {
    auto context = make_context();
    std::string order;
    sync_wait(*context, append_three(order));
    g_assert_cmpstr(order.c_str(), ==, "abcabc");
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/task/a-task-that-is-never-awaited-frees-its-parameters",
                    a_task_that_is_never_awaited_frees_its_parameters);
    add("/task/nothing-runs-until-it-is-awaited", nothing_runs_until_it_is_awaited);
    add("/task/a-finished-task-is-gone-after-the-statement",
        a_finished_task_is_gone_after_the_statement_that_awaits_it);
    add("/task/a-value-may-be-one-that-only-moves", a_value_may_be_one_that_only_moves);
    add("/task/awaiting-what-does-not-suspend-uses-no-stack", awaiting_what_does_not_suspend_uses_no_stack);
    add("/task/a-long-chain-starts-and-ends-without-stack", a_long_chain_starts_and_ends_without_stack);
    add("/task/yielding-lets-everyone-else-run-first", yielding_lets_everyone_else_run_first);
    return g_test_run();
}
