#include "tools/io/output.h"

#include <fmt/core.h>

#include <algorithm>

namespace ashlar {

namespace {

bool is_alphanumeric(unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

}  // namespace

std::string format_quantity(double value) {
    constexpr std::string_view kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit)
        value /= 1024;
    std::string number = unit == 0 ? fmt::format("{:f}", value) : fmt::format("{:.3f}", value);
    number.resize(std::min(number.size(), number.find(".000")));
    return fmt::format("{} {}", number, kUnits[unit]);
}

std::string format_duration(int64_t ns, bool fixed) {
    const int64_t hundredths = ns / 10'000'000;
    const int64_t seconds = hundredths / 100;
    if (seconds >= 60 || fixed)
        return fmt::format("{}:{:02}:{:02}.{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60, hundredths % 100);
    return fmt::format("{:02}.{:02} sec", seconds, hundredths % 100);
}

std::string format_statistics(const IoStatistics& s) {
    const int64_t ns = std::max<int64_t>(s.end_ns - s.start_ns, 1);
    const double seconds = static_cast<double>(ns) / 1e9;
    const double bytes_per_second = static_cast<double>(s.bytes) / seconds;
    const double requests_per_second = 1 / seconds;
    std::string time = format_duration(ns, s.machine_readable);
    if (s.machine_readable)
        return fmt::format("{},1,{},{:.3f},{:.3f}\n", s.bytes, time, bytes_per_second, requests_per_second);
    return fmt::format("{} {}/{} bytes at offset {}\n{}, 1 ops; {} ({}/sec and {:.4f} ops/sec)\n", s.verb, s.bytes,
                       s.bytes, s.offset, format_quantity(static_cast<double>(s.bytes)), time,
                       format_quantity(bytes_per_second), requests_per_second);
}

std::string format_dump(std::span<const std::byte> data, int64_t offset) {
    constexpr size_t kWidth = 16;
    std::string out;
    for (size_t at = 0; at < data.size(); at += kWidth) {
        auto line = data.subspan(at, std::min(kWidth, data.size() - at));
        out += fmt::format("{:08x}:  ", offset + static_cast<int64_t>(at));
        for (std::byte byte : line)
            out += fmt::format("{:02x} ", static_cast<unsigned>(byte));
        out += ' ';
        for (std::byte byte : line) {
            auto c = static_cast<unsigned char>(byte);
            out += is_alphanumeric(c) ? static_cast<char>(c) : '.';
        }
        out += '\n';
    }
    return out;
}

}  // namespace ashlar
