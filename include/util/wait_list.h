// WaitList: coroutines that wait in order of arrival; what the synchronisation primitives other than CoMutex keep.
//
// Not thread-safe: its owner guards it with a lock that is never held across a suspension.
#pragma once

#include "util/aio_context.h"

namespace ashlar {

class WaitList {
public:
    struct Waiter : CoWaiter {
        Waiter* following = nullptr;
    };

    WaitList() = default;
    WaitList(const WaitList&) = delete;
    WaitList& operator=(const WaitList&) = delete;

    bool empty() const { return !head_; }
    Waiter& front() const { return *head_; }
    void push(Waiter& waiter) {
        waiter.following = nullptr;
        *tail_ = &waiter;
        tail_ = &waiter.following;
    }
    Waiter& pop() {
        Waiter& waiter = *head_;
        head_ = waiter.following;
        if (!head_)
            tail_ = &head_;
        return waiter;
    }
    void take_all_from(WaitList& other) {
        while (!other.empty())
            push(other.pop());
    }
    void wake_all() {
        while (!empty())
            pop().wake();  // a waiter may be gone once it is woken
    }

private:
    Waiter* head_ = nullptr;
    Waiter** tail_ = &head_;
};

}  // namespace ashlar
