#include "util/co_turns.h"

#include <cassert>
#include <utility>

namespace ashlar {

bool CoTurns::Awaiter::await_suspend(std::coroutine_handle<> h) {
    std::lock_guard guard(turns.lock_);
    if (turns.ended_ || turns.now_ == ticket)
        return false;
    assert(ticket > turns.now_ && ticket - turns.now_ < turns.waiting_.size());
    prepare(h);
    turns.waiting_[ticket % turns.waiting_.size()] = this;
    return true;
}

void CoTurns::pass(uint64_t ticket) {
    Awaiter* next;
    {
        std::lock_guard guard(lock_);
        if (ended_)
            return;
        assert(ticket == now_);
        ++now_;
        next = std::exchange(waiting_[now_ % waiting_.size()], nullptr);
    }
    if (next)
        next->wake();
}

void CoTurns::end() {
    std::vector<Awaiter*> all;
    {
        std::lock_guard guard(lock_);
        ended_ = true;
        all.assign(waiting_.size(), nullptr);
        all.swap(waiting_);
    }
    for (Awaiter* waiter : all)
        if (waiter)
            waiter->wake();
}

}  // namespace ashlar
