// What query-blockstats tells, in QAPI's shapes. Main context.
#pragma once

#include "block/block_graph.h"

namespace ashlar {

struct BlockLatencyHistogram {
    std::vector<uint64_t> boundaries;  // ns
    std::vector<uint64_t> bins;

    static const OptionSet<BlockLatencyHistogram>& options();
};

struct TimedBlockStats {
    uint32_t interval_length = 0;  // s
    uint64_t min_rd_latency_ns = 0, max_rd_latency_ns = 0, avg_rd_latency_ns = 0;
    uint64_t min_wr_latency_ns = 0, max_wr_latency_ns = 0, avg_wr_latency_ns = 0;
    uint64_t min_flush_latency_ns = 0, max_flush_latency_ns = 0, avg_flush_latency_ns = 0;
    double avg_rd_queue_depth = 0, avg_wr_queue_depth = 0;

    static const OptionSet<TimedBlockStats>& options();
};

struct BlockDeviceStats {
    uint64_t rd_bytes = 0, wr_bytes = 0, unmap_bytes = 0;
    uint64_t rd_operations = 0, wr_operations = 0, flush_operations = 0, unmap_operations = 0;
    uint64_t rd_total_time_ns = 0, wr_total_time_ns = 0, flush_total_time_ns = 0, unmap_total_time_ns = 0;
    std::optional<int64_t> wr_highest_offset;  // of devices and exports
    uint64_t rd_merged = 0, wr_merged = 0, unmap_merged = 0;
    std::optional<int64_t> idle_time_ns;
    uint64_t failed_rd_operations = 0, failed_wr_operations = 0, failed_flush_operations = 0;
    uint64_t failed_unmap_operations = 0;
    uint64_t invalid_rd_operations = 0, invalid_wr_operations = 0, invalid_flush_operations = 0;
    uint64_t invalid_unmap_operations = 0;
    bool account_invalid = false, account_failed = false;
    std::vector<TimedBlockStats> timed_stats;
    std::optional<BlockLatencyHistogram> rd_latency_histogram, wr_latency_histogram, flush_latency_histogram;

    static const OptionSet<BlockDeviceStats>& options();
};

// Of `file` and `host_device`.
struct BlockStatsSpecific {
    std::string driver;
    uint64_t discard_nb_ok = 0, discard_nb_failed = 0, discard_bytes_ok = 0;

    static const OptionSet<BlockStatsSpecific>& options();
};

struct BlockStats {
    std::optional<std::string> device;
    std::optional<std::string> qdev;  // of an export: its id
    std::optional<std::string> node_name;
    BlockDeviceStats stats;
    std::optional<BlockStatsSpecific> driver_specific;
    std::shared_ptr<BlockStats> parent;   // of the primary child
    std::shared_ptr<BlockStats> backing;  // of the layer below: the backing file, or what is filtered

    static const OptionSet<BlockStats>& options();
};

BlockStats backend_stats(BlockBackend& backend);
// Of a node and what is below; the layers below only `with_backing`. Requests are counted where they come in, at
// BlockBackends: a node's counts are 0.
BlockStats node_stats(BlockDriverState& node, bool with_backing);

}  // namespace ashlar
