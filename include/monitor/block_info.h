// What query-block and query-named-block-nodes tell of nodes and devices, in QAPI's shapes. Main context.
#pragma once

#include "block/block_graph.h"
#include "block/image_info.h"
#include "block/throttle_limits.h"
#include "monitor/machine_control.h"

namespace ashlar {

struct BlockDeviceCacheInfo {
    bool writeback = true;
    bool direct = false;
    bool no_flush = false;

    static const OptionSet<BlockDeviceCacheInfo>& options();
};

// BlockDirtyInfo
struct DirtyBitmapInfo {
    std::optional<std::string> name;
    int64_t count = 0;  // bytes
    uint32_t granularity = 0;
    bool recording = false;
    bool busy = false;
    bool persistent = false;
    std::optional<bool> inconsistent;  // if it is

    static const OptionSet<DirtyBitmapInfo>& options();
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
    std::optional<std::vector<DirtyBitmapInfo>> dirty_bitmaps;

    static const OptionSet<BlockDeviceInfo>& options();
};

struct BlockInfo {
    std::string device;
    std::string type = "unknown";
    bool removable = true;
    bool locked = false;
    std::optional<std::string> qdev;
    std::optional<IoStatus> io_status;
    std::optional<BlockDeviceInfo> inserted;

    static const OptionSet<BlockInfo>& options();
};

// `backend`: through which the node is looked at, or null.
BlockDeviceInfo block_device_info(BlockDriverState& node, const BlockBackend* backend, bool with_backing);
BlockInfo block_info(BlockBackend& backend, const MachineControl::Disk* disk);  // null: it is none of the machine's

}  // namespace ashlar
