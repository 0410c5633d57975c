#include "util/thread_pool.h"

#include <chrono>
#include <cstdlib>
#include <system_error>
#include <thread>

#include "util/report.h"

namespace ashlar {

namespace {
constexpr auto kIdleLifetime = std::chrono::seconds(10);

thread_local OwnWork current_own_work = OwnWork::None;
}  // namespace

// Not inlined: a coroutine that is resumed on another thread must not keep the address of this one's.
[[gnu::noinline]] OwnWork own_work() {
    return current_own_work;
}

[[gnu::noinline]] void set_own_work(OwnWork work) {
    current_own_work = work;
}

ThreadPool& ThreadPool::instance() {
    static ThreadPool* pool = new ThreadPool;  // its threads are detached and may outlive main()
    return *pool;
}

void ThreadPool::submit(Job& job) {
    std::unique_lock guard(lock_);
    job.following = nullptr;
    *tail_ = &job;
    tail_ = &job.following;
    send_for_one(guard);
}

// Has one more thread look at the queue, if one is needed and none is on its way: that one sends for the next before it
// works. So short jobs are left to few threads, and long ones get a thread each. Releases the lock.
void ThreadPool::send_for_one(std::unique_lock<std::mutex>& guard) {
    if (!head_ || coming_ || (idle_ == 0 && (threads_ == kMaxThreads || !start_thread()))) {
        guard.unlock();
        return;
    }
    coming_ = true;
    const bool asleep = idle_ > 0;
    guard.unlock();
    if (asleep)
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

ThreadPool::Job* ThreadPool::take() {
    Job* job = head_;
    if (job && !(head_ = job->following))
        tail_ = &head_;
    return job;
}

void ThreadPool::thread_main() {
    std::unique_lock guard(lock_);
    idle_++;
    while (work_.wait_for(guard, kIdleLifetime, [this] {
        coming_ = false;
        return head_ != nullptr;
    })) {
        idle_--;
        Job* job = take();
        send_for_one(guard);
        while (job) {
            job->work(*job);
            guard.lock();
            Job* next = take();
            // Idle before anybody knows that the job is done: whoever submits the next one need not start a thread.
            if (!next)
                idle_++;
            guard.unlock();
            job->wake();
            job = next;
        }
        guard.lock();
    }
    idle_--;
    threads_--;
}

}  // namespace ashlar
