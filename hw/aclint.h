// Aclint: the machine-level timers and software interrupts of the harts, laid out as the older CLINT.
//
//     0x0000 + 4 n    msip of hart n: bit 0
//     0x4000 + 8 n    mtimecmp of hart n
//     0xbff8          mtime: the MachineClock
//
// The harts' thread calls it. Specification: RISC-V Advanced Core Local Interruptor, 1.0-rc4; one MTIMER and one MSWI
// device.
#pragma once

#include "hw/interrupt.h"
#include "hw/machine_clock.h"
#include "hw/mmio_device.h"
#include "hw/timed_device.h"

#include <vector>

namespace ashlar {

class Aclint : public MmioDevice, public TimedDevice {
public:
    static constexpr uint64_t kBytes = 0x10000;

    struct Lines {
        InterruptLine software, timer;
    };
    Aclint(MachineClock& clock, const std::vector<Lines>& harts);

    void reset();
    uint64_t read(uint64_t offset, unsigned size) override;
    void write(uint64_t offset, unsigned size, uint64_t value) override;
    uint64_t next_deadline() override;
    void check_time() override;

private:
    static constexpr uint64_t kTimecmp = 0x4000, kTime = 0xbff8;

    struct Hart {
        Lines lines;
        bool software = false;
        uint64_t timecmp = kNever;
        bool timer = false;  // the level of its line
    };
    void check_time(Hart& hart, uint64_t now);

    MachineClock& clock_;
    std::vector<Hart> harts_;
};

}  // namespace ashlar
