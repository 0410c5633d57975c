// Bus: the guest-physical address space: RAM, ROM and the registers of devices.
//
// The ranges are mapped before the harts start and stay; then the harts' thread alone reads and writes through it.
// Devices reach the RAM by GuestRam and nothing else. What it maps must outlive it.
#pragma once

#include "hw/guest_ram.h"
#include "hw/mmio_device.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ashlar {

// In bytes.
struct AccessSizes {
    unsigned min = 1, max = 8;
};

class Bus {
public:
    explicit Bus(GuestRam& ram) : ram_(ram) {}
    Bus(const Bus&) = delete;

    // Ranges must not overlap one another or the RAM.
    void map(std::string name, uint64_t base, uint64_t bytes, MmioDevice& device, AccessSizes sizes = {});
    void map_rom(std::string name, uint64_t base, std::span<const uint8_t> memory);

    GuestRam& ram() const { return ram_; }

    // `address` is a multiple of `size`, which is 1, 2, 4 or 8. False: nothing is there, or not for this size; to the
    // guest an access fault. ROM takes no writes.
    [[nodiscard]] bool read(uint64_t address, unsigned size, uint64_t& value);
    [[nodiscard]] bool write(uint64_t address, unsigned size, uint64_t value);

    // RAM or ROM from which instructions can be fetched: [address, address + bytes) as a whole, or nullptr.
    const uint8_t* memory(uint64_t address, uint64_t bytes) const;

private:
    struct Range {
        std::string name;
        uint64_t base, bytes;
        MmioDevice* device;  // nullptr: ROM
        const uint8_t* rom;
        AccessSizes sizes;
    };
    const Range* find(uint64_t address) const;
    void insert(Range range);

    GuestRam& ram_;
    std::vector<Range> ranges_;  // by address
};

}  // namespace ashlar
