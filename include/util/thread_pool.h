// ThreadPool: runs blocking system calls in threads of its own, for aio=threads and for calls that have no asynchronous
// form (ftruncate, getaddrinfo, …).
//
// One for the process, made at first use; threads are started on demand, at most kMaxThreads, and end after a while
// without work. A job is owned by the coroutine that awaits it, which is resumed in its own AioContext.
//
//     int ret = co_await run_blocking([&] { return ftruncate(fd, size) < 0 ? -errno : 0; });
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
    bool start_thread();
    void thread_main();

    mutable std::mutex lock_;
    std::condition_variable work_;
    Job* head_ = nullptr;
    Job** tail_ = &head_;
    unsigned queued_ = 0;
    unsigned threads_ = 0;
    unsigned idle_ = 0;
};

template <class Fn>
class BlockingCall : ThreadPool::Job {
public:
    using Value = std::invoke_result_t<Fn&>;

    explicit BlockingCall(Fn fn) : fn_(std::move(fn)) {
        work = [](Job& job) {
            auto& self = static_cast<BlockingCall&>(job);
            self.value_.emplace(self.fn_());
        };
    }
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) {
        prepare(h);
        ThreadPool::instance().submit(*this);
    }
    Value await_resume() { return std::move(*value_); }

private:
    Fn fn_;
    std::optional<Value> value_;
};

// Awaits fn() run in a thread of the pool; `fn` does not suspend and gives a value.
template <class Fn>
[[nodiscard]] BlockingCall<Fn> run_blocking(Fn fn) {
    return BlockingCall<Fn>(std::move(fn));
}

}  // namespace ashlar
