#include "hw/machine_clock.h"

#include <ctime>

namespace ashlar {

namespace {

uint64_t host_ticks() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec)) /
           MachineClock::kNsPerTick;
}

// What now() adds to the host's ticks may be less than zero.
uint64_t time_of(uint64_t state) {
    return static_cast<uint64_t>(static_cast<int64_t>(state) >> 1);
}

}  // namespace

uint64_t MachineClock::now() const {
    const uint64_t state = state_.load(std::memory_order_relaxed);
    return time_of(state) + (state & 1 ? host_ticks() : 0);
}

void MachineClock::stop() {
    const uint64_t state = state_;
    if (state & 1)
        state_ = (time_of(state) + host_ticks()) << 1;
}

void MachineClock::go_on() {
    const uint64_t state = state_;
    if (!(state & 1))
        state_ = (time_of(state) - host_ticks()) << 1 | 1;
}

void MachineClock::set(uint64_t now) {
    state_ = state_ & 1 ? (now - host_ticks()) << 1 | 1 : now << 1;
}

}  // namespace ashlar
