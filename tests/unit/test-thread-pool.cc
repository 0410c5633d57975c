#include "util/thread_pool.h"

#include <atomic>

#include "tests/unit/forbid.h"
#include "tests/unit/runtime_test.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

Task<void> call_and_return(AioContext& home) {
    auto caller = std::this_thread::get_id();
    auto callee = co_await run_blocking([] { return std::this_thread::get_id(); });
    g_assert_true(callee != caller);
    g_assert_true(std::this_thread::get_id() == caller);
    g_assert_true(AioContext::current() == &home);
}

void a_call_runs_in_another_thread_and_returns_to_its_own() {
    auto context = make_context();
    sync_wait(*context, call_and_return(*context));
}

Task<void> wait_for(std::atomic<int>& arrived, int all) {
    co_await run_blocking([&] {
        arrived++;
        while (arrived < all)
            std::this_thread::yield();
        return 0;
    });
}

Task<void> meet(int all) {
    std::atomic<int> arrived{0};
    TaskScope scope;
    for (int i = 0; i < all; i++)
        scope.spawn(wait_for(arrived, all));
    co_await scope.join();
}

// Each waits for all the others, so that nobody may be queued behind another one while there are threads.
void calls_run_at_the_same_time() {
    auto context = make_context();
    sync_wait(*context, meet(8));
    g_assert_cmpuint(ThreadPool::instance().threads(), >=, 8);
}

Task<void> nap(std::atomic<unsigned>& now, std::atomic<unsigned>& most) {
    co_await run_blocking([&] {
        unsigned n = ++now;
        for (unsigned m = most; n > m && !most.compare_exchange_weak(m, n);) {
        }
        g_usleep(1000);
        --now;
        return 0;
    });
}

void there_are_never_more_threads_than_the_limit() {
    Contexts contexts(2);
    std::atomic<unsigned> now{0}, most{0};
    sync_wait(*contexts.home, run_everywhere(contexts, 500, [&](unsigned) { return nap(now, most); }));
    g_assert_cmpuint(most, <=, ThreadPool::kMaxThreads);
    g_assert_cmpuint(most, >, 1);
    g_assert_cmpuint(now, ==, 0);
}

Task<int> add_in_pool(int a, int b) {
    co_return co_await run_blocking([=] { return a + b; });
}

// The thread that wakes a context must not touch it any more once the coroutine has ended.
void a_context_may_go_as_soon_as_its_coroutine_has_ended() {
    for (int i = 0; i < 300; i++) {
        auto context = make_context();
        g_assert_cmpint(sync_wait(*context, add_in_pool(i, 1)), ==, i + 1);
    }
}

void when_there_are_no_more_threads_the_others_do_the_work() {
    std::string said = in_child([] {
        auto context = make_context();
        g_assert_cmpint(sync_wait(*context, add_in_pool(1, 2)), ==, 3);
        forbid(__NR_clone, EAGAIN);
        forbid(__NR_clone3, EAGAIN);
        std::atomic<unsigned> now{0}, most{0};
        Contexts contexts(0);
        sync_wait(*contexts.home, run_everywhere(contexts, 20, [&](unsigned) { return nap(now, most); }));
        g_assert_cmpuint(most, ==, 1);
    });
    g_assert_cmpstr(said.c_str(), ==, "");
}

void one_after_the_other_takes_one_thread() {
    std::string said = in_child([] {
        auto context = make_context();
        for (int i = 0; i < 2000; i++)
            sync_wait(*context, add_in_pool(i, 1));
        g_assert_cmpuint(ThreadPool::instance().threads(), ==, 1);
    });
    g_assert_cmpstr(said.c_str(), ==, "");
}

Task<void> note(std::string& order, char c) {
    order += c;
    co_return;
}

Task<void> note_when_busy(std::string& order, std::thread::id& where) {
    where = co_await run_busy([] { return std::this_thread::get_id(); });
    order += 'b';
}

Task<void> work_here(OwnWork own) {
    set_own_work(own);
    const auto here = std::this_thread::get_id();
    auto call = co_await run_blocking([] { return std::this_thread::get_id(); });
    g_assert_true((call == here) == (own != OwnWork::None));
    std::string order;
    std::thread::id busy;
    TaskScope scope;
    scope.spawn(note_when_busy(order, busy));
    scope.spawn(note(order, 'o'));  // goes on first
    g_assert_cmpstr(order.c_str(), ==, "o");
    co_await scope.join();
    g_assert_cmpstr(order.c_str(), ==, "ob");
    g_assert_true((busy == here) == (own == OwnWork::All));
    set_own_work(OwnWork::None);
}

void a_thread_does_its_own_work() {
    auto context = make_context();
    for (OwnWork own : {OwnWork::None, OwnWork::BlockingCalls, OwnWork::All})
        sync_wait(*context, work_here(own));
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/thread-pool/when-there-are-no-more-threads",
                    when_there_are_no_more_threads_the_others_do_the_work);
    add("/thread-pool/one-after-the-other-takes-one-thread", one_after_the_other_takes_one_thread);
    add("/thread-pool/a-thread-does-its-own-work", a_thread_does_its_own_work);
    add("/thread-pool/a-call-returns-to-its-own-thread", a_call_runs_in_another_thread_and_returns_to_its_own);
    add("/thread-pool/calls-run-at-the-same-time", calls_run_at_the_same_time);
    add("/thread-pool/never-more-threads-than-the-limit", there_are_never_more_threads_than_the_limit);
    add("/thread-pool/a-context-may-go-as-soon-as-its-coroutine-has-ended",
        a_context_may_go_as_soon_as_its_coroutine_has_ended);
    return g_test_run();
}
