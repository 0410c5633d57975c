// ThrottleState: how long a request has to wait so that rates are kept. The arithmetic of leaky buckets, nothing else.
//
// Every limit is a bucket that leaks at its rate: a request that is let go pours its amount in, and one that finds the
// bucket over its capacity waits until it has leaked down to it. The capacity is what may come at once: a tenth of a
// second's worth, or, where bursts are allowed, what `max_length` seconds of the burst rate bring; then a second bucket
// that leaks at the burst rate keeps bursts of more than a second to it. (docs/block.md, "Throttling".)
//
// Not thread-safe: its owner has a lock. Times are nanoseconds of a clock that does not go back.
#pragma once

#include <cstdint>

namespace ashlar {

struct ThrottleRate {
    uint64_t per_second = 0;      // 0: unlimited
    uint64_t max_per_second = 0;  // while a burst lasts; 0: no bursts
    uint64_t max_length = 1;      // of a burst, in seconds
    bool operator==(const ThrottleRate&) const = default;
};

struct ThrottleConfig {
    struct Rates {
        ThrottleRate total, read, write;
        bool operator==(const Rates&) const = default;
    };
    Rates bytes, requests;
    uint64_t request_size = 0;  // a larger request counts for several; 0: for one

    bool limits_anything() const;
    bool operator==(const ThrottleConfig&) const = default;
};

class ThrottleState {
public:
    // From now on, with empty buckets.
    void configure(const ThrottleConfig& config, int64_t now_ns);
    const ThrottleConfig& config() const { return config_; }

    int64_t wait_ns(bool is_write, int64_t now_ns);  // 0: a request may go
    void account(bool is_write, int64_t bytes);

private:
    struct Bucket {
        double level = 0;
        double burst_level = 0;

        void leak(const ThrottleRate& rate, double seconds);
        double wait_seconds(const ThrottleRate& rate) const;
    };
    struct Buckets {
        Bucket total, read, write;
    };

    void leak(int64_t now_ns);

    ThrottleConfig config_;
    Buckets bytes_, requests_;
    int64_t leaked_at_ns_ = 0;
};

}  // namespace ashlar
