// What query-block and query-named-block-nodes tell of nodes and devices, in QAPI's shapes. Main context.
#pragma once

#include "block/block_graph.h"
#include "block/image_info.h"
#include "block/throttle_limits.h"

namespace ashlar {

struct BlockDeviceCacheInfo {
    bool writeback = true;
    bool direct = false;
    bool no_flush = false;

    static const OptionSet<BlockDeviceCacheInfo>& options();
};

struct BlockDeviceInfo {
    std::string file;
    std::string node_name;
    bool ro = false;
    std::string drv;
    std::optional<std::string> backing_file;
    int64_t backing_file_depth = 0;
    bool encrypted = false;
    DetectZeroes detect_zeroes = DetectZeroes::Off;
    QmpThrottleLimits limits;
    ImageInfo image;
    std::optional<std::string> group;
    BlockDeviceCacheInfo cache;
    int64_t write_threshold = 0;

    static const OptionSet<BlockDeviceInfo>& options();
};

struct BlockInfo {
    std::string device;
    std::string type = "unknown";
    bool removable = true;
    bool locked = false;
    std::optional<BlockDeviceInfo> inserted;

    static const OptionSet<BlockInfo>& options();
};

// `backend`: through which the node is looked at, or null.
BlockDeviceInfo block_device_info(BlockDriverState& node, const BlockBackend* backend, bool with_backing);
BlockInfo block_info(BlockBackend& backend);

}  // namespace ashlar
