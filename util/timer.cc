#include "util/timer.h"

#include <time.h>

#include <algorithm>

#include "util/aio_context.h"
#include "util/timer_heap.h"

namespace ashlar {

int64_t now_ns() {
    timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1'000'000'000LL + ts.tv_nsec;
}

void Timer::arm(int64_t deadline_ns) {
    disarm();
    context_.timers_->insert(*this, deadline_ns);
}

void Timer::disarm() {
    if (armed())
        context_.timers_->remove(*this);
}

void TimerHeap::place(unsigned index, Timer* timer) {
    heap_[index] = timer;
    timer->index_ = index;
}

void TimerHeap::sift_up(unsigned index) {
    Timer* timer = heap_[index];
    while (index > 0 && timer->deadline_ < heap_[(index - 1) / 2]->deadline_) {
        place(index, heap_[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    place(index, timer);
}

void TimerHeap::sift_down(unsigned index) {
    Timer* timer = heap_[index];
    for (unsigned child; (child = 2 * index + 1) < heap_.size(); index = child) {
        if (child + 1 < heap_.size() && heap_[child + 1]->deadline_ < heap_[child]->deadline_)
            child++;
        if (timer->deadline_ <= heap_[child]->deadline_)
            break;
        place(index, heap_[child]);
    }
    place(index, timer);
}

void TimerHeap::insert(Timer& timer, int64_t deadline) {
    timer.deadline_ = deadline;
    heap_.push_back(&timer);
    sift_up(static_cast<unsigned>(heap_.size() - 1));
}

void TimerHeap::remove(Timer& timer) {
    unsigned index = timer.index_;
    timer.index_ = Timer::kNotArmed;
    Timer* last = heap_.back();
    heap_.pop_back();
    if (last == &timer)
        return;
    place(index, last);
    sift_up(index);
    sift_down(last->index_);
}

bool TimerHeap::run_due(int64_t now) {
    bool any = false;
    while (!heap_.empty() && heap_[0]->deadline_ <= now) {
        Timer& timer = *heap_[0];
        remove(timer);
        timer.fn_(timer);
        any = true;
    }
    return any;
}

namespace {

struct SleepAwaiter : Timer {
    std::coroutine_handle<> coroutine;
    int64_t until;

    explicit SleepAwaiter(int64_t ns)
        : Timer(*AioContext::current(), [](Timer& t) { static_cast<SleepAwaiter&>(t).coroutine.resume(); }),
          until(now_ns() + ns) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) {
        coroutine = h;
        arm(until);
    }
    void await_resume() const noexcept {}
};

}  // namespace

Task<void> co_sleep(int64_t ns) {
    co_await SleepAwaiter(ns);
}

}  // namespace ashlar
