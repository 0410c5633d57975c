#include "block/block_backend.h"
#include "block/block_node.h"
#include "block/image_create.h"
#include "block/image_format.h"
#include "block/qcow2/create.h"
#include "block/qcow2/driver.h"

#include <algorithm>
#include <bit>

namespace ashlar::qcow2 {

namespace {

constexpr uint64_t round_up(uint64_t value, uint64_t unit) {
    return (value + unit - 1) / unit * unit;
}

// Of an image in which everything is allocated, without the data.
uint64_t metadata_bytes(const Geometry& geometry, uint64_t disk_bytes) {
    uint64_t cluster = geometry.cluster_size(), entry = geometry.l2_entry_bytes();
    uint64_t data_clusters = geometry.clusters(disk_bytes);
    uint64_t l2_bytes = round_up(data_clusters, geometry.l2_entries()) * entry;
    uint64_t l1_bytes = round_up(l2_bytes / cluster, cluster / 8) * 8;
    uint64_t clusters = 1 + (l2_bytes + l1_bytes) / cluster;
    uint64_t blocks = 0, table = 0;
    for (;;) {
        uint64_t all = clusters + data_clusters + blocks + table;
        uint64_t need_blocks = (all + geometry.refblock_entries() - 1) >> geometry.refblock_bits();
        uint64_t need_table = geometry.clusters(need_blocks * 8);
        if (need_blocks == blocks && need_table == table)
            return (clusters + blocks + table) << geometry.cluster_bits;
        blocks = need_blocks;
        table = need_table;
    }
}

// What the source's persistent bitmaps would take.
uint64_t bitmap_bytes(const ImageFormat& source, const Geometry& geometry, uint64_t disk_bytes) {
    constexpr uint64_t kEntryBytes = 24;
    uint64_t all = 0, directory = 0;
    for (const StoredBitmap& bitmap : source.stored_bitmaps()) {
        if (bitmap.in_use)
            continue;
        uint64_t bits = (disk_bytes + bitmap.granularity - 1) / bitmap.granularity;
        uint64_t clusters = geometry.clusters((bits + 7) / 8);
        all += (clusters + geometry.clusters(clusters * 8)) << geometry.cluster_bits;
        directory += round_up(kEntryBytes + bitmap.name.size(), 8);
    }
    return all + geometry.cluster_end(directory);
}

// How many bytes of whole clusters have data in them.
Task<Result<uint64_t>> co_data_bytes(BlockBackend& source, const Geometry& geometry, uint64_t disk_bytes) {
    uint64_t clusters = 0, counted_to = 0;  // clusters below are counted
    for (uint64_t at = 0; at < disk_bytes;) {
        BlockStatus status =
            co_await source.co_block_status_above(static_cast<int64_t>(at), static_cast<int64_t>(disk_bytes - at));
        if (status.ret < 0)
            co_return fail_errno(-status.ret, "Unable to get block status");
        uint64_t end = at + static_cast<uint64_t>(status.bytes);
        if (status.has(BlockStatus::Data) && !status.has(BlockStatus::Zero)) {
            uint64_t first = std::max(at >> geometry.cluster_bits, counted_to);
            counted_to = std::max(geometry.clusters(end), counted_to);
            clusters += counted_to - std::min(first, counted_to);
        }
        at = end;
    }
    co_return clusters << geometry.cluster_bits;
}

}  // namespace

Task<Result<MeasuredSize>> co_measure(MeasureContext& context) {
    auto options = take_create_options(context);
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    const uint64_t cluster = options->cluster_size;
    if (std::has_single_bit(cluster) && cluster >= 1 << kMinClusterBits && cluster <= 1 << kMaxClusterBits) {
        Geometry geometry{static_cast<unsigned>(std::countr_zero(cluster)), 4, options->extended_l2};
        if (geometry.l1_entries_for(options->size) > kMaxL1Bytes / 8)
            co_return fail("The image size is too large (try using a larger cluster size)");
    }
    auto plan = plan_image(*options);
    if (!plan)
        co_return std::unexpected(std::move(plan.error()));
    const Geometry geometry = plan->header.geometry();
    const uint64_t disk_bytes = plan->header.size;
    const uint64_t metadata = metadata_bytes(geometry, disk_bytes);

    uint64_t data = 0;
    if (options->preallocation == PreallocMode::Full || options->preallocation == PreallocMode::Falloc) {
        data = geometry.cluster_end(disk_bytes);
    } else if (context.source() && options->backing_file) {
        data = geometry.cluster_end(disk_bytes);  // nobody knows what of it is in the backing file
    } else if (context.source()) {
        auto counted = co_await co_data_bytes(*context.source(), geometry, disk_bytes);
        if (!counted)
            co_return std::unexpected(std::move(counted.error()));
        data = *counted;
    }
    MeasuredSize size{metadata + data, metadata + geometry.cluster_end(disk_bytes), {}};
    if (BlockDriverState* root = context.source() ? context.source()->root() : nullptr)
        if (auto* source = dynamic_cast<Qcow2Driver*>(&root->driver()); source && source->version() >= 3)
            size.bitmaps = bitmap_bytes(*source, geometry, disk_bytes);
    co_return size;
}

}  // namespace ashlar::qcow2
