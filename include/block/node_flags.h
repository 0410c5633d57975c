// NodeFlags: how a node is opened, whatever its driver; and NodeOptions: the options that say so, for every driver.
#pragma once

#include "util/options.h"

#include <cstdint>
#include <optional>
#include <string>

namespace ashlar {

enum class Discard : uint8_t { Ignore, Unmap };
constexpr auto enum_names(Discard) {
    return std::to_array<EnumName<Discard>>({
        {Discard::Ignore, "ignore"},
        {Discard::Ignore, "off"},
        {Discard::Unmap, "unmap"},
        {Discard::Unmap, "on"},
    });
}

enum class DetectZeroes : uint8_t { Off, On, Unmap };
constexpr auto enum_names(DetectZeroes) {
    return std::to_array<EnumName<DetectZeroes>>({
        {DetectZeroes::Off, "off"},
        {DetectZeroes::On, "on"},
        {DetectZeroes::Unmap, "unmap"},
    });
}

struct NodeFlags {
    bool read_only = false;
    bool auto_read_only = false;  // the driver may make it read-only if it cannot be written
    bool direct = false;          // cache.direct: past the host's page cache
    bool no_flush = false;        // cache.no-flush: flushes do nothing
    bool force_share = false;     // read-only, beside anyone who writes
    bool inspect = false;         // its metadata only are wanted: files that hold nothing but data are not opened
    bool check = false;           // to be checked or repaired: what is wrong with the image is no reason to refuse it
    Discard discard = Discard::Ignore;
    DetectZeroes detect_zeroes = DetectZeroes::Off;

    bool operator==(const NodeFlags&) const = default;
};

struct CacheOptions {
    std::optional<bool> direct;
    std::optional<bool> no_flush;

    static const OptionSet<CacheOptions>& options();
};

struct NodeOptions {
    std::string driver;
    std::optional<std::string> node_name;
    std::optional<bool> read_only;
    std::optional<bool> auto_read_only;
    CacheOptions cache;
    std::optional<Discard> discard;
    std::optional<DetectZeroes> detect_zeroes;
    bool force_share = false;

    static const OptionSet<NodeOptions>& options();
};

}  // namespace ashlar
