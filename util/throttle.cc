#include "util/throttle.h"

#include <algorithm>
#include <cmath>

namespace ashlar {

namespace {

constexpr double kNsPerSecond = 1e9;
constexpr double kUnburstSeconds = 0.1;
constexpr double kMaxWaitSeconds = 1e6;

}  // namespace

bool ThrottleConfig::limits_anything() const {
    for (const Rates* rates : {&bytes, &requests})
        if (rates->total.per_second || rates->read.per_second || rates->write.per_second)
            return true;
    return false;
}

void ThrottleState::Bucket::leak(const ThrottleRate& rate, double seconds) {
    level = std::max(0.0, level - static_cast<double>(rate.per_second) * seconds);
    burst_level = std::max(0.0, burst_level - static_cast<double>(rate.max_per_second) * seconds);
}

double ThrottleState::Bucket::wait_seconds(const ThrottleRate& rate) const {
    if (rate.per_second == 0)
        return 0;
    auto average = static_cast<double>(rate.per_second);
    auto burst = static_cast<double>(rate.max_per_second);
    double capacity = burst > 0 ? burst * static_cast<double>(rate.max_length) : average * kUnburstSeconds;
    double wait = (level - capacity) / average;
    if (burst > 0 && rate.max_length > 1)
        wait = std::max(wait, (burst_level - burst * kUnburstSeconds) / burst);
    return std::clamp(wait, 0.0, kMaxWaitSeconds);
}

void ThrottleState::configure(const ThrottleConfig& config, int64_t now_ns) {
    *this = {};
    config_ = config;
    leaked_at_ns_ = now_ns;
}

void ThrottleState::leak(int64_t now_ns) {
    if (now_ns <= leaked_at_ns_)
        return;
    double seconds = static_cast<double>(now_ns - leaked_at_ns_) / kNsPerSecond;
    leaked_at_ns_ = now_ns;
    auto leak_all = [seconds](Buckets& buckets, const ThrottleConfig::Rates& rates) {
        buckets.total.leak(rates.total, seconds);
        buckets.read.leak(rates.read, seconds);
        buckets.write.leak(rates.write, seconds);
    };
    leak_all(bytes_, config_.bytes);
    leak_all(requests_, config_.requests);
}

int64_t ThrottleState::wait_ns(bool is_write, int64_t now_ns) {
    leak(now_ns);
    auto wait = [is_write](const Buckets& buckets, const ThrottleConfig::Rates& rates) {
        return std::max(buckets.total.wait_seconds(rates.total),
                        is_write ? buckets.write.wait_seconds(rates.write) : buckets.read.wait_seconds(rates.read));
    };
    double seconds = std::max(wait(bytes_, config_.bytes), wait(requests_, config_.requests));
    return static_cast<int64_t>(std::ceil(seconds * kNsPerSecond));
}

void ThrottleState::account(bool is_write, int64_t bytes) {
    auto pour = [is_write](Buckets& buckets, double amount) {
        for (Bucket* bucket : {&buckets.total, is_write ? &buckets.write : &buckets.read}) {
            bucket->level += amount;
            bucket->burst_level += amount;
        }
    };
    auto size = static_cast<double>(bytes);
    pour(bytes_, size);
    pour(requests_, config_.request_size ? std::max(1.0, size / static_cast<double>(config_.request_size)) : 1.0);
}

}  // namespace ashlar
