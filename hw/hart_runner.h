// HartRunner: the harts' thread: harts take turns in it, and it sleeps while they all wait for an interrupt.
//
// Made and used by the main thread, except where it says otherwise. While it is stopped the main thread may do with the
// harts, and with what they access, what the harts' thread does.
#pragma once

#include "hw/hart.h"
#include "hw/hart_plan.h"
#include "hw/machine_clock.h"
#include "hw/timed_device.h"

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace ashlar {

class HartRunner {
public:
    // `halted` is called in the harts' thread when they have stopped by halt(), and no hart runs any more.
    HartRunner(const MachineClock& clock, std::vector<Hart*> harts, std::vector<TimedDevice*> timed,
               std::function<void()> halted);
    ~HartRunner();
    HartRunner(const HartRunner&) = delete;

    // `plan`: for each hart; empty: all run. After a step they have halted.
    void run(std::vector<HartPlan> plan = {});
    void stop();            // on return no hart runs
    int thread_id() const;  // the kernel's

    // The harts' thread, from within an access of a hart: it stops before its next instruction, and so do all.
    void halt();
    // The hart that runs, or ran last, or because of which they have stopped.
    unsigned current() const { return current_; }

    // Any thread: a hart that waits may have work now.
    void wake();

private:
    // Short enough for harts that wait for one another, and for the timers that are looked at in between.
    static constexpr uint64_t kSlice = 20'000;

    void loop();
    void run_harts();
    bool run_hart(unsigned number);
    bool stands(unsigned number) const { return !plan_.empty() && plan_[number] == HartPlan::Stand; }
    bool steps(unsigned number) const { return !plan_.empty() && plan_[number] == HartPlan::Step; }
    void check_timers();
    void sleep();

    const MachineClock& clock_;
    const std::vector<Hart*> harts_;
    const std::vector<TimedDevice*> timed_;
    const std::function<void()> halted_;

    // The harts' thread's, or the main thread's while that one is stopped.
    std::vector<HartPlan> plan_;
    std::vector<uint8_t> waits_;  // for each hart
    unsigned current_ = 0;
    bool halting_ = false;

    std::atomic<bool> attention_{false};  // the harts are to stop
    std::atomic<bool> woken_{false};
    std::atomic<int> thread_id_{0};
    std::mutex lock_;
    std::condition_variable changed_, parked_;
    bool run_wanted_ = false, running_ = false, quit_ = false;  // under lock_
    std::thread thread_;
};

}  // namespace ashlar
