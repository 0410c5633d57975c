#include "util/size.h"

#include <fmt/core.h>

#include <cerrno>
#include <charconv>
#include <limits>

namespace ashlar {

namespace {

// Takes the number in front of `text` off it.
std::expected<uint64_t, int> take_uint64(std::string_view& text, int base) {
    uint64_t value = 0;
    auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (ec != std::errc{})
        return std::unexpected(ec == std::errc::result_out_of_range ? -ERANGE : -EINVAL);
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    return value;
}

bool take_hex_prefix(std::string_view& text) {
    if (!text.starts_with("0x") && !text.starts_with("0X"))
        return false;
    text.remove_prefix(2);
    return true;
}

std::expected<uint64_t, int> unit_of(char suffix) {
    constexpr std::string_view kSuffixes = "bkmgtpe";
    char lower = suffix >= 'A' && suffix <= 'Z' ? static_cast<char>(suffix - 'A' + 'a') : suffix;
    size_t power = kSuffixes.find(lower);
    if (power == kSuffixes.npos)
        return std::unexpected(-EINVAL);
    return uint64_t{1} << (10 * power);
}

}  // namespace

std::expected<uint64_t, int> parse_uint64(std::string_view text) {
    int base = take_hex_prefix(text) ? 16 : text.starts_with('0') ? 8 : 10;
    auto value = take_uint64(text, base);
    if (value && !text.empty())
        return std::unexpected(-EINVAL);
    return value;
}

std::expected<int64_t, int> parse_int64(std::string_view text) {
    bool negative = text.starts_with('-');
    if (negative)
        text.remove_prefix(1);
    auto value = parse_uint64(text);
    if (!value)
        return std::unexpected(value.error());
    constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
    if (*value > kMax + negative)
        return std::unexpected(-ERANGE);
    return static_cast<int64_t>(negative ? 0 - *value : *value);
}

std::expected<uint64_t, int> parse_size(std::string_view text, uint64_t default_unit) {
    if (take_hex_prefix(text))
        return text.empty() ? std::unexpected(-EINVAL) : parse_uint64("0x" + std::string(text));

    auto whole = take_uint64(text, 10);
    if (!whole)
        return whole;

    uint64_t numerator = 0, denominator = 1;
    bool fraction = text.starts_with('.');
    if (fraction) {
        text.remove_prefix(1);
        size_t digits = 0;
        for (; digits < text.size() && text[digits] >= '0' && text[digits] <= '9'; ++digits) {
            if (denominator < 1'000'000'000'000'000'000) {  // finer than a byte of an exabyte: no need to be exact
                numerator = 10 * numerator + static_cast<uint64_t>(text[digits] - '0');
                denominator *= 10;
            }
        }
        if (!digits)
            return std::unexpected(-EINVAL);
        text.remove_prefix(digits);
    }

    uint64_t unit = default_unit;
    if (!text.empty()) {
        auto named = unit_of(text[0]);
        if (!named || text.size() > 1)
            return std::unexpected(-EINVAL);
        unit = *named;
    }
    if (fraction && unit == 1)
        return std::unexpected(-EINVAL);

    __extension__ using Wide = unsigned __int128;
    Wide bytes = Wide{*whole} * unit + Wide{numerator} * unit / denominator;
    if (bytes > std::numeric_limits<uint64_t>::max())
        return std::unexpected(-ERANGE);
    return static_cast<uint64_t>(bytes);
}

std::string format_size(uint64_t bytes) {
    constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = static_cast<double>(bytes);
    size_t unit = 0;
    for (; value >= 999.5 && unit + 1 < std::size(kUnits); ++unit)
        value /= 1024;
    return fmt::format("{:.3g} {}", value, kUnits[unit]);
}

}  // namespace ashlar
