#include "block/flush_queue.h"

#include "block/block_driver.h"

namespace ashlar {

struct FlushQueue::Awaiter : WaitList::Waiter {
    FlushQueue& queue;
    bool leads = true;  // it is this one's turn to flush, for itself and its followers
    WaitList followers;
    int ret = 0;  // of a follower

    explicit Awaiter(FlushQueue& q) : queue(q) {}
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> h) {
        std::lock_guard guard(queue.lock_);
        if (!queue.running_) {
            queue.running_ = true;
            return false;
        }
        prepare(h);
        queue.waiting_.push(*this);
        return true;
    }
    void await_resume() const noexcept {}
};

Task<int> FlushQueue::co_flush(BlockDriver& driver) {
    Awaiter self(*this);
    co_await self;
    if (!self.leads)
        co_return self.ret;
    int ret = co_await driver.co_flush();

    Awaiter* successor = nullptr;
    {
        std::lock_guard guard(lock_);
        if (waiting_.empty()) {
            running_ = false;
        } else {
            successor = static_cast<Awaiter*>(&waiting_.pop());
            successor->followers.take_all_from(waiting_);
        }
    }
    if (successor)
        successor->wake();
    while (!self.followers.empty()) {
        auto& follower = static_cast<Awaiter&>(self.followers.pop());
        follower.leads = false;
        follower.ret = ret;
        follower.wake();
    }
    co_return ret;
}

}  // namespace ashlar
