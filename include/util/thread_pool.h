// ThreadPool: runs blocking system calls in threads of its own, for aio=threads and for calls that have no asynchronous
// form (ftruncate, getaddrinfo, …).
//
// One for the process, made at first use; threads are started on demand, at most kMaxThreads, and end after a while
// without work. A job is owned by the coroutine that awaits it, which is resumed in its own AioContext.
//
//     int ret = co_await run_blocking([&] { return ftruncate(fd, size) < 0 ? -errno : 0; });
//
// A thread that runs the AioContext of a bulk job, and has nobody to answer meanwhile, may do such work itself: handing
// it over costs more than most of it takes, and what one thread reads and then writes stays in the caches of one CPU.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>

#include "util/aio_context.h"

namespace ashlar {

class ThreadPool {
public:
    static constexpr unsigned kMaxThreads = 64;

    struct Job : CoWaiter {
        void (*work)(Job&) = nullptr;  // in a thread of the pool; then the coroutine is woken
        Job* following = nullptr;
    };

    static ThreadPool& instance();
    void submit(Job& job);  // prepare()d; any thread
    unsigned threads() const;

private:
    ThreadPool() = default;
    void send_for_one(std::unique_lock<std::mutex>& guard);
    bool start_thread();
    Job* take();
    void thread_main();

    mutable std::mutex lock_;
    std::condition_variable work_;
    Job* head_ = nullptr;
    Job** tail_ = &head_;
    unsigned threads_ = 0;
    unsigned idle_ = 0;
    bool coming_ = false;  // a thread has been sent for that has not looked yet
};

// What a thread does itself instead of having the pool do it.
enum class OwnWork : uint8_t {
    None,
    BlockingCalls,
    All,  // also what keeps a CPU busy: for one of as many threads as there are CPUs for them
};
OwnWork own_work();  // of the calling thread
void set_own_work(OwnWork work);
inline bool makes_blocking_calls() {
    return own_work() != OwnWork::None;
}

enum class CallPlace : uint8_t { Pool, Here, AfterTurn };

template <class Fn>
class BlockingCall : ThreadPool::Job {
public:
    using Value = std::invoke_result_t<Fn&>;

    BlockingCall(Fn fn, CallPlace place) : fn_(std::move(fn)), place_(place) {}
    bool await_ready() {
        if (place_ == CallPlace::Here)
            value_.emplace(fn_());
        return place_ == CallPlace::Here;
    }
    void await_suspend(std::coroutine_handle<> h) {
        prepare(h);
        if (place_ == CallPlace::AfterTurn) {
            run = [](Runnable& runnable) {
                auto& self = static_cast<BlockingCall&>(runnable);
                self.value_.emplace(self.fn_());
                self.coroutine.resume();
            };
            AioContext::current()->schedule_after_turn(*this);
            return;
        }
        work = [](Job& job) {
            auto& self = static_cast<BlockingCall&>(job);
            self.value_.emplace(self.fn_());
        };
        ThreadPool::instance().submit(*this);
    }
    Value await_resume() { return std::move(*value_); }

private:
    Fn fn_;
    const CallPlace place_;
    std::optional<Value> value_;
};

// Awaits fn(), a blocking system call, run in a thread of the pool, or in this one if it makes blocking calls itself;
// `fn` does not suspend and gives a value.
template <class Fn>
[[nodiscard]] BlockingCall<Fn> run_blocking(Fn fn) {
    return BlockingCall<Fn>(std::move(fn), makes_blocking_calls() ? CallPlace::Here : CallPlace::Pool);
}

// The same for what keeps a CPU busy; a thread that does it itself lets everything else go on first
// (AioContext::schedule_after_turn()).
template <class Fn>
[[nodiscard]] BlockingCall<Fn> run_busy(Fn fn) {
    return BlockingCall<Fn>(std::move(fn), own_work() == OwnWork::All ? CallPlace::AfterTurn : CallPlace::Pool);
}

}  // namespace ashlar
