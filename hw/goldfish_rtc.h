// GoldfishRtc: the real-time clock of Google's goldfish board: nanoseconds since 1970, and an alarm.
//
//     0x00, 0x04    the time, low and high half; reading the low half keeps the high half that belongs to it. Written
//                   high half first
//     0x08, 0x0c    the alarm: writing the low half sets it
//     0x10          bit 0: an alarm raises the interrupt
//     0x14          written: no alarm
//     0x18          bit 0: an alarm is set
//     0x1c          written: the interrupt is taken back
//
// It follows the host's clock, also while the machine stands. The harts' thread calls it. Specification: goldfish
// "GOLDFISH VIRTUAL HARDWARE", section "Goldfish real-time clock".
#pragma once

#include "hw/interrupt.h"
#include "hw/machine_clock.h"
#include "hw/mmio_device.h"
#include "hw/timed_device.h"

namespace ashlar {

class GoldfishRtc : public MmioDevice, public TimedDevice {
public:
    static constexpr uint64_t kBytes = 0x24;

    GoldfishRtc(const MachineClock& clock, InterruptLine line) : clock_(clock), line_(line) {}

    void reset();
    uint64_t read(uint64_t offset, unsigned size) override;
    void write(uint64_t offset, unsigned size, uint64_t value) override;
    uint64_t next_deadline() override;
    void check_time() override;

private:
    uint64_t time() const;
    void update_line();

    const MachineClock& clock_;
    const InterruptLine line_;
    uint64_t ahead_ = 0;  // of the host's clock, as far as the guest has set it
    uint32_t time_high_ = 0, alarm_high_ = 0;
    uint64_t alarm_ = 0;
    bool alarm_set_ = false, pending_ = false, enabled_ = false;
};

}  // namespace ashlar
