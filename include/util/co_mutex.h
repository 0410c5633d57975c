// CoMutex: mutual exclusion for coroutines, in order of arrival, across AioContexts.
//
// co_lock() suspends, so it may be held across I/O; the waiter is resumed in its own context with the mutex held. The
// uncontended path is one atomic operation. Not recursive.
//
//     auto guard = co_await mutex.co_lock();
#pragma once

#include <atomic>
#include <cassert>
#include <cstdint>

#include "util/aio_context.h"

namespace ashlar {

class CoMutex {
public:
    class Guard;
    class LockAwaiter;

    CoMutex() = default;
    CoMutex(const CoMutex&) = delete;
    ~CoMutex() { assert(state_.load() == kFree); }

    [[nodiscard]] LockAwaiter co_lock();  // gives a Guard
    [[nodiscard]] bool try_lock();
    void unlock();  // hands over to the one who waits longest

private:
    // kFree, kHeld, or held with the address of the newest waiter, each linked to the one before it.
    static constexpr uintptr_t kFree = 1;
    static constexpr uintptr_t kHeld = 0;

    std::atomic<uintptr_t> state_{kFree};
    LockAwaiter* oldest_ = nullptr;  // the holder's: waiters in order of arrival
};

class CoMutex::Guard {
public:
    explicit Guard(CoMutex& mutex) : mutex_(&mutex) {}
    Guard(Guard&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
    Guard& operator=(Guard&& other) noexcept {
        unlock();
        mutex_ = std::exchange(other.mutex_, nullptr);
        return *this;
    }
    ~Guard() { unlock(); }
    CoMutex& mutex() const { return *mutex_; }  // while it is held
    void unlock() {
        if (mutex_)
            std::exchange(mutex_, nullptr)->unlock();
    }

private:
    CoMutex* mutex_;
};

class CoMutex::LockAwaiter : CoWaiter {
public:
    explicit LockAwaiter(CoMutex& mutex) : mutex_(mutex) {}
    bool await_ready() { return mutex_.try_lock(); }
    bool await_suspend(std::coroutine_handle<> h);
    Guard await_resume() { return Guard(mutex_); }

private:
    friend class CoMutex;
    CoMutex& mutex_;
    LockAwaiter* link_ = nullptr;
};

inline CoMutex::LockAwaiter CoMutex::co_lock() {
    return LockAwaiter(*this);
}

inline bool CoMutex::try_lock() {
    uintptr_t expected = kFree;
    return state_.compare_exchange_strong(expected, kHeld, std::memory_order_acquire, std::memory_order_relaxed);
}

}  // namespace ashlar
