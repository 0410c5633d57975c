#include "block/accounting.h"

#include <algorithm>

namespace ashlar {

namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

// Threads that count take numbers in turn; those that get the same share a shard, which is only slower.
unsigned thread_number() {
    static std::atomic<unsigned> next{0};
    thread_local const unsigned number = next.fetch_add(1, kRelaxed);
    return number;
}

}  // namespace

struct alignas(64) BlockAccounting::Shard {
    struct Counters {
        std::atomic<uint64_t> operations{0}, bytes{0}, failed{0}, invalid{0}, merged{0}, time_ns{0};
    };
    std::array<Counters, kTypes> of{};
    std::atomic<int64_t> last_ns{0};
    std::atomic<int64_t> written_until{0};
};

struct BlockAccounting::Bins {
    std::vector<uint64_t> boundaries;
    std::unique_ptr<std::atomic<uint64_t>[]> counts;
};

// Two overlapping windows of the interval's length, half of it apart: the older one is always at least half full.
struct BlockAccounting::TimedInterval {
    struct Window {
        int64_t end_ns = 0;
        uint64_t min = UINT64_MAX, max = 0, sum = 0, count = 0;

        void add(uint64_t value) {
            min = std::min(min, value);
            max = std::max(max, value);
            sum += value;
            ++count;
        }
    };
    struct Average {
        std::array<Window, 2> windows;

        // The window to be asked, after those that have run out have begun anew.
        Window& current(int64_t now, int64_t length) {
            for (Window& window : windows)
                if (window.end_ns == 0)
                    window.end_ns = now + (&window == &windows[0] ? length / 2 : length);
            for (Window& window : windows) {
                if (window.end_ns > now)
                    continue;
                int64_t end = window.end_ns + (now - window.end_ns) / length * length + length;
                window = Window{.end_ns = end};
            }
            return windows[0].end_ns < windows[1].end_ns ? windows[0] : windows[1];
        }
        void add(uint64_t value, int64_t now, int64_t length) {
            current(now, length);
            for (Window& window : windows)
                window.add(value);
        }
    };

    uint32_t seconds = 0;
    mutable std::mutex lock;
    mutable std::array<Average, 3> latency;

    int64_t length_ns() const { return int64_t{seconds} * 1'000'000'000; }
};

BlockAccounting::BlockAccounting() : shards_(std::make_unique<Shard[]>(kShards)) {}
BlockAccounting::~BlockAccounting() = default;

[[gnu::noinline]] BlockAccounting::Shard& BlockAccounting::shard() {
    return shards_[thread_number() % kShards];
}

void BlockAccounting::wrote_until(int64_t end) {
    std::atomic<int64_t>& highest = shard().written_until;
    int64_t old = highest.load(kRelaxed);
    while (old < end && !highest.compare_exchange_weak(old, end, kRelaxed)) {
    }
}

int64_t BlockAccounting::highest_written() const {
    int64_t highest = 0;
    for (unsigned i = 0; i < kShards; ++i)
        highest = std::max(highest, shards_[i].written_until.load(kRelaxed));
    return highest;
}

void BlockAccounting::done(Type type, int64_t bytes, int64_t start_ns, int64_t end_ns, bool ok) {
    const auto index = static_cast<unsigned>(type);
    const auto took = static_cast<uint64_t>(std::max<int64_t>(end_ns - start_ns, 0));
    Shard& mine = shard();
    Shard::Counters& counters = mine.of[index];
    if (ok) {
        counters.operations.fetch_add(1, kRelaxed);
        counters.bytes.fetch_add(static_cast<uint64_t>(bytes), kRelaxed);
    } else {
        counters.failed.fetch_add(1, kRelaxed);
        if (!account_failed_)
            return;
    }
    counters.time_ns.fetch_add(took, kRelaxed);
    mine.last_ns.store(end_ns, kRelaxed);
    if (Bins* bins = bins_[index].get()) {
        auto bin = std::upper_bound(bins->boundaries.begin(), bins->boundaries.end(), took) - bins->boundaries.begin();
        bins->counts[bin].fetch_add(1, kRelaxed);
    }
    if (index < 3) {
        for (const auto& interval : intervals_) {
            std::lock_guard guard(interval->lock);
            interval->latency[index].add(took, end_ns, interval->length_ns());
        }
    }
}

void BlockAccounting::invalid(Type type) {
    Shard& mine = shard();
    mine.of[static_cast<unsigned>(type)].invalid.fetch_add(1, kRelaxed);
    if (account_invalid_)
        mine.last_ns.store(now_ns(), kRelaxed);
}

void BlockAccounting::merged(Type type, unsigned requests) {
    shard().of[static_cast<unsigned>(type)].merged.fetch_add(requests, kRelaxed);
}

void BlockAccounting::set_histogram(Type type, std::span<const uint64_t> boundaries) {
    auto& bins = bins_[static_cast<unsigned>(type)];
    bins.reset();
    if (boundaries.empty())
        return;
    bins = std::make_unique<Bins>();
    bins->boundaries.assign(boundaries.begin(), boundaries.end());
    bins->counts = std::make_unique<std::atomic<uint64_t>[]>(boundaries.size() + 1);
}

void BlockAccounting::add_interval(uint32_t seconds) {
    auto interval = std::make_unique<TimedInterval>();
    interval->seconds = seconds;
    intervals_.push_back(std::move(interval));
}

BlockAccounting::Counts BlockAccounting::counts(Type type) const {
    Counts sum;
    for (unsigned i = 0; i < kShards; ++i) {
        const Shard::Counters& counters = shards_[i].of[static_cast<unsigned>(type)];
        sum.operations += counters.operations.load(kRelaxed);
        sum.bytes += counters.bytes.load(kRelaxed);
        sum.failed += counters.failed.load(kRelaxed);
        sum.invalid += counters.invalid.load(kRelaxed);
        sum.merged += counters.merged.load(kRelaxed);
        sum.time_ns += counters.time_ns.load(kRelaxed);
    }
    return sum;
}

const BlockAccounting::Histogram* BlockAccounting::histogram(Type type, Histogram& storage) const {
    const Bins* bins = bins_[static_cast<unsigned>(type)].get();
    if (!bins)
        return nullptr;
    storage.boundaries = bins->boundaries;
    storage.bins.clear();
    for (size_t i = 0; i <= bins->boundaries.size(); ++i)
        storage.bins.push_back(bins->counts[i].load(kRelaxed));
    return &storage;
}

std::vector<BlockAccounting::Interval> BlockAccounting::intervals(int64_t now) const {
    std::vector<Interval> result;
    for (const auto& interval : intervals_) {
        std::lock_guard guard(interval->lock);
        const int64_t length = interval->length_ns();
        Interval& out = result.emplace_back();
        out.length = interval->seconds;
        for (unsigned i = 0; i < 3; ++i) {
            const TimedInterval::Window& window = interval->latency[i].current(now, length);
            if (window.count == 0)
                continue;
            out.min[i] = window.min;
            out.max[i] = window.max;
            out.average[i] = window.sum / window.count;
            const int64_t elapsed = std::max<int64_t>(now - (window.end_ns - length), 1);
            if (i < 2)  // the time that requests were there, in all, for each nanosecond of the window
                out.queue_depth[i] = static_cast<double>(window.sum) / static_cast<double>(elapsed);
        }
    }
    return result;
}

int64_t BlockAccounting::idle_ns(int64_t now) const {
    int64_t last = 0;
    for (unsigned i = 0; i < kShards; ++i)
        last = std::max(last, shards_[i].last_ns.load(kRelaxed));
    return last == 0 ? -1 : std::max<int64_t>(now - last, 0);
}

}  // namespace ashlar
