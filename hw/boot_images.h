// BootImages: what the machine starts: firmware, kernel and initial RAM disk, each where QEMU puts it.
//
// Firmware at the beginning of the memory; the kernel where it says, or else at the next multiple of 2 MiB; the initial
// RAM disk half the memory behind the kernel, but not more than 128 MiB; the device tree at the last multiple of 2 MiB
// below the end of the memory and below 3 GiB. A value: the files are read once, and put into the memory at each reset.
#pragma once

#include "hw/guest_ram.h"
#include "hw/loader.h"

#include <array>
#include <string>

namespace ashlar {

struct MachineSpec;

struct BootImages {
    static Result<BootImages> read(const MachineSpec& spec, MemoryBounds memory);

    // Into the memory, with the tree; nothing else there changes.
    Result<void> load(GuestRam& ram, std::span<const uint8_t> device_tree) const;
    // What the harts run first: it goes to the firmware, or the kernel, with a0: the hart, a1: the device tree, and for
    // firmware of the fw_dynamic kind a2: where to go on.
    std::vector<uint8_t> reset_rom(uint64_t device_tree) const;
    static Result<uint64_t> place_device_tree(size_t bytes, MemoryBounds memory);

    LoadedImage firmware, kernel, initrd;  // without segments: there is none
    uint64_t start = 0;                    // where the harts go from the reset ROM
};

}  // namespace ashlar
