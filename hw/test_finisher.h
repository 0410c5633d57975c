// TestFinisher: SiFive's test device: a word written to it ends the machine's run. Offset 0, low half: 0x5555: passed,
// 0x3333: failed, with a code in the high half, 0x7777: reset.
#pragma once

#include "hw/mmio_device.h"

#include <functional>

namespace ashlar {

class TestFinisher : public MmioDevice {
public:
    static constexpr uint64_t kBytes = 0x1000;
    static constexpr uint32_t kFail = 0x3333, kPass = 0x5555, kReset = 0x7777;

    // What it calls, in the harts' thread: with the exit status, or to reset the machine.
    struct Actions {
        std::function<void(int status)> finish;
        std::function<void()> reset;
    };

    explicit TestFinisher(Actions actions) : actions_(std::move(actions)) {}

    uint64_t read(uint64_t offset, unsigned size) override;
    void write(uint64_t offset, unsigned size, uint64_t value) override;

private:
    Actions actions_;
};

}  // namespace ashlar
