// Gate: admission to a resource that may be closed.
//
// A request enters before it touches the resource and leaves when it has finished, from any thread. close() refuses
// newcomers and suspends until everyone inside has left; open() admits again, waking those who waited. Closing nests:
// the gate opens when as many have opened as have closed it. The open gate costs one atomic operation each way.
#pragma once

#include <atomic>
#include <cassert>
#include <mutex>

#include "util/wait_list.h"

namespace ashlar {

class Gate {
public:
    class Pass;  // inside while it lives; leaves when destroyed
    class EnterAwaiter;

    Gate() = default;
    Gate(const Gate&) = delete;
    ~Gate() { assert(inside() == 0); }

    [[nodiscard]] EnterAwaiter enter();  // gives a Pass; suspends while the gate is closed
    [[nodiscard]] bool try_enter();      // without a Pass: balance it with leave()
    void leave();

    void close_begin();                     // refuses newcomers from now on; any thread
    [[nodiscard]] Task<void> wait_empty();  // after close_begin(): suspends until nobody is inside
    [[nodiscard]] Task<void> close();       // both
    void open();

    bool is_closed() const { return state_.load(std::memory_order_acquire) & kClosed; }
    unsigned inside() const { return state_.load(std::memory_order_acquire) >> 1; }  // stale as soon as it is read

private:
    static constexpr unsigned kClosed = 1;
    static constexpr unsigned kOne = 2;
    struct EmptyAwaiter;

    std::atomic<unsigned> state_{0};  // the number inside and the closed bit
    std::mutex lock_;
    unsigned closers_ = 0;
    WaitList outside_;  // wait for open()
    WaitList closing_;  // wait for nobody inside
};

class Gate::Pass {
public:
    explicit Pass(Gate& gate) : gate_(&gate) {}
    Pass(Pass&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Pass& operator=(Pass&&) = delete;
    ~Pass() {
        if (gate_)
            gate_->leave();
    }

private:
    Gate* gate_;
};

class Gate::EnterAwaiter : WaitList::Waiter {
public:
    explicit EnterAwaiter(Gate& gate) : gate_(gate) {}
    bool await_ready() { return gate_.try_enter(); }
    bool await_suspend(std::coroutine_handle<> h);
    Pass await_resume() { return Pass(gate_); }

private:
    Gate& gate_;
};

inline Gate::EnterAwaiter Gate::enter() {
    return EnterAwaiter(*this);
}

inline bool Gate::try_enter() {
    unsigned state = state_.load(std::memory_order_relaxed);
    while (!(state & kClosed))
        if (state_.compare_exchange_weak(state, state + kOne, std::memory_order_acquire, std::memory_order_relaxed))
            return true;
    return false;
}

}  // namespace ashlar
