#include "block/request_tracker.h"

namespace ashlar {

struct RequestTracker::OverlapAwaiter : WaitList::Waiter {
    RequestTracker& tracker;
    Request& request;

    OverlapAwaiter(RequestTracker& t, Request& r) : tracker(t), request(r) {}
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> h) {
        std::lock_guard guard(tracker.lock_);
        if (!tracker.must_wait(request))
            return false;
        prepare(h);
        request.waiter_ = this;
        return true;
    }
    void await_resume() const noexcept {}
};

Task<void> RequestTracker::co_enter(Request& request) {
    {
        std::lock_guard guard(lock_);
        request.previous_ = last_;
        (last_ ? last_->next_ : first_) = &request;
        last_ = &request;
        request.state_ = Request::State::InList;
        if (request.kind_ == Kind::Serialising)
            plain_.close_begin();
    }
    // Who is in the gate entered before this request, or before the one that closed it: none of them waits for us.
    if (request.kind_ == Kind::Serialising)
        co_await plain_.wait_empty();
    co_await OverlapAwaiter(*this, request);
}

bool RequestTracker::must_wait(const Request& request) const {
    for (const Request* r = request.previous_; r; r = r->previous_)
        if (r->overlaps(request) && (r->kind_ == Kind::Serialising || request.kind_ == Kind::Serialising))
            return true;
    return false;
}

void RequestTracker::leave(Request& request) {
    WaitList woken;
    {
        std::lock_guard guard(lock_);
        (request.previous_ ? request.previous_->next_ : first_) = request.next_;
        (request.next_ ? request.next_->previous_ : last_) = request.previous_;
        for (Request* r = request.next_; r; r = r->next_) {
            if (r->waiter_ && !must_wait(*r)) {
                woken.push(*r->waiter_);
                r->waiter_ = nullptr;
            }
        }
        if (request.kind_ == Kind::Serialising)
            plain_.open();
    }
    woken.wake_all();
}

}  // namespace ashlar
