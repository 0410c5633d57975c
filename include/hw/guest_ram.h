// GuestRam: the guest's memory, one range of guest-physical addresses in one anonymous mapping of the host.
//
// Made and destroyed with the machine; its size does not change. Any thread reads and writes the bytes: the harts'
// thread as the guest's instructions say, devices' threads as its drivers ask for. As in a real machine nothing but the
// guest's protocol orders these; what a device and a driver use to order themselves (ring indexes) is accessed with
// atomics.
#pragma once

#include "util/error.h"

#include <cstdint>
#include <memory>
#include <span>

namespace ashlar {

class GuestRam {
public:
    // `bytes`: more than zero, a multiple of 4 KiB. The memory is zero, and is the host's only once it is touched.
    static Result<std::unique_ptr<GuestRam>> create(uint64_t base, uint64_t bytes);
    ~GuestRam();
    GuestRam(const GuestRam&) = delete;

    uint64_t base() const { return base_; }
    uint64_t bytes() const { return bytes_; }

    // The host's address of [address, address + bytes), or nullptr if that does not lie in the memory as a whole. Any
    // two numbers may be asked about: they come from the guest.
    uint8_t* at(uint64_t address, uint64_t bytes) const {
        const uint64_t offset = address - base_;
        return offset < bytes_ && bytes <= bytes_ - offset ? memory_ + offset : nullptr;
    }
    std::span<uint8_t> all() const { return {memory_, bytes_}; }
    // All zero again, and given back to the host.
    void clear();

private:
    GuestRam(uint64_t base, uint64_t bytes, uint8_t* memory) : base_(base), bytes_(bytes), memory_(memory) {}

    const uint64_t base_;
    const uint64_t bytes_;
    uint8_t* const memory_;
};

}  // namespace ashlar
