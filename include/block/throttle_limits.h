// ThrottleLimits: the limits of a throttle group as users write them, under the names that each interface has for them.
//
// The members and what they are called stand in one table; values, not interpreted until to_config() is asked for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "util/options.h"
#include "util/throttle.h"

namespace ashlar {

struct ThrottleLimits {
    // What is not set is left as it is where limits are changed, and 0 (max_length: 1) where there were none.
    std::optional<int64_t> bps_total, bps_total_max, bps_total_max_length;
    std::optional<int64_t> bps_read, bps_read_max, bps_read_max_length;
    std::optional<int64_t> bps_write, bps_write_max, bps_write_max_length;
    std::optional<int64_t> iops_total, iops_total_max, iops_total_max_length;
    std::optional<int64_t> iops_read, iops_read_max, iops_read_max_length;
    std::optional<int64_t> iops_write, iops_write_max, iops_write_max_length;
    std::optional<int64_t> iops_size;

    // "bps-total", "iops-size": of throttle-group's `limits`, and of -drive's `throttling`.
    static const OptionSet<ThrottleLimits>& options();

    // The limits of `config` with what is set here in their place; fails if they contradict each other.
    Result<ThrottleConfig> to_config(const ThrottleConfig& base = {}) const;
    static ThrottleLimits from_config(const ThrottleConfig& config);  // everything set
};

// -drive: throttling.group and throttling.bps-total…
struct DriveThrottling {
    ThrottleLimits limits;
    std::optional<std::string> group;  // default: the device's name

    static const OptionSet<DriveThrottling>& options();
};

// The same limits by the names that QMP's block_set_io_throttle has for them: "bps", "iops_rd_max", …; there, what is
// not given is 0.
struct QmpThrottleLimits : ThrottleLimits {
    static const OptionSet<QmpThrottleLimits>& options();
};

// And with "x-" in front, as a throttle-group object also takes them.
struct UnstableThrottleLimits : ThrottleLimits {
    static const OptionSet<UnstableThrottleLimits>& options();
};

// -object throttle-group
struct ThrottleGroupOptions {
    ThrottleLimits limits;
    UnstableThrottleLimits unstable;

    static const OptionSet<ThrottleGroupOptions>& options();
    ThrottleLimits combined() const;  // those of `limits` come first
};

}  // namespace ashlar
