#include "monitor/block_stats.h"

#include "block/accounting.h"
#include "block/host_storage.h"
#include "block/image_info.h"

namespace ashlar {

const OptionSet<BlockLatencyHistogram>& BlockLatencyHistogram::options() {
    using Histogram = BlockLatencyHistogram;
    static const auto set = OptionSet<Histogram>("BlockLatencyHistogramInfo")
                                .required("boundaries", &Histogram::boundaries, "between the bins, in ns")
                                .required("bins", &Histogram::bins, "requests in each");
    return set;
}

const OptionSet<TimedBlockStats>& TimedBlockStats::options() {
    using Stats = TimedBlockStats;
    static const auto set = OptionSet<Stats>("BlockDeviceTimedStats")
                                .required("interval_length", &Stats::interval_length, "seconds")
                                .required("min_rd_latency_ns", &Stats::min_rd_latency_ns, "of reads")
                                .required("max_rd_latency_ns", &Stats::max_rd_latency_ns, "of reads")
                                .required("avg_rd_latency_ns", &Stats::avg_rd_latency_ns, "of reads")
                                .required("min_wr_latency_ns", &Stats::min_wr_latency_ns, "of writes")
                                .required("max_wr_latency_ns", &Stats::max_wr_latency_ns, "of writes")
                                .required("avg_wr_latency_ns", &Stats::avg_wr_latency_ns, "of writes")
                                .required("min_flush_latency_ns", &Stats::min_flush_latency_ns, "of flushes")
                                .required("max_flush_latency_ns", &Stats::max_flush_latency_ns, "of flushes")
                                .required("avg_flush_latency_ns", &Stats::avg_flush_latency_ns, "of flushes")
                                .required("avg_rd_queue_depth", &Stats::avg_rd_queue_depth, "reads under way")
                                .required("avg_wr_queue_depth", &Stats::avg_wr_queue_depth, "writes under way");
    return set;
}

const OptionSet<BlockDeviceStats>& BlockDeviceStats::options() {
    using Stats = BlockDeviceStats;
    static const auto set =
        OptionSet<Stats>("BlockDeviceStats")
            .required("rd_bytes", &Stats::rd_bytes, "bytes read")
            .required("wr_bytes", &Stats::wr_bytes, "bytes written")
            .required("unmap_bytes", &Stats::unmap_bytes, "bytes discarded")
            .required("rd_operations", &Stats::rd_operations, "reads")
            .required("wr_operations", &Stats::wr_operations, "writes")
            .required("flush_operations", &Stats::flush_operations, "flushes")
            .required("unmap_operations", &Stats::unmap_operations, "discards")
            .required("rd_total_time_ns", &Stats::rd_total_time_ns, "time of reads")
            .required("wr_total_time_ns", &Stats::wr_total_time_ns, "time of writes")
            .required("flush_total_time_ns", &Stats::flush_total_time_ns, "time of flushes")
            .required("unmap_total_time_ns", &Stats::unmap_total_time_ns, "time of discards")
            .optional("wr_highest_offset", &Stats::wr_highest_offset, "the end of the write that reached furthest")
            .required("rd_merged", &Stats::rd_merged, "reads that became part of others")
            .required("wr_merged", &Stats::wr_merged, "writes that became part of others")
            .required("unmap_merged", &Stats::unmap_merged, "discards that became part of others")
            .optional("idle_time_ns", &Stats::idle_time_ns, "since the last request")
            .required("failed_rd_operations", &Stats::failed_rd_operations, "reads that failed")
            .required("failed_wr_operations", &Stats::failed_wr_operations, "writes that failed")
            .required("failed_flush_operations", &Stats::failed_flush_operations, "flushes that failed")
            .required("failed_unmap_operations", &Stats::failed_unmap_operations, "discards that failed")
            .required("invalid_rd_operations", &Stats::invalid_rd_operations, "reads that were refused")
            .required("invalid_wr_operations", &Stats::invalid_wr_operations, "writes that were refused")
            .required("invalid_flush_operations", &Stats::invalid_flush_operations, "flushes that were refused")
            .required("invalid_unmap_operations", &Stats::invalid_unmap_operations, "discards that were refused")
            .required("account_invalid", &Stats::account_invalid, "whether refused ones count as activity")
            .required("account_failed", &Stats::account_failed, "whether failed ones count in times")
            .required("timed_stats", &Stats::timed_stats, "over intervals")
            .optional("rd_latency_histogram", &Stats::rd_latency_histogram, "of reads")
            .optional("wr_latency_histogram", &Stats::wr_latency_histogram, "of writes")
            .optional("flush_latency_histogram", &Stats::flush_latency_histogram, "of flushes");
    return set;
}

const OptionSet<BlockStatsSpecific>& BlockStatsSpecific::options() {
    using Stats = BlockStatsSpecific;
    static const auto set =
        OptionSet<Stats>("BlockStatsSpecific")
            .required("driver", &Stats::driver, "file or host_device")
            .required("discard-nb-ok", &Stats::discard_nb_ok, "discards that were done")
            .required("discard-nb-failed", &Stats::discard_nb_failed, "discards that failed")
            .required("discard-bytes-ok", &Stats::discard_bytes_ok, "bytes of those that were done");
    return set;
}

const OptionSet<BlockStats>& BlockStats::options() {
    static const auto set =
        OptionSet<BlockStats>("BlockStats")
            .optional("device", &BlockStats::device, "the device")
            .optional("qdev", &BlockStats::qdev, "the export")
            .optional("node-name", &BlockStats::node_name, "the node")
            .required("stats", &BlockStats::stats, "the numbers")
            .optional("driver-specific", &BlockStats::driver_specific, "what only this driver counts")
            .optional("parent", &BlockStats::parent, "of what is below")
            .optional("backing", &BlockStats::backing, "of the backing file, or of what is filtered");
    return set;
}

namespace {

using Type = BlockAccounting::Type;

BlockDeviceStats device_stats(const BlockAccounting& accounting) {
    BlockDeviceStats s;
    auto reads = accounting.counts(Type::Read), writes = accounting.counts(Type::Write);
    auto flushes = accounting.counts(Type::Flush), unmaps = accounting.counts(Type::Unmap);
    s.rd_bytes = reads.bytes, s.wr_bytes = writes.bytes, s.unmap_bytes = unmaps.bytes;
    s.rd_operations = reads.operations, s.wr_operations = writes.operations;
    s.flush_operations = flushes.operations, s.unmap_operations = unmaps.operations;
    s.rd_total_time_ns = reads.time_ns, s.wr_total_time_ns = writes.time_ns;
    s.flush_total_time_ns = flushes.time_ns, s.unmap_total_time_ns = unmaps.time_ns;
    s.wr_highest_offset = accounting.highest_written();
    s.rd_merged = reads.merged, s.wr_merged = writes.merged, s.unmap_merged = unmaps.merged;
    s.failed_rd_operations = reads.failed, s.failed_wr_operations = writes.failed;
    s.failed_flush_operations = flushes.failed, s.failed_unmap_operations = unmaps.failed;
    s.invalid_rd_operations = reads.invalid, s.invalid_wr_operations = writes.invalid;
    s.invalid_flush_operations = flushes.invalid, s.invalid_unmap_operations = unmaps.invalid;
    s.account_invalid = accounting.account_invalid(), s.account_failed = accounting.account_failed();
    int64_t now = now_ns();
    if (int64_t idle = accounting.idle_ns(now); idle >= 0)
        s.idle_time_ns = idle;
    for (const BlockAccounting::Interval& i : accounting.intervals(now))
        s.timed_stats.push_back({i.length, i.min[0], i.max[0], i.average[0], i.min[1], i.max[1], i.average[1], i.min[2],
                                 i.max[2], i.average[2], i.queue_depth[0], i.queue_depth[1]});
    auto histogram = [&](Type type, std::optional<BlockLatencyHistogram>& out) {
        BlockAccounting::Histogram storage;
        if (const auto* found = accounting.histogram(type, storage))
            out = {found->boundaries, found->bins};
    };
    histogram(Type::Read, s.rd_latency_histogram);
    histogram(Type::Write, s.wr_latency_histogram);
    histogram(Type::Flush, s.flush_latency_histogram);
    return s;
}

}  // namespace

BlockStats node_stats(BlockDriverState& node, bool with_backing) {
    BlockStats stats;
    stats.node_name = node.node_name();
    if (const HostStorage* storage = HostStorage::of(node)) {
        const DiscardCounts discards = storage->discard_counts();
        stats.driver_specific = {std::string(node.type().name), discards.ok, discards.failed, discards.bytes};
    }
    if (BdrvChild* child = node.primary_child())
        stats.parent = std::make_shared<BlockStats>(node_stats(child->node(), with_backing));
    if (BdrvChild* child = layer_below(node); child && with_backing)
        stats.backing = std::make_shared<BlockStats>(node_stats(child->node(), with_backing));
    return stats;
}

BlockStats backend_stats(BlockBackend& backend) {
    BlockStats stats;
    if (BlockDriverState* root = backend.root())
        stats = node_stats(*root, true);
    stats.device = backend.name();
    stats.stats = device_stats(backend.accounting());
    return stats;
}

}  // namespace ashlar
