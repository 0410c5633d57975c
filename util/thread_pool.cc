#include "util/thread_pool.h"

#include <chrono>
#include <cstdlib>
#include <system_error>
#include <thread>

#include "util/report.h"

namespace ashlar {

namespace {
constexpr auto kIdleLifetime = std::chrono::seconds(10);
}

ThreadPool& ThreadPool::instance() {
    static ThreadPool* pool = new ThreadPool;  // its threads are detached and may outlive main()
    return *pool;
}

void ThreadPool::submit(Job& job) {
    std::lock_guard guard(lock_);
    job.following = nullptr;
    *tail_ = &job;
    tail_ = &job.following;
    queued_++;
    if (queued_ > idle_ && threads_ < kMaxThreads && start_thread())
        return;
    work_.notify_one();
}

// False if the system has no more threads, but others will come to the job.
bool ThreadPool::start_thread() {
    try {
        std::thread(&ThreadPool::thread_main, this).detach();
    } catch (const std::system_error& error) {
        if (threads_ > 0)
            return false;
        error_report("thread pool: cannot start a thread: {}", error.what());
        std::abort();
    }
    threads_++;
    return true;
}

unsigned ThreadPool::threads() const {
    std::lock_guard guard(lock_);
    return threads_;
}

void ThreadPool::thread_main() {
    std::unique_lock guard(lock_);
    for (;;) {
        idle_++;
        bool found = work_.wait_for(guard, kIdleLifetime, [this] { return head_ != nullptr; });
        idle_--;
        if (!found)
            break;
        Job& job = *head_;
        head_ = job.following;
        if (!head_)
            tail_ = &head_;
        queued_--;
        guard.unlock();
        job.work(job);
        job.wake();
        guard.lock();
    }
    threads_--;
}

}  // namespace ashlar
