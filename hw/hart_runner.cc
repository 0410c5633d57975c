#include "hw/hart_runner.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

namespace ashlar {

HartRunner::HartRunner(const MachineClock& clock, std::vector<Hart*> harts, std::vector<TimedDevice*> timed,
                       std::function<void()> halted)
    : clock_(clock),
      harts_(std::move(harts)),
      timed_(std::move(timed)),
      halted_(std::move(halted)),
      waits_(harts_.size(), false),
      thread_([this] { loop(); }) {
    pthread_setname_np(thread_.native_handle(), "harts");
}

HartRunner::~HartRunner() {
    stop();
    {
        std::lock_guard guard(lock_);
        quit_ = true;
    }
    changed_.notify_one();
    thread_.join();
}

void HartRunner::run() {
    std::lock_guard guard(lock_);
    std::fill(waits_.begin(), waits_.end(), false);
    attention_ = false;
    run_wanted_ = true;
    changed_.notify_one();
}

void HartRunner::stop() {
    attention_ = true;
    for (Hart* hart : harts_)
        hart->kick();
    wake();
    std::unique_lock lock(lock_);
    run_wanted_ = false;
    parked_.wait(lock, [this] { return !running_; });
}

bool HartRunner::step(unsigned hart) {
    current_ = hart;
    harts_[hart]->run(1);
    check_timers();
    return !std::exchange(halting_, false);
}

int HartRunner::thread_id() const {
    thread_id_.wait(0);
    return thread_id_;
}

void HartRunner::halt() {
    halting_ = true;
    attention_ = true;
    harts_[current_]->kick();
}

void HartRunner::wake() {
    if (woken_.exchange(true))
        return;
    std::lock_guard guard(lock_);
    changed_.notify_one();
}

void HartRunner::loop() {
    thread_id_ = gettid();
    thread_id_.notify_all();
    std::unique_lock lock(lock_);
    for (;;) {
        changed_.wait(lock, [this] { return run_wanted_ || quit_; });
        if (quit_)
            return;
        running_ = true;
        lock.unlock();
        run_harts();
        const bool halted = std::exchange(halting_, false);
        lock.lock();
        running_ = false;
        // Nobody needs to have asked for it to end.
        run_wanted_ &= !halted && !attention_;
        parked_.notify_one();
        if (halted) {
            lock.unlock();
            halted_();
            lock.lock();
        }
    }
}

void HartRunner::run_harts() {
    while (!attention_) {
        woken_.exchange(false);  // before it is looked who has work
        bool busy = false;
        for (unsigned number = 0; number < harts_.size() && !attention_; ++number) {
            busy |= run_hart(number);
            check_timers();
        }
        if (!busy && !attention_)
            sleep();
    }
}

// False: it waits.
bool HartRunner::run_hart(unsigned number) {
    Hart& hart = *harts_[number];
    if (waits_[number] && !hart.has_work())
        return false;
    current_ = number;
    const Hart::Stop why = hart.run(kSlice);
    waits_[number] = why == Hart::Stop::Wfi;
    if (why == Hart::Stop::Breakpoint)
        halt();
    return !waits_[number];
}

void HartRunner::check_timers() {
    const uint64_t now = clock_.now();
    for (TimedDevice* device : timed_)
        if (device->next_deadline() <= now)
            device->check_time();
}

void HartRunner::sleep() {
    uint64_t deadline = TimedDevice::kNever;
    for (TimedDevice* device : timed_)
        deadline = std::min(deadline, device->next_deadline());
    const uint64_t now = clock_.now();
    if (deadline <= now)
        return;
    for (Hart* hart : harts_) {
        // One that has come already is an interrupt that is not enabled, or has_work() tells of it.
        const uint64_t timer = hart->next_timer();
        if (timer > now)
            deadline = std::min(deadline, timer);
        else if (hart->has_work())
            return;
    }
    constexpr uint64_t kLongest = 3600 * MachineClock::kHertz;
    const std::chrono::nanoseconds left(std::min(deadline - now, kLongest) * MachineClock::kNsPerTick);
    std::unique_lock lock(lock_);
    changed_.wait_for(lock, left, [this] { return woken_.load(); });
}

}  // namespace ashlar
