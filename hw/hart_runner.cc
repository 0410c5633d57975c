#include "hw/hart_runner.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

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

void HartRunner::run(std::vector<HartPlan> plan) {
    std::lock_guard guard(lock_);
    plan_ = std::move(plan);
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
        // Those that step have had their turn, as those that run meanwhile.
        const auto stepped = std::ranges::find(plan_, HartPlan::Step);
        if (stepped != plan_.end() && !attention_) {
            current_ = static_cast<unsigned>(stepped - plan_.begin());
            halt();
        } else if (!busy && !attention_) {
            sleep();
        }
    }
}

// False: it waits, or stands.
bool HartRunner::run_hart(unsigned number) {
    Hart& hart = *harts_[number];
    if (stands(number) || (waits_[number] && !steps(number) && !hart.has_work()))
        return false;
    if (std::exchange(current_, number) != number)
        hart.lose_reservation();
    Hart::Stop why = steps(number) ? hart.step() : hart.run(kSlice);
    if (why == Hart::Stop::Kicked && !attention_)  // by a stop that has been
        why = hart.run(kSlice);
    waits_[number] = why == Hart::Stop::Wfi;
    if (why == Hart::Stop::Breakpoint || why == Hart::Stop::Watchpoint)
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
    for (const Hart* hart : harts_) {
        if (stands(hart->id()))
            continue;
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
