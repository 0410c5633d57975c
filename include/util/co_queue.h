// CoQueue: coroutines that wait for a condition which a CoMutex guards (a condition variable).
//
// co_wait() gives the mutex up, suspends until woken and takes it again before it returns; the caller then looks at the
// condition anew. wake_one() and wake_all() are called with the same mutex held. In order of arrival, any context.
#pragma once

#include "util/co_mutex.h"
#include "util/wait_list.h"

namespace ashlar {

class CoQueue {
public:
    [[nodiscard]] Task<void> co_wait(CoMutex::Guard& guard);
    bool wake_one();  // false: nobody waits
    void wake_all() { waiters_.wake_all(); }
    bool empty() const { return waiters_.empty(); }

private:
    WaitList waiters_;
};

}  // namespace ashlar
