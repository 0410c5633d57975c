// Timer: calls a function of its AioContext's thread once, at or after a point of CLOCK_MONOTONIC.
//
// Owned by who embeds it; used only by the thread of its context. Destroying disarms it.
#pragma once

#include <cstdint>

#include "util/task.h"

namespace ashlar {

class AioContext;

int64_t now_ns();  // CLOCK_MONOTONIC

class Timer {
public:
    using Fn = void (*)(Timer&);

    Timer(AioContext& context, Fn fn) : context_(context), fn_(fn) {}
    Timer(const Timer&) = delete;
    ~Timer() { disarm(); }

    void arm(int64_t deadline_ns);  // absolute; replaces an earlier deadline
    void disarm();
    bool armed() const { return index_ != kNotArmed; }
    int64_t deadline() const { return deadline_; }

private:
    friend class TimerHeap;
    static constexpr unsigned kNotArmed = ~0u;

    AioContext& context_;
    Fn fn_;
    int64_t deadline_ = 0;
    unsigned index_ = kNotArmed;  // in the context's heap
};

// Suspends for at least `ns` in the current AioContext.
Task<void> co_sleep(int64_t ns);

}  // namespace ashlar
