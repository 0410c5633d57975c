// Hart: one RV64GC processor: its registers, and the running of instructions that it fetches from the Bus.
//
// Everything is called by the harts' thread, or by the main thread while that one is stopped, but what is said to be
// for any thread. Specifications: the RISC-V Instruction Set Manual, volumes I (unprivileged, 20191213) and II
// (privileged, 20211203), and the Sstc extension. What is there and what is not: docs/machine.md.
#pragma once

#include "hw/bus.h"
#include "hw/hart_features.h"
#include "hw/interrupt.h"
#include "hw/machine_clock.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

namespace ashlar {

struct HartState;

class Hart : public InterruptSink {
public:
    enum class Stop {
        Budget,      // as many instructions as were asked for have run
        Wfi,         // it waits for an interrupt, of which none is pending and enabled
        Kicked,      // kick() was called
        Breakpoint,  // the next instruction is at a breakpoint of the debugger, and was not run
        Watchpoint,  // the last instruction has accessed what the debugger watches: watch_hit()
    };

    // Interrupts, as they are numbered in mip.
    static constexpr unsigned kMachineSoftware = 3;
    static constexpr unsigned kMachineTimer = 7;
    static constexpr unsigned kSupervisorExternal = 9;
    static constexpr unsigned kMachineExternal = 11;

    Hart(Bus& bus, MachineClock& clock, unsigned id, const HartFeatures& features = {});
    ~Hart() override;

    unsigned id() const;
    // Its state after power-on, about to run at `pc` in M-mode. What was in its caches is forgotten.
    void reset(uint64_t pc);

    // Runs about `instructions` (what runs between two jumps is not cut in two), less if it stops earlier. One is
    // exactly one: the instruction, or the trap that is taken instead.
    Stop run(uint64_t instructions);
    // For the debugger: exactly one instruction, or its trap, without interrupts. WFI does not wait; a kick does.
    Stop step();
    // Other harts have run since this one has, and may have stored what was there before: a reservation is lost.
    void lose_reservation();
    // Any thread: run() returns soon, or at once when it is called next.
    void kick();

    // Any thread. `input`: kMachineSoftware, kMachineTimer, kSupervisorExternal or kMachineExternal.
    void set_level(unsigned input, bool level) override;
    // What set_level() calls, on its thread, when a level has risen: a hart that waits may have work now. Set before
    // any other thread knows the hart.
    void set_waker(std::function<void()> waker);
    // Whether an interrupt is pending and enabled in mie, so that WFI ends.
    bool has_work() const;
    // When stimecmp next sets an interrupt, in ticks of the MachineClock; UINT64_MAX: not at all.
    uint64_t next_timer() const;

    // For the debugger: numbered as gdb does: 0 to 31: x0 to x31, 32: pc, 33 to 64: f0 to f31, 65 + n: CSR n, 4161: the
    // privilege (0: user, 1: supervisor, 3: machine). False: there is none, or not of this value.
    [[nodiscard]] bool read_register(unsigned number, uint64_t& value) const;
    [[nodiscard]] bool write_register(unsigned number, uint64_t value);
    // Through the hart's page tables, as it would see RAM and ROM now; false: not mapped. A write (ROM takes none) is
    // seen by the next fetch.
    [[nodiscard]] bool read_memory(uint64_t address, std::span<uint8_t> bytes);
    [[nodiscard]] bool write_memory(uint64_t address, std::span<const uint8_t> bytes);
    void set_breakpoint(uint64_t address, bool set);
    // Of a virtual address, whatever it is mapped to. Loads, stores and atomics are watched, and they are done when the
    // hart stops. Pages with something watched are accessed more slowly, others as ever.
    enum class Watch : uint8_t { Write = 1, Read = 2, Access = 3 };
    struct Watched {
        uint64_t first, last;
        Watch what;
        bool operator==(const Watched&) const = default;
    };
    void set_watchpoint(const Watched& watched, bool set);
    // Why run() or step() has returned Watchpoint, if it was that.
    const std::optional<Watched>& watch_hit() const;

    uint64_t instructions() const;  // run so far

private:
    std::unique_ptr<HartState> state_;
};

}  // namespace ashlar
