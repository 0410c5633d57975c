// How ashlar-io prints what it has done: numbers with units, statistics, dumps. Byte for byte as qemu-io does.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace ashlar {

// "512 bytes", "1.500 KiB", "4 MiB".
std::string format_quantity(double value);
// "00.01 sec", "0:01:02.50"; `fixed`: always the second form.
std::string format_duration(int64_t ns, bool fixed);

// How a command reports that it has done something to `bytes` bytes.
struct IoStatistics {
    std::string_view verb;  // "read", "wrote", "discard"
    int64_t offset = 0;
    int64_t bytes = 0;
    int64_t start_ns = 0, end_ns = 0;
    bool machine_readable = false;  // -C
};
std::string format_statistics(const IoStatistics& statistics);

// Sixteen bytes a line: offset, hexadecimal, characters.
std::string format_dump(std::span<const std::byte> data, int64_t offset);

}  // namespace ashlar
