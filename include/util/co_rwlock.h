// CoRwLock: many readers or one writer, in order of arrival, across AioContexts.
//
// A waiting writer keeps later readers out. Not recursive. Unlocking may be done from any context.
#pragma once

#include <mutex>

#include "util/wait_list.h"

namespace ashlar {

class CoRwLock {
public:
    [[nodiscard]] Task<void> co_read_lock();
    [[nodiscard]] Task<void> co_write_lock();
    void read_unlock() { unlock(); }
    void write_unlock() { unlock(); }
    void downgrade();  // from writer to reader, letting the readers that wait in front in too

private:
    struct Awaiter;
    bool may_enter(bool writer) const { return writer ? holders_ == 0 : holders_ >= 0; }
    void enter(bool writer) { holders_ = writer ? -1 : holders_ + 1; }
    void unlock();
    void admit(WaitList& woken);

    std::mutex lock_;
    int holders_ = 0;  // -1: one writer; else the number of readers
    WaitList waiters_;
};

}  // namespace ashlar
