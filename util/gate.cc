#include "util/gate.h"

namespace ashlar {

bool Gate::EnterAwaiter::await_suspend(std::coroutine_handle<> h) {
    std::lock_guard guard(gate_.lock_);
    if (gate_.try_enter())
        return false;
    prepare(h);
    gate_.outside_.push(*this);  // open() lets us in before it wakes us
    return true;
}

void Gate::leave() {
    // Once nobody is inside, a closer may destroy the gate: only the last one out of a closed gate takes the lock,
    // which the closer's own check takes too.
    unsigned state = state_.load(std::memory_order_relaxed);
    while (state != (kOne | kClosed))
        if (state_.compare_exchange_weak(state, state - kOne, std::memory_order_release, std::memory_order_relaxed))
            return;
    WaitList woken;
    {
        std::lock_guard guard(lock_);
        if (state_.fetch_sub(kOne, std::memory_order_acq_rel) < 2 * kOne)
            woken.take_all_from(closing_);
    }
    woken.wake_all();
}

void Gate::close_begin() {
    std::lock_guard guard(lock_);
    if (closers_++ == 0)
        state_.fetch_or(kClosed, std::memory_order_acq_rel);
}

struct Gate::EmptyAwaiter : WaitList::Waiter {
    Gate& gate;

    explicit EmptyAwaiter(Gate& g) : gate(g) {}
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> h) {
        std::lock_guard guard(gate.lock_);
        if (gate.inside() == 0)
            return false;
        prepare(h);
        gate.closing_.push(*this);
        return true;
    }
    void await_resume() const noexcept {}
};

Task<void> Gate::wait_empty() {
    assert(is_closed());
    co_await EmptyAwaiter(*this);
}

Task<void> Gate::close() {
    close_begin();
    co_await EmptyAwaiter(*this);
}

void Gate::open() {
    WaitList woken;
    {
        std::lock_guard guard(lock_);
        assert(closers_ > 0);
        if (--closers_ > 0)
            return;
        state_.fetch_and(~kClosed, std::memory_order_acq_rel);
        while (!outside_.empty()) {
            state_.fetch_add(kOne, std::memory_order_relaxed);
            woken.push(outside_.pop());
        }
    }
    woken.wake_all();
}

}  // namespace ashlar
