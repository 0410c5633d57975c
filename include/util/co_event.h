// CoEvent: a flag that coroutines wait for. set() wakes all who wait; whoever comes later does not wait until reset().
// pulse() wakes those who wait now, to look at a condition of their own: `while (!ready) co_await event.wait();`.
//
// For coroutines of one AioContext: everything is called in its thread. A coroutine is resumed in a later turn of the
// loop, and finds the flag reset if somebody has been quicker.
#pragma once

#include "util/wait_list.h"

namespace ashlar {

class CoEvent {
public:
    CoEvent() = default;
    CoEvent(const CoEvent&) = delete;

    void set() {
        set_ = true;
        waiters_.wake_all();
    }
    void reset() { set_ = false; }
    void pulse() { waiters_.wake_all(); }
    bool is_set() const { return set_; }

    struct WaitAwaiter : WaitList::Waiter {
        CoEvent& event;

        explicit WaitAwaiter(CoEvent& e) : event(e) {}
        bool await_ready() const { return event.set_; }
        void await_suspend(std::coroutine_handle<> h) {
            prepare(h);
            event.waiters_.push(*this);
        }
        void await_resume() const noexcept {}
    };
    [[nodiscard]] WaitAwaiter wait() { return WaitAwaiter(*this); }

private:
    WaitList waiters_;
    bool set_ = false;
};

}  // namespace ashlar
