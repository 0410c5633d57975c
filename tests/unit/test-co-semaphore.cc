#include "util/co_semaphore.h"

#include <atomic>

#include "tests/unit/runtime_test.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

Task<void> acquire_and_note(CoSemaphore& semaphore, int64_t units, std::string& order, char c) {
    co_await semaphore.co_acquire(units);
    order += c;
}

Task<void> large_before_small(std::string& order) {
    CoSemaphore semaphore(4);
    TaskScope scope;
    co_await semaphore.co_acquire(3);
    scope.spawn(acquire_and_note(semaphore, 4, order, 'L'));
    scope.spawn(acquire_and_note(semaphore, 1, order, 's'));  // one is free, but the large one came first
    g_assert_false(semaphore.try_acquire(1));
    co_await co_sleep(1'000'000);
    g_assert_cmpstr(order.c_str(), ==, "");
    semaphore.release(3);
    co_await co_sleep(1'000'000);
    g_assert_cmpstr(order.c_str(), ==, "L");
    semaphore.release(4);
    co_await scope.join();
    g_assert_cmpint(semaphore.available(), ==, 3);
}

void a_large_request_is_not_overtaken_by_a_small_one() {
    auto context = make_context();
    std::string order;
    sync_wait(*context, large_before_small(order));
    g_assert_cmpstr(order.c_str(), ==, "Ls");
}

constexpr int64_t kUnits = 10;

struct Shared {
    CoSemaphore semaphore{kUnits};
    std::atomic<int64_t> taken{0};
};

Task<void> take_and_give(Shared& shared, std::minstd_rand random, int rounds) {
    for (int i = 0; i < rounds; i++) {
        auto units = static_cast<int64_t>(1 + random() % kUnits);
        co_await shared.semaphore.co_acquire(units);
        g_assert_cmpint(shared.taken += units, <=, kUnits);
        if (random() % 2)
            co_await co_yield_now();
        shared.taken -= units;
        shared.semaphore.release(units);
    }
}

void many_threads_never_have_more_than_there_is() {
    Contexts contexts(4);
    Shared shared;
    sync_wait(*contexts.home,
              run_everywhere(contexts, 40, [&](unsigned) { return take_and_give(shared, random_numbers(), 300); }));
    g_assert_cmpint(shared.semaphore.available(), ==, kUnits);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    add("/co-semaphore/a-large-request-is-not-overtaken-by-a-small-one",
        a_large_request_is_not_overtaken_by_a_small_one);
    add("/co-semaphore/stress", many_threads_never_have_more_than_there_is);
    return g_test_run();
}
