// TimerHeap: the armed timers of one AioContext, earliest first. Used by the context's thread only.
#pragma once

#include <vector>

#include "util/engine.h"
#include "util/timer.h"

namespace ashlar {

class TimerHeap {
public:
    bool empty() const { return heap_.empty(); }
    int64_t earliest() const { return heap_.empty() ? Engine::kForever : heap_[0]->deadline_; }

    void insert(Timer& timer, int64_t deadline);
    void remove(Timer& timer);

    // Calls every timer whose deadline is not after `now`; true if there was one.
    bool run_due(int64_t now);

private:
    void place(unsigned index, Timer* timer);
    void sift_up(unsigned index);
    void sift_down(unsigned index);

    std::vector<Timer*> heap_;
};

}  // namespace ashlar
