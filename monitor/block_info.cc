#include "monitor/block_info.h"

#include "block/dirty_bitmap.h"
#include "block/throttle_groups.h"
#include "util/json.h"

namespace ashlar {

const OptionSet<BlockDeviceCacheInfo>& BlockDeviceCacheInfo::options() {
    static const auto set =
        OptionSet<BlockDeviceCacheInfo>("BlockdevCacheInfo")
            .required("writeback", &BlockDeviceCacheInfo::writeback, "writes may be answered before they are stable")
            .required("direct", &BlockDeviceCacheInfo::direct, "past the host's page cache")
            .required("no-flush", &BlockDeviceCacheInfo::no_flush, "flushes do nothing");
    return set;
}

const OptionSet<DirtyBitmapInfo>& DirtyBitmapInfo::options() {
    using Info = DirtyBitmapInfo;
    static const auto set = OptionSet<Info>("BlockDirtyInfo")
                                .optional("name", &Info::name, "name of the bitmap")
                                .required("count", &Info::count, "bytes that are dirty")
                                .required("granularity", &Info::granularity, "bytes for each bit")
                                .required("recording", &Info::recording, "whether writes are recorded")
                                .required("busy", &Info::busy, "whether something relies on it")
                                .required("persistent", &Info::persistent, "whether it is stored in the image")
                                .optional("inconsistent", &Info::inconsistent, "true if it is of no use any more");
    return set;
}

const OptionSet<BlockDeviceInfo>& BlockDeviceInfo::options() {
    using Info = BlockDeviceInfo;
    static const auto set = OptionSet<Info>("BlockDeviceInfo")
                                .required("file", &Info::file, "name of the image")
                                .required("node-name", &Info::node_name, "the node")
                                .required("ro", &Info::ro, "read-only")
                                .required("drv", &Info::drv, "driver")
                                .optional("backing_file", &Info::backing_file, "name of the backing file")
                                .required("backing_file_depth", &Info::backing_file_depth,
                                          "layers below: backing files, and what is filtered")
                                .required("encrypted", &Info::encrypted, "whether the image is encrypted")
                                .required("detect_zeroes", &Info::detect_zeroes, "what becomes of writes of zeroes")
                                .include(&Info::limits)
                                .required("image", &Info::image, "the image")
                                .optional("group", &Info::group, "throttle group")
                                .required("cache", &Info::cache, "cache mode")
                                .required("write_threshold", &Info::write_threshold, "0: none")
                                .optional("dirty-bitmaps", &Info::dirty_bitmaps, "the newest first");
    return set;
}

const OptionSet<BlockInfo>& BlockInfo::options() {
    static const auto set =
        OptionSet<BlockInfo>("BlockInfo")
            .required("device", &BlockInfo::device, "name of the device")
            .required("type", &BlockInfo::type, "always \"unknown\"")
            .required("removable", &BlockInfo::removable, "whether the medium can be removed")
            .required("locked", &BlockInfo::locked, "whether the guest has locked it")
            .optional("qdev", &BlockInfo::qdev, "the device that uses it")
            .optional("io-status", &BlockInfo::io_status, "whether a request has stopped the machine")
            .optional("inserted", &BlockInfo::inserted, "the medium, if there is one");
    return set;
}

namespace {

// The limits as query-block shows them: bursts only where there are some.
QmpThrottleLimits shown_limits(const ThrottleConfig& config) {
    QmpThrottleLimits limits{ThrottleLimits::from_config(config)};
    auto hide = [](std::optional<int64_t>& max, std::optional<int64_t>& length) {
        if (max.value_or(0) == 0) {
            max.reset();
            length.reset();
        }
    };
    hide(limits.bps_total_max, limits.bps_total_max_length);
    hide(limits.bps_read_max, limits.bps_read_max_length);
    hide(limits.bps_write_max, limits.bps_write_max_length);
    hide(limits.iops_total_max, limits.iops_total_max_length);
    hide(limits.iops_read_max, limits.iops_read_max_length);
    hide(limits.iops_write_max, limits.iops_write_max_length);
    if (limits.iops_size.value_or(0) == 0)
        limits.iops_size.reset();
    return limits;
}

std::optional<std::vector<DirtyBitmapInfo>> dirty_bitmaps_of(const BlockDriverState& node) {
    std::vector<DirtyBitmapInfo> list;
    for (const auto& bitmap : node.dirty_bitmaps()) {
        if (bitmap->name().empty())
            continue;
        const bool inconsistent = bitmap->is_inconsistent();
        list.insert(list.begin(), {.name = bitmap->name(),
                                   .count = bitmap->count(),
                                   .granularity = bitmap->granularity(),
                                   .recording = bitmap->is_enabled() && !inconsistent,
                                   .busy = bitmap->is_busy(),
                                   .persistent = bitmap->is_persistent(),
                                   .inconsistent = inconsistent ? std::optional(true) : std::nullopt});
    }
    return list.empty() ? std::nullopt : std::optional(std::move(list));
}

}  // namespace

BlockDeviceInfo block_device_info(BlockDriverState& node, const BlockBackend* backend, bool with_backing) {
    BlockDeviceInfo info;
    info.file = node.filename();
    info.node_name = node.node_name();
    info.ro = node.is_read_only();
    info.drv = node.type().name;
    info.image = image_info(node, with_backing);
    info.backing_file = info.image.full_backing_filename;
    for (BdrvChild* below = layer_below(node); below; below = layer_below(below->node()))
        ++info.backing_file_depth;
    info.detect_zeroes = node.flags().detect_zeroes;
    info.cache = {!backend || backend->write_cache(), node.flags().direct, node.flags().no_flush};
    ThrottleConfig config;
    if (auto group = backend ? throttle_group_of(*backend) : nullptr) {
        config = group->config();
        info.group = group->name();
    }
    info.limits = shown_limits(config);
    info.dirty_bitmaps = dirty_bitmaps_of(node);
    return info;
}

BlockInfo block_info(BlockBackend& backend, const MachineControl::Disk* disk) {
    BlockInfo info{.device = backend.name()};
    if (disk) {
        info.removable = false;
        info.qdev = disk->path;
        info.io_status = disk->io_status;
    }
    if (BlockDriverState* root = backend.root())
        info.inserted = block_device_info(*root, &backend, true);
    return info;
}

}  // namespace ashlar
