#include "util/co_mutex.h"

namespace ashlar {

bool CoMutex::LockAwaiter::await_suspend(std::coroutine_handle<> h) {
    prepare(h);
    uintptr_t state = mutex_.state_.load(std::memory_order_relaxed);
    for (;;) {
        if (state == kFree) {
            if (mutex_.state_.compare_exchange_weak(state, kHeld, std::memory_order_acquire, std::memory_order_relaxed))
                return false;
        } else {
            link_ = state == kHeld ? nullptr : reinterpret_cast<LockAwaiter*>(state);
            if (mutex_.state_.compare_exchange_weak(state, reinterpret_cast<uintptr_t>(this), std::memory_order_release,
                                                    std::memory_order_relaxed))
                return true;
        }
    }
}

void CoMutex::unlock() {
    if (!oldest_) {
        uintptr_t state = kHeld;
        if (state_.compare_exchange_strong(state, kFree, std::memory_order_release, std::memory_order_relaxed))
            return;
        // Take everyone who has arrived and put them in order.
        auto* newest = reinterpret_cast<LockAwaiter*>(state_.exchange(kHeld, std::memory_order_acquire));
        while (newest) {
            LockAwaiter* before = newest->link_;
            newest->link_ = oldest_;
            oldest_ = newest;
            newest = before;
        }
    }
    LockAwaiter* next = oldest_;
    oldest_ = next->link_;
    next->wake();
}

}  // namespace ashlar
