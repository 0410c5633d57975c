// MmioDevice: what stands behind a range of guest-physical addresses that is not memory.
//
// The harts' thread calls it, at naturally aligned offsets within the range, with a size that the range accepts (1, 2,
// 4 or 8 bytes; see Bus::map()). It must not wait for I/O. What other threads change as well the device guards itself.
#pragma once

#include <cstdint>

namespace ashlar {

class MmioDevice {
public:
    virtual ~MmioDevice() = default;
    // Registers that do not exist read as zero, and writing them does nothing.
    virtual uint64_t read(uint64_t offset, unsigned size) = 0;
    virtual void write(uint64_t offset, unsigned size, uint64_t value) = 0;
};

}  // namespace ashlar
