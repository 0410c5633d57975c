#include "util/co_queue.h"
#include "util/co_rwlock.h"
#include "util/co_semaphore.h"

namespace ashlar {

namespace {

// Suspends in a list that the mutex guards; the mutex is given up once the coroutine can be woken.
struct QueueAwaiter : WaitList::Waiter {
    WaitList& list;
    CoMutex::Guard& guard;

    QueueAwaiter(WaitList& l, CoMutex::Guard& g) : list(l), guard(g) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) {
        prepare(h);
        list.push(*this);
        CoMutex::Guard held = std::move(guard);  // once it is unlocked this frame may be gone
    }
    void await_resume() const noexcept {}
};

}  // namespace

// --- CoQueue ---

Task<void> CoQueue::co_wait(CoMutex::Guard& guard) {
    CoMutex& mutex = guard.mutex();
    co_await QueueAwaiter(waiters_, guard);
    guard = co_await mutex.co_lock();
}

bool CoQueue::wake_one() {
    if (waiters_.empty())
        return false;
    waiters_.pop().wake();
    return true;
}

// --- CoSemaphore ---

struct CoSemaphore::Awaiter : WaitList::Waiter {
    CoSemaphore& semaphore;
    int64_t units;

    Awaiter(CoSemaphore& s, int64_t n) : semaphore(s), units(n) {}
    bool await_ready() { return semaphore.try_acquire(units); }
    bool await_suspend(std::coroutine_handle<> h) {
        std::lock_guard guard(semaphore.lock_);
        if (semaphore.waiters_.empty() && semaphore.free_ >= units) {
            semaphore.free_ -= units;
            return false;
        }
        prepare(h);
        semaphore.waiters_.push(*this);
        return true;
    }
    void await_resume() const noexcept {}
};

bool CoSemaphore::try_acquire(int64_t units) {
    std::lock_guard guard(lock_);
    if (!waiters_.empty() || free_ < units)
        return false;
    free_ -= units;
    return true;
}

Task<void> CoSemaphore::co_acquire(int64_t units) {
    co_await Awaiter(*this, units);
}

void CoSemaphore::release(int64_t units) {
    WaitList woken;
    {
        std::lock_guard guard(lock_);
        free_ += units;
        while (!waiters_.empty() && static_cast<Awaiter&>(waiters_.front()).units <= free_) {
            free_ -= static_cast<Awaiter&>(waiters_.front()).units;
            woken.push(waiters_.pop());
        }
    }
    woken.wake_all();
}

int64_t CoSemaphore::available() const {
    std::lock_guard guard(lock_);
    return free_;
}

// --- CoRwLock ---

struct CoRwLock::Awaiter : WaitList::Waiter {
    CoRwLock& rwlock;
    bool writer;

    Awaiter(CoRwLock& l, bool w) : rwlock(l), writer(w) {}
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> h) {
        std::lock_guard guard(rwlock.lock_);
        if (rwlock.waiters_.empty() && rwlock.may_enter(writer)) {
            rwlock.enter(writer);
            return false;
        }
        prepare(h);
        rwlock.waiters_.push(*this);
        return true;
    }
    void await_resume() const noexcept {}
};

Task<void> CoRwLock::co_read_lock() {
    co_await Awaiter(*this, false);
}

Task<void> CoRwLock::co_write_lock() {
    co_await Awaiter(*this, true);
}

void CoRwLock::admit(WaitList& woken) {
    while (!waiters_.empty() && may_enter(static_cast<Awaiter&>(waiters_.front()).writer)) {
        enter(static_cast<Awaiter&>(waiters_.front()).writer);
        woken.push(waiters_.pop());
    }
}

void CoRwLock::unlock() {
    WaitList woken;
    {
        std::lock_guard guard(lock_);
        holders_ = holders_ < 0 ? 0 : holders_ - 1;
        admit(woken);
    }
    woken.wake_all();
}

void CoRwLock::downgrade() {
    WaitList woken;
    {
        std::lock_guard guard(lock_);
        holders_ = 1;
        admit(woken);
    }
    woken.wake_all();
}

}  // namespace ashlar
