#include "block/throttle_limits.h"

namespace ashlar {

namespace {

using Value = std::optional<int64_t>;

struct RateNames {
    std::string_view name, qmp_name;
    Value ThrottleLimits::*per_second, ThrottleLimits::*max, ThrottleLimits::*max_length;
    ThrottleConfig::Rates ThrottleConfig::* rates;
    ThrottleRate ThrottleConfig::Rates::* rate;
    std::string_view what;
};

using Limits = ThrottleLimits;
using Rates = ThrottleConfig::Rates;
constexpr RateNames kRates[] = {
    {"bps-total", "bps", &Limits::bps_total, &Limits::bps_total_max, &Limits::bps_total_max_length,
     &ThrottleConfig::bytes, &Rates::total, "bytes per second"},
    {"bps-read", "bps_rd", &Limits::bps_read, &Limits::bps_read_max, &Limits::bps_read_max_length,
     &ThrottleConfig::bytes, &Rates::read, "bytes read per second"},
    {"bps-write", "bps_wr", &Limits::bps_write, &Limits::bps_write_max, &Limits::bps_write_max_length,
     &ThrottleConfig::bytes, &Rates::write, "bytes written per second"},
    {"iops-total", "iops", &Limits::iops_total, &Limits::iops_total_max, &Limits::iops_total_max_length,
     &ThrottleConfig::requests, &Rates::total, "requests per second"},
    {"iops-read", "iops_rd", &Limits::iops_read, &Limits::iops_read_max, &Limits::iops_read_max_length,
     &ThrottleConfig::requests, &Rates::read, "read requests per second"},
    {"iops-write", "iops_wr", &Limits::iops_write, &Limits::iops_write_max, &Limits::iops_write_max_length,
     &ThrottleConfig::requests, &Rates::write, "write requests per second"},
};

constexpr int64_t kMaxValue = 1'000'000'000'000'000;

// The declaration of all limits, as members of T.
template <class T>
OptionSet<T> declare(std::string_view set_name, std::string_view prefix, char separator, bool qmp) {
    OptionSet<T> set(set_name);
    auto add = [&](std::string name, Value ThrottleLimits::* member, std::string help) {
        std::move(set).optional(name, static_cast<Value T::*>(member), help);  // in place
    };
    for (const RateNames& rate : kRates) {
        std::string name = fmt::format("{}{}", prefix, qmp ? rate.qmp_name : rate.name);
        add(name, rate.per_second, fmt::format("limit of {} (0: none)", rate.what));
        add(fmt::format("{}{}max", name, separator), rate.max, fmt::format("{} in bursts", rate.what));
        add(fmt::format("{}{}max{}length", name, separator, separator), rate.max_length,
            "how long a burst may last, in seconds");
    }
    add(fmt::format("{}iops{}size", prefix, separator), &ThrottleLimits::iops_size,
        "requests larger than this count for several (0: for one)");
    return set;
}

Result<> check_rate(const ThrottleRate& rate) {
    if (rate.max_length == 0)
        return fail("the burst length cannot be 0");
    if (rate.max_length > 1 && rate.max_per_second == 0)
        return fail("burst length set without burst rate");
    if (rate.max_per_second && rate.max_length > static_cast<uint64_t>(kMaxValue) / rate.max_per_second)
        return fail("burst length too high for this burst rate");
    if (rate.max_per_second && rate.per_second == 0)
        return fail("bps_max/iops_max require corresponding bps/iops values");
    if (rate.max_per_second && rate.max_per_second < rate.per_second)
        return fail("bps_max/iops_max cannot be lower than bps/iops");
    return {};
}

}  // namespace

const OptionSet<ThrottleLimits>& ThrottleLimits::options() {
    static const auto set = declare<ThrottleLimits>("ThrottleLimits", "", '-', false);
    return set;
}

const OptionSet<DriveThrottling>& DriveThrottling::options() {
    static const auto set = OptionSet<DriveThrottling>("throttling")
                                .include(&DriveThrottling::limits)
                                .optional("group", &DriveThrottling::group,
                                          "drives with the same group share its limits (default: the drive's id)");
    return set;
}

const OptionSet<QmpThrottleLimits>& QmpThrottleLimits::options() {
    static const auto set = declare<QmpThrottleLimits>("BlockIOThrottle", "", '_', true);
    return set;
}

const OptionSet<UnstableThrottleLimits>& UnstableThrottleLimits::options() {
    static const auto set = declare<UnstableThrottleLimits>("x-limits", "x-", '-', false);
    return set;
}

const OptionSet<ThrottleGroupOptions>& ThrottleGroupOptions::options() {
    static const auto set = OptionSet<ThrottleGroupOptions>("throttle-group")
                                .optional("limits", &ThrottleGroupOptions::limits, "limits of the group")
                                .include(&ThrottleGroupOptions::unstable);
    return set;
}

ThrottleLimits ThrottleGroupOptions::combined() const {
    ThrottleLimits all = unstable;
    auto prefer = [&](Value ThrottleLimits::* member) {
        if (limits.*member)
            all.*member = limits.*member;
    };
    for (const RateNames& rate : kRates) {
        prefer(rate.per_second);
        prefer(rate.max);
        prefer(rate.max_length);
    }
    prefer(&ThrottleLimits::iops_size);
    return all;
}

Result<ThrottleConfig> ThrottleLimits::to_config(const ThrottleConfig& base) const {
    ThrottleConfig config = base;
    for (const RateNames& names : kRates) {
        ThrottleRate& rate = config.*names.rates.*names.rate;
        for (auto [given, value] : {std::pair(this->*names.per_second, &rate.per_second),
                                    std::pair(this->*names.max, &rate.max_per_second)}) {
            if (given && (*given < 0 || *given > kMaxValue))
                return fail("bps/iops/max values must be within [0, {}]", kMaxValue);
            if (given)
                *value = static_cast<uint64_t>(*given);
        }
        if (auto length = this->*names.max_length) {
            if (*length < 0 || *length > UINT32_MAX)
                return fail("{}-max-length value must be in the range [0, {}]", names.name, UINT32_MAX);
            rate.max_length = static_cast<uint64_t>(*length);
        }
    }
    if (iops_size) {
        if (*iops_size < 0)
            return fail("iops-size value must be in the range [0, {}]", INT64_MAX);
        config.request_size = static_cast<uint64_t>(*iops_size);
    }

    for (const auto& rates : {config.bytes, config.requests}) {
        if ((rates.total.per_second && (rates.read.per_second || rates.write.per_second)) ||
            (rates.total.max_per_second && (rates.read.max_per_second || rates.write.max_per_second)))
            return fail("bps/iops/max total values and read/write values cannot be used at the same time");
    }
    const auto& requests = config.requests;
    if (config.request_size && !requests.total.per_second && !requests.read.per_second && !requests.write.per_second)
        return fail("iops size requires an iops value to be set");
    for (const RateNames& names : kRates)
        if (auto valid = check_rate(config.*names.rates.*names.rate); !valid)
            return std::unexpected(std::move(valid.error()));
    return config;
}

ThrottleLimits ThrottleLimits::from_config(const ThrottleConfig& config) {
    ThrottleLimits limits;
    for (const RateNames& names : kRates) {
        const ThrottleRate& rate = config.*names.rates.*names.rate;
        limits.*names.per_second = static_cast<int64_t>(rate.per_second);
        limits.*names.max = static_cast<int64_t>(rate.max_per_second);
        limits.*names.max_length = static_cast<int64_t>(rate.max_length);
    }
    limits.iops_size = static_cast<int64_t>(config.request_size);
    return limits;
}

}  // namespace ashlar
