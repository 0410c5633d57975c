#include "util/co_queue.h"

#include <deque>

#include "tests/unit/runtime_test.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

struct Shared {
    CoMutex mutex;
    CoQueue not_empty, not_full;
    std::deque<unsigned> items;
    uint64_t sum = 0;
};

Task<void> wait_and_note(CoMutex& mutex, CoQueue& queue, std::string& order, char c) {
    auto guard = co_await mutex.co_lock();
    co_await queue.co_wait(guard);
    g_assert_false(mutex.try_lock());
    order += c;
}

Task<void> wake_in_order(std::string& order) {
    CoMutex mutex;
    CoQueue queue;
    TaskScope scope;
    for (char c : {'a', 'b', 'c', 'd'})
        scope.spawn(wait_and_note(mutex, queue, order, c));
    {
        auto guard = co_await mutex.co_lock();
        g_assert_true(queue.wake_one());
    }
    co_await co_sleep(1'000'000);
    order += '-';
    {
        auto guard = co_await mutex.co_lock();
        queue.wake_all();
        g_assert_true(queue.empty());
        g_assert_false(queue.wake_one());
    }
    co_await scope.join();
}

void waiters_are_woken_in_order_of_arrival_with_the_mutex_held() {
    auto context = make_context();
    std::string order;
    sync_wait(*context, wake_in_order(order));
    g_assert_cmpstr(order.c_str(), ==, "a-bcd");
}

Task<void> produce(Shared& shared, unsigned count) {
    for (unsigned i = 1; i <= count; i++) {
        auto guard = co_await shared.mutex.co_lock();
        while (shared.items.size() >= 4)
            co_await shared.not_full.co_wait(guard);
        shared.items.push_back(i);
        shared.not_empty.wake_one();
    }
}

Task<void> consume(Shared& shared, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        auto guard = co_await shared.mutex.co_lock();
        while (shared.items.empty())
            co_await shared.not_empty.co_wait(guard);
        shared.sum += shared.items.front();
        shared.items.pop_front();
        shared.not_full.wake_one();
    }
}

void producers_and_consumers_on_many_threads_lose_nothing() {
    Contexts contexts(4);
    Shared shared;
    constexpr unsigned kEach = 500;
    sync_wait(*contexts.home, run_everywhere(contexts, 20, [&](unsigned i) {
        return i % 2 ? produce(shared, kEach) : consume(shared, kEach);
    }));
    g_assert_cmpuint(shared.sum, ==, 10 * (kEach * (kEach + 1) / 2));
    g_assert_true(shared.items.empty());
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    add("/co-queue/waiters-are-woken-in-order-with-the-mutex-held",
        waiters_are_woken_in_order_of_arrival_with_the_mutex_held);
    add("/co-queue/stress", producers_and_consumers_on_many_threads_lose_nothing);
    return g_test_run();
}
