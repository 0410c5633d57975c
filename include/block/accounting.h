// BlockAccounting: what a BlockBackend has been asked to do, and how long that took; for query-blockstats.
//
// Counting is from any context, without locks: each thread has counters of its own, which the queries add up. Times are
// nanoseconds. Histograms and intervals are set while the BlockBackend is drained or has no root.
#pragma once

#include "util/timer.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace ashlar {

class BlockAccounting {
public:
    enum class Type : uint8_t { Read, Write, Flush, Unmap };
    static constexpr unsigned kTypes = 4;

    struct Counts {
        uint64_t operations = 0;  // that succeeded
        uint64_t bytes = 0;
        uint64_t failed = 0;
        uint64_t invalid = 0;  // refused before they were begun
        uint64_t merged = 0;
        uint64_t time_ns = 0;  // of those that succeeded, and of failed ones if account_failed
    };
    struct Histogram {
        std::vector<uint64_t> boundaries;  // ns, ascending; n of them make n + 1 bins
        std::vector<uint64_t> bins;
    };
    struct Interval {  // over the last `length` seconds
        uint32_t length = 0;
        std::array<uint64_t, 3> min{}, max{}, average{};  // ns, of reads, writes and flushes
        std::array<double, 2> queue_depth{};              // of reads and writes
    };

    BlockAccounting();
    ~BlockAccounting();

    // --- counting: any context ---
    void done(Type type, int64_t bytes, int64_t start_ns, int64_t end_ns, bool ok);
    void invalid(Type type);
    void wrote_until(int64_t end);  // a write that succeeded ended there
    void merged(Type type, unsigned requests);

    // --- settings ---
    void set_account_invalid(bool on) { account_invalid_ = on; }  // -drive stats-account-invalid
    void set_account_failed(bool on) { account_failed_ = on; }
    bool account_invalid() const { return account_invalid_; }
    bool account_failed() const { return account_failed_; }
    void set_histogram(Type type, std::span<const uint64_t> boundaries);  // ascending, none 0; empty: no histogram
    void add_interval(uint32_t seconds);

    // --- queries ---
    Counts counts(Type type) const;
    const Histogram* histogram(Type type, Histogram& storage) const;  // null if there is none
    std::vector<Interval> intervals(int64_t now) const;
    int64_t highest_written() const;  // the end of the write that reached furthest
    int64_t idle_ns(int64_t now) const;  // since the last request ended; -1: there was none

private:
    struct Shard;
    struct Bins;
    struct TimedInterval;
    Shard& shard();

    static constexpr unsigned kShards = 16;
    std::unique_ptr<Shard[]> shards_;
    std::array<std::unique_ptr<Bins>, kTypes> bins_;
    std::vector<std::unique_ptr<TimedInterval>> intervals_;
    bool account_invalid_ = true;
    bool account_failed_ = true;
};

}  // namespace ashlar
