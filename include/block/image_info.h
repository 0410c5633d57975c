// What is known of an image: QAPI's ImageInfo, as `info` of the image tool and query-block tell it. Main context.
#pragma once

#include "block/block_node.h"
#include "util/options.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace ashlar {

struct SnapshotInfo {
    std::string id;
    std::string name;
    uint64_t vm_state_size = 0;
    int64_t date_sec = 0;
    int64_t date_nsec = 0;
    int64_t vm_clock_sec = 0;
    int64_t vm_clock_nsec = 0;
    std::optional<uint64_t> icount;

    static const OptionSet<SnapshotInfo>& options();
};

struct ImageInfo {
    std::string filename;
    std::string format;
    std::optional<bool> dirty_flag;
    std::optional<int64_t> actual_size;
    int64_t virtual_size = 0;
    std::optional<int64_t> cluster_size;
    std::optional<bool> encrypted;
    std::optional<std::string> backing_filename;
    std::optional<std::string> full_backing_filename;
    std::optional<std::string> backing_filename_format;
    std::optional<std::vector<SnapshotInfo>> snapshots;
    std::shared_ptr<ImageInfo> backing_image;
    std::optional<JsonBox> format_specific;

    static const OptionSet<ImageInfo>& options();
};

// The backing file is named as the image's header says, or, where the node has one that the header does not name, as
// that is called. `with_backing`: with what is known of the layers below, which are its backing files or what it is a
// filter of, if they are open.
ImageInfo image_info(BlockDriverState& node, bool with_backing);

// The layer that shows through a node: its backing file, or what it is a filter of; null if there is none.
BdrvChild* layer_below(const BlockDriverState& node);

// The snapshots of an image, none for a format that has none.
std::vector<SnapshotInfo> snapshot_infos(const BlockDriverState& node);

}  // namespace ashlar
