#include "hw/goldfish_rtc.h"

#include <ctime>

namespace ashlar {

namespace {

enum Register : uint64_t {
    kTimeLow = 0x00,
    kTimeHigh = 0x04,
    kAlarmLow = 0x08,
    kAlarmHigh = 0x0c,
    kInterruptEnabled = 0x10,
    kClearAlarm = 0x14,
    kAlarmStatus = 0x18,
    kClearInterrupt = 0x1c,
};

uint64_t host_time() {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

void GoldfishRtc::reset() {
    alarm_ = time_high_ = alarm_high_ = 0;
    alarm_set_ = pending_ = enabled_ = false;
    update_line();
}

uint64_t GoldfishRtc::time() const {
    return host_time() + ahead_;
}

uint64_t GoldfishRtc::read(uint64_t offset, unsigned) {
    switch (offset) {
        case kTimeLow: {
            const uint64_t now = time();
            time_high_ = static_cast<uint32_t>(now >> 32);
            return static_cast<uint32_t>(now);
        }
        case kTimeHigh:
            return time_high_;
        case kAlarmLow:
            return static_cast<uint32_t>(alarm_);
        case kAlarmHigh:
            return alarm_ >> 32;
        case kInterruptEnabled:
            return enabled_;
        case kAlarmStatus:
            return alarm_set_;
    }
    return 0;
}

void GoldfishRtc::write(uint64_t offset, unsigned, uint64_t value) {
    const auto word = static_cast<uint32_t>(value);
    switch (offset) {
        case kTimeLow:
            ahead_ = (uint64_t{time_high_} << 32 | word) - host_time();
            check_time();
            break;
        case kTimeHigh:
            time_high_ = word;
            break;
        case kAlarmLow:
            alarm_ = uint64_t{alarm_high_} << 32 | word;
            alarm_set_ = true;
            check_time();
            break;
        case kAlarmHigh:
            alarm_high_ = word;
            break;
        case kInterruptEnabled:
            enabled_ = word & 1;
            update_line();
            break;
        case kClearAlarm:
            alarm_set_ = false;
            break;
        case kClearInterrupt:
            pending_ = false;
            update_line();
            break;
    }
}

uint64_t GoldfishRtc::next_deadline() {
    if (!alarm_set_)
        return kNever;
    const uint64_t now = time();
    const uint64_t ticks = alarm_ > now ? (alarm_ - now) / MachineClock::kNsPerTick + 1 : 0;
    return clock_.now() + ticks;
}

void GoldfishRtc::check_time() {
    if (!alarm_set_ || time() < alarm_)
        return;
    alarm_set_ = false;
    pending_ = true;
    update_line();
}

void GoldfishRtc::update_line() {
    line_.set(pending_ && enabled_);
}

}  // namespace ashlar
