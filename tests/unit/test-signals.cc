#include "util/signals.h"

#include <glib.h>
#include <unistd.h>

#include "util/sync_wait.h"
#include "util/task_scope.h"

using namespace ashlar;

namespace {

Task<void> wait_for_one(Signals& signals, int& got) {
    got = co_await signals.co_next();
}

Task<void> send_while_waiting(Signals& signals) {
    TaskScope scope;
    int got = 0;
    scope.spawn(wait_for_one(signals, got));
    co_await co_yield_now();
    g_assert_cmpint(got, ==, 0);
    kill(getpid(), SIGUSR2);
    co_await scope.join();
    g_assert_cmpint(got, ==, SIGUSR2);
}

Task<void> cancel_while_waiting(Signals& signals) {
    TaskScope scope;
    int got = 0;
    scope.spawn(wait_for_one(signals, got));
    co_await co_yield_now();
    signals.cancel();
    co_await scope.join();
    g_assert_cmpint(got, ==, -ECANCELED);
}

void a_signal_resumes_the_waiter() {
    auto context = AioContext::create();
    Signals signals({SIGUSR1, SIGUSR2});
    sync_wait(**context, send_while_waiting(signals));
}

void a_signal_that_came_before_is_not_lost() {
    auto context = AioContext::create();
    Signals signals({SIGUSR1});
    kill(getpid(), SIGUSR1);
    g_assert_cmpint(sync_wait(**context, signals.co_next()), ==, SIGUSR1);
}

void cancel_ends_the_wait() {
    auto context = AioContext::create();
    Signals signals({SIGUSR1});
    sync_wait(**context, cancel_while_waiting(signals));
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/signals/a-signal-resumes-the-waiter", a_signal_resumes_the_waiter);
    g_test_add_func("/signals/a-signal-that-came-before-is-not-lost", a_signal_that_came_before_is_not_lost);
    g_test_add_func("/signals/cancel-ends-the-wait", cancel_ends_the_wait);
    return g_test_run();
}
