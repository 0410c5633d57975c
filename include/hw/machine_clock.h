// MachineClock: the guest's time, in ticks of 100 ns (the 10 MHz of the device tree's timebase-frequency).
//
// It stands still while the machine is stopped, so that a guest does not see the pause. Any thread reads it; the main
// thread stops it and lets it go on. The harts' thread, or the main thread while that one is stopped, sets it. Made
// stopped at zero.
#pragma once

#include <atomic>
#include <cstdint>

namespace ashlar {

class MachineClock {
public:
    static constexpr uint64_t kHertz = 10'000'000;
    static constexpr uint64_t kNsPerTick = 1'000'000'000 / kHertz;

    uint64_t now() const;
    void stop();
    void go_on();
    void set(uint64_t now);

private:
    // Twice what now() adds to the host's ticks, plus one while it runs; while it stands, twice the time itself.
    std::atomic<uint64_t> state_{0};
};

}  // namespace ashlar
