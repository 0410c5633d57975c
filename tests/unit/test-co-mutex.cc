#include "util/co_mutex.h"

#include "tests/unit/runtime_test.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

Task<void> lock_and_note(CoMutex& mutex, std::string& order, char c) {
    auto guard = co_await mutex.co_lock();
    order += c;
    co_await co_yield_now();
    order += c;
}

Task<void> lock_in_order(std::string& order) {
    CoMutex mutex;
    TaskScope scope;
    for (char c : {'a', 'b', 'c', 'd'})
        scope.spawn(lock_and_note(mutex, order, c));
    g_assert_false(mutex.try_lock());
    co_await scope.join();
    g_assert_true(mutex.try_lock());
    mutex.unlock();
}

void one_holds_it_at_a_time_in_order_of_arrival() {
    auto context = make_context();
    std::string order;
    sync_wait(*context, lock_in_order(order));
    g_assert_cmpstr(order.c_str(), ==, "aabbccdd");
}

Task<void> lock_elsewhere(CoMutex& mutex, AioContext& home) {
    g_assert_true(AioContext::current() == &home);
    auto guard = co_await mutex.co_lock();
    g_assert_true(AioContext::current() == &home);
}

Task<void> hold_while_the_other_waits(AioContext& there) {
    CoMutex mutex;
    TaskScope scope;
    {
        auto guard = co_await mutex.co_lock();
        scope.spawn_on(there, lock_elsewhere(mutex, there));
        co_await co_sleep(2'000'000);
    }
    co_await scope.join();
}

void a_waiter_is_resumed_in_its_own_context() {
    Contexts contexts(1);
    sync_wait(*contexts.home, hold_while_the_other_waits(contexts[1]));
}

struct Shared {
    CoMutex mutex;
    uint64_t count = 0;  // guarded by it
    bool inside = false;
};

Task<void> count_up(Shared& shared, std::minstd_rand random, int rounds) {
    for (int i = 0; i < rounds; i++) {
        auto guard = co_await shared.mutex.co_lock();
        g_assert_false(std::exchange(shared.inside, true));
        shared.count++;
        if (random() % 4 == 0)
            co_await co_yield_now();
        g_assert_true(std::exchange(shared.inside, false));
        guard.unlock();
        if (random() % 8 == 0)
            co_await co_yield_now();
    }
}

void many_threads_hand_it_around() {
    Contexts contexts(4);
    Shared shared;
    sync_wait(*contexts.home,
              run_everywhere(contexts, 40, [&](unsigned) { return count_up(shared, random_numbers(), 500); }));
    g_assert_cmpuint(shared.count, ==, 40 * 500);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    add("/co-mutex/one-holds-it-at-a-time-in-order-of-arrival", one_holds_it_at_a_time_in_order_of_arrival);
    add("/co-mutex/a-waiter-is-resumed-in-its-own-context", a_waiter_is_resumed_in_its_own_context);
    add("/co-mutex/stress", many_threads_hand_it_around);
    return g_test_run();
}
