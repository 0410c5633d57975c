// CoSemaphore: a number of units; co_acquire() suspends, in order of arrival, until as many as it wants are free.
//
// Any context, any thread. A large request is not overtaken by later small ones.
#pragma once

#include <cstdint>
#include <mutex>

#include "util/wait_list.h"

namespace ashlar {

class CoSemaphore {
public:
    explicit CoSemaphore(int64_t units) : free_(units) {}
    [[nodiscard]] bool try_acquire(int64_t units = 1);
    [[nodiscard]] Task<void> co_acquire(int64_t units = 1);  // units: at most what the semaphore was made with
    void release(int64_t units = 1);
    int64_t available() const;

private:
    struct Awaiter;

    mutable std::mutex lock_;
    int64_t free_;
    WaitList waiters_;
};

}  // namespace ashlar
