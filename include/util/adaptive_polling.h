// How long a loop spins before it sleeps, learned from its sleeps.
//
// Spinning pays where the event that a loop sleeps for comes soon: it was slept for no longer than the longest time
// that may be spun. Each sleep makes the time longer or shorter accordingly. Values; PollTime belongs to the loop's
// thread.
#pragma once

#include <algorithm>
#include <cstdint>

namespace ashlar {

struct PollParameters {
    int64_t max_ns = 64'000;  // 0: the loop never spins
    int64_t grow = 0;         // the time is multiplied by it when spinning would have paid
    int64_t shrink = 0;       // and divided by it when it would not

    static constexpr int64_t kDefaultFactor = 2;  // what 0 stands for
};

class PollTime {
public:
    int64_t ns(int64_t max_ns) const { return std::min(ns_, max_ns); }

    void slept(int64_t ns, const PollParameters& parameters) {
        const int64_t grow = parameters.grow ? parameters.grow : PollParameters::kDefaultFactor;
        const int64_t shrink = parameters.shrink ? parameters.shrink : PollParameters::kDefaultFactor;
        if (ns > parameters.max_ns)
            ns_ /= shrink;
        else if (ns_ > parameters.max_ns / grow)
            ns_ = parameters.max_ns;
        else
            ns_ = std::min(parameters.max_ns, std::max(kFirstNs, ns_ * grow));
        if (ns_ < kLeastNs)
            ns_ = 0;
    }

private:
    static constexpr int64_t kFirstNs = 4000;
    static constexpr int64_t kLeastNs = 1000;  // not worth a look at the clock

    int64_t ns_ = 0;
};

}  // namespace ashlar
