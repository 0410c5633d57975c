// Plic: the platform-level interrupt controller: which of the devices' interrupts each hart's M-mode and S-mode see.
//
//     0x000000 + 4 s            priority of source s, 0 (never) to 7
//     0x001000                  pending, a bit for each source
//     0x002000 + 0x80 c         enabled for context c, a bit for each source
//     0x200000 + 0x1000 c       threshold of context c: sources above it interrupt
//     0x200004 + 0x1000 c       read: claim, written: completion
//
// Contexts are M-mode and S-mode of hart 0, of hart 1, and so on. As an InterruptSink its inputs are the sources, whose
// gateways are level triggered: a high level makes one request, which stays pending until it is claimed, whatever the
// level does meanwhile; the next one comes after the completion, at once if the level is high then. The harts' thread
// reads and writes the registers, any thread sets levels. Specification: RISC-V Platform-Level Interrupt Controller
// 1.0.0.
#pragma once

#include "hw/interrupt.h"
#include "hw/mmio_device.h"

#include <array>
#include <cstdint>
#include <mutex>
#include <vector>

namespace ashlar {

class Plic : public MmioDevice, public InterruptSink {
public:
    static constexpr uint64_t kBytes = 0x600000;
    static constexpr unsigned kSources = 96;  // 1 to 96
    static constexpr uint32_t kMaxPriority = 7;

    explicit Plic(const std::vector<InterruptLine>& contexts);

    void reset();
    uint64_t read(uint64_t offset, unsigned size) override;
    void write(uint64_t offset, unsigned size, uint64_t value) override;
    void set_level(unsigned source, bool level) override;

private:
    static constexpr unsigned kWords = kSources / 32 + 1;
    using Sources = std::array<uint32_t, kWords>;  // a bit for each

    struct Context {
        InterruptLine line;
        Sources enabled{};
        uint32_t threshold = 0;
        bool level = false;  // of its line
    };

    // All with lock_ held.
    uint32_t read_locked(uint64_t offset);
    void write_locked(uint64_t offset, uint32_t value);
    unsigned best(const Context& context, uint32_t above) const;
    uint32_t claim(const Context& context);
    void request(unsigned source);  // by the gateway, if it may
    void update_lines();

    std::mutex lock_;
    std::array<uint32_t, kSources + 1> priority_{};
    Sources level_{};
    Sources requested_{};  // by the gateway, and not completed
    Sources pending_{};
    std::vector<Context> contexts_;
};

}  // namespace ashlar
