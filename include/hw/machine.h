// Machine: the machine `virt`: harts, memory, and what is on its buses, with a thread for the harts.
//
// Made, used and destroyed in the main context. Devices are added before start(); co_close() ends before it is
// destroyed. What the guest asks for, by its finisher say, it gets from the listener: the harts have stopped by then.
#pragma once

#include "hw/char_port.h"
#include "hw/guest_ram.h"
#include "hw/hart_features.h"
#include "hw/hart_plan.h"
#include "util/error.h"
#include "util/task.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace ashlar {

class AioContext;
class Hart;
class VirtioDevice;

struct MachineSpec {
    uint64_t ram_bytes = uint64_t{128} << 20;
    unsigned harts = 1;
    HartFeatures features = {};
    std::string bios = "default";  // or "none", or a file
    std::string kernel, initrd;    // files, or empty
    std::string append;            // the kernel's command line
    bool virtio_legacy = false;    // version 1 of virtio-mmio
};

class Machine {
public:
    enum class State : uint8_t { Stopped, Running };

    // All are called in the main context, one at a time.
    class Listener {
    public:
        virtual ~Listener() = default;
        virtual void guest_finished(int status) = 0;
        virtual void guest_asked_for_reset() = 0;
        // A breakpoint or watchpoint, or the step that was planned has been done.
        virtual void debugger_wanted(unsigned hart) = 0;
    };

    // Reads the files; nothing is in the memory before start().
    static Result<std::unique_ptr<Machine>> create(AioContext& context, MachineSpec spec, Listener& listener);
    ~Machine();
    Machine(const Machine&) = delete;

    GuestRam& ram();
    CharPort& uart();
    const MachineSpec& spec() const;
    Result<std::vector<uint8_t>> device_tree() const;

    // Takes the slot, or the last one that is free, as a device without a place of its own does in QEMU.
    // If that fails, the device is still the caller's.
    Result<void> add_virtio(std::unique_ptr<VirtioDevice>&& device, std::optional<unsigned> slot = {});

    // Puts everything into the memory; the harts stand still.
    Result<void> start();
    State state() const;
    [[nodiscard]] Task<void> co_go_on();
    // On return no hart runs, and no device touches the memory.
    [[nodiscard]] Task<void> co_stop();
    // As if it were switched off and on again. It runs afterwards if it has run before.
    [[nodiscard]] Task<Result<void>> co_reset();
    [[nodiscard]] Task<void> co_close();

    // For a debugger, and for who wants to know: while it is stopped.
    unsigned hart_count() const;
    Hart& hart(unsigned number);
    // What each hart does when the machine goes on next, until it stops. Empty: they run, as they do without a plan.
    void plan(std::vector<HartPlan> plan);
    int harts_thread_id() const;  // the kernel's

private:
    struct Parts;
    explicit Machine(std::unique_ptr<Parts> parts);

    std::unique_ptr<Parts> parts_;
};

}  // namespace ashlar
