// Loader: what is put into the guest's memory before it starts: firmware, kernel, initial RAM disk. Pure functions on
// the bytes of a file, which may be anything: every field of it is bounded before it is believed.
//
// Specifications: ELF-64 Object File Format 1.5 with the RISC-V supplement; Linux's "Boot image header in RISC-V
// Linux".
#pragma once

#include "util/error.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ashlar {

// A stretch of guest memory: these bytes, and zeroes up to `size`.
struct MemorySegment {
    uint64_t address = 0;
    std::vector<uint8_t> bytes;
    uint64_t size = 0;
};

struct LoadedImage {
    std::vector<MemorySegment> segments;
    uint64_t entry = 0;
    uint64_t end = 0;  // behind what it takes of the memory
};

// The memory that it must lie in.
struct MemoryBounds {
    uint64_t base = 0, bytes = 0;
    bool contains(uint64_t address, uint64_t size) const {
        return address >= base && address - base <= bytes && size <= bytes - (address - base);
    }
};

bool is_elf(std::span<const uint8_t> file);
Result<LoadedImage> load_elf(std::span<const uint8_t> file, MemoryBounds memory);

// At an address that the caller chooses.
Result<LoadedImage> load_binary(std::vector<uint8_t> file, uint64_t address, MemoryBounds memory);

// What the header of a kernel's Image says of it; nullopt: it has none.
struct ImageHeader {
    uint64_t text_offset = 0;  // from the beginning of the memory
    uint64_t image_size = 0;   // in memory
};
std::optional<ImageHeader> image_header(std::span<const uint8_t> file);

// The bytes of a file, of which no more than `limit`.
Result<std::vector<uint8_t>> read_file(const std::string& path, uint64_t limit);

}  // namespace ashlar
