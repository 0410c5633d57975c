// Numbers and sizes as options, commands and messages write them.
//
// The parsers take the whole text or fail with -EINVAL (not a number, or something behind it) or -ERANGE.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

namespace ashlar {

// Decimal, 0x hexadecimal or 0 octal.
std::expected<int64_t, int> parse_int64(std::string_view text);  // with an optional minus sign
std::expected<uint64_t, int> parse_uint64(std::string_view text);

// A number of bytes: 512, 0x200, 64k, 1.5G. Suffixes b k M G T P E, of either case, count in powers of 1024; without
// one the number counts `default_unit`. A fraction needs a suffix above b, and is rounded down to bytes.
std::expected<uint64_t, int> parse_size(std::string_view text, uint64_t default_unit = 1);

// "1.5 GiB": three digits in the unit that gives less than 1000.
std::string format_size(uint64_t bytes);

}  // namespace ashlar
