#include "util/timer.h"

#include <algorithm>

#include "tests/unit/runtime_test.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

constexpr int64_t kMs = 1'000'000;

Task<void> sleep_for(int64_t ns) {
    int64_t start = now_ns();
    co_await co_sleep(ns);
    g_assert_cmpint(now_ns() - start, >=, ns);
}

void a_sleep_is_never_shorter_than_asked_for() {
    auto context = make_context();
    for (int64_t ns : {int64_t{0}, int64_t{1}, 50'000 * int64_t{1}, kMs, 3 * kMs})
        sync_wait(*context, sleep_for(ns));
}

struct Noting : Timer {
    std::vector<int>& order;
    int id;

    Noting(AioContext& context, std::vector<int>& o, int i)
        : Timer(context, [](Timer& t) { static_cast<Noting&>(t).order.push_back(static_cast<Noting&>(t).id); }),
          order(o),
          id(i) {}
};

void a_timer_that_is_disarmed_or_destroyed_does_not_fire() {
    auto context = make_context();
    std::vector<int> order;
    Noting kept(*context, order, 1), disarmed(*context, order, 2);
    {
        Noting destroyed(*context, order, 3);
        destroyed.arm(now_ns());
        disarmed.arm(now_ns());
        kept.arm(now_ns());
        disarmed.disarm();
    }
    sync_wait(*context, sleep_for(kMs));
    g_assert_true(order == std::vector<int>{1});
    g_assert_false(kept.armed());
}

void arming_again_replaces_the_deadline() {
    auto context = make_context();
    std::vector<int> order;
    Noting timer(*context, order, 1);
    timer.arm(now_ns());
    timer.arm(now_ns() + 3600 * 1000 * kMs);
    sync_wait(*context, sleep_for(kMs));
    g_assert_true(order.empty() && timer.armed());
    timer.arm(now_ns());
    sync_wait(*context, sleep_for(kMs));
    g_assert_true(order == std::vector<int>{1});
}

struct Killer : Timer {
    std::unique_ptr<Noting>& victim;
    Killer(AioContext& context, std::unique_ptr<Noting>& v)
        : Timer(context, [](Timer& t) { static_cast<Killer&>(t).victim.reset(); }), victim(v) {}
};

void a_timer_may_destroy_another_that_is_due() {
    auto context = make_context();
    std::vector<int> order;
    auto victim = std::make_unique<Noting>(*context, order, 1);
    Killer killer(*context, victim);
    int64_t now = now_ns();
    killer.arm(now);
    victim->arm(now + 1);
    sync_wait(*context, sleep_for(kMs));
    g_assert_true(order.empty() && !victim);
}

// Arms, moves and disarms at random and compares with a sorted list.
void any_number_of_timers_fire_in_the_order_of_their_deadlines() {
    auto context = make_context();
    auto random = random_numbers();
    constexpr int kTimers = 500;
    std::vector<int> order;
    std::vector<std::unique_ptr<Noting>> timers;
    for (int i = 0; i < kTimers; i++)
        timers.push_back(std::make_unique<Noting>(*context, order, i));
    int64_t base = now_ns();
    for (int step = 0; step < 5000; step++) {
        Timer& timer = *timers[random() % kTimers];
        if (random() % 4 == 0)
            timer.disarm();
        else
            timer.arm(base + static_cast<int64_t>(random() % 1'000'000));
    }
    std::vector<std::pair<int64_t, int>> expected;
    for (int i = 0; i < kTimers; i++)
        if (timers[static_cast<size_t>(i)]->armed())
            expected.emplace_back(timers[static_cast<size_t>(i)]->deadline(), i);
    std::sort(expected.begin(), expected.end());
    sync_wait(*context, sleep_for(2 * kMs));
    g_assert_cmpuint(order.size(), ==, expected.size());
    for (size_t i = 0; i < order.size(); i++)
        g_assert_cmpint(timers[static_cast<size_t>(order[i])]->deadline(), ==, expected[i].first);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    add("/timer/a-sleep-is-never-shorter-than-asked-for", a_sleep_is_never_shorter_than_asked_for);
    add("/timer/disarmed-or-destroyed-does-not-fire", a_timer_that_is_disarmed_or_destroyed_does_not_fire);
    add("/timer/arming-again-replaces-the-deadline", arming_again_replaces_the_deadline);
    add("/timer/a-timer-may-destroy-another-that-is-due", a_timer_may_destroy_another_that_is_due);
    add("/timer/stress", any_number_of_timers_fire_in_the_order_of_their_deadlines);
    return g_test_run();
}
