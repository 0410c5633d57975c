#include <atomic>

#include "tests/unit/runtime_test.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

void count_up(void* count) {
    ++*static_cast<int*>(count);
}

void turn(AioContext& context) {
    while (context.poll(false)) {
    }
}

void any_number_of_schedules_before_it_runs_are_one() {
    auto context = make_context();
    int count = 0;
    BottomHalf bh(*context, count_up, &count);
    turn(*context);
    g_assert_cmpint(count, ==, 0);
    bh.schedule();
    bh.schedule();
    g_assert_cmpint(count, ==, 0);
    turn(*context);
    g_assert_cmpint(count, ==, 1);
    bh.schedule();
    turn(*context);
    g_assert_cmpint(count, ==, 2);
}

void one_that_is_destroyed_does_not_run() {
    auto context = make_context();
    int count = 0;
    {
        BottomHalf bh(*context, count_up, &count);
        bh.schedule();
    }
    turn(*context);
    g_assert_cmpint(count, ==, 0);
}

void a_context_may_go_with_one_that_was_destroyed_while_scheduled() {
    int count = 0;
    auto context = make_context();
    {
        BottomHalf bh(*context, count_up, &count);
        bh.schedule();
    }
    context.reset();
    g_assert_cmpint(count, ==, 0);
}

struct Once {
    BottomHalf bh;
    int& count;

    Once(AioContext& context, int& n) : bh(context, run, this), count(n) {}
    static void run(void* argument) {
        auto* self = static_cast<Once*>(argument);
        self->count++;
        delete self;
    }
};

void it_may_destroy_itself() {
    auto context = make_context();
    int count = 0;
    (new Once(*context, count))->bh.schedule();
    turn(*context);
    g_assert_cmpint(count, ==, 1);
}

struct Again {
    BottomHalf bh;
    int count = 0;

    explicit Again(AioContext& context) : bh(context, run, this) {}
    static void run(void* argument) {
        auto* self = static_cast<Again*>(argument);
        if (++self->count < 1000)
            self->bh.schedule();
    }
};

void it_may_schedule_itself_again_and_timers_still_fire() {
    auto context = make_context();
    Again again(*context);
    again.bh.schedule();
    while (again.count < 1000)
        g_assert_true(context->poll(true));
    int never = 0;
    struct Sleeper {
        static Task<void> run(Again& a, int& n) {
            a.count = 0;
            a.bh.schedule();
            co_await co_sleep(1);
            n = a.count;
        }
    };
    sync_wait(*context, Sleeper::run(again, never));
    g_assert_cmpint(never, <, 1000);  // the timer came in between
    turn(*context);
}

struct Shared {
    std::atomic<unsigned> asked{0};
    std::atomic<unsigned> seen{0};
};

void take_note(void* argument) {
    auto* shared = static_cast<Shared*>(argument);
    shared->seen = shared->asked.load();
}

// Whatever was asked for before schedule() is seen by a run that comes after it, from any thread.
void no_schedule_from_another_thread_is_lost() {
    auto context = make_context();
    Shared shared;
    BottomHalf bh(*context, take_note, &shared);
    constexpr unsigned kThreads = 4, kRounds = 2000;
    std::vector<std::thread> threads;
    auto random = random_numbers();
    for (unsigned t = 0; t < kThreads; t++) {
        threads.emplace_back([&, own = std::minstd_rand(random())]() mutable {
            for (unsigned i = 0; i < kRounds; i++) {
                shared.asked++;
                bh.schedule();
                if (own() % 16 == 0)
                    g_usleep(own() % 100);
            }
        });
    }
    while (shared.seen < kThreads * kRounds)
        context->poll(true);
    for (auto& thread : threads)
        thread.join();
    turn(*context);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    add("/bottom-half/any-number-of-schedules-are-one", any_number_of_schedules_before_it_runs_are_one);
    add("/bottom-half/one-that-is-destroyed-does-not-run", one_that_is_destroyed_does_not_run);
    add("/bottom-half/destroyed-while-scheduled-with-its-context",
        a_context_may_go_with_one_that_was_destroyed_while_scheduled);
    add("/bottom-half/it-may-destroy-itself", it_may_destroy_itself);
    add("/bottom-half/it-may-schedule-itself-and-timers-still-fire",
        it_may_schedule_itself_again_and_timers_still_fire);
    add("/bottom-half/stress", no_schedule_from_another_thread_is_lost);
    return g_test_run();
}
