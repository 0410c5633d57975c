// The human form of what is known of an image, made from the same data as the JSON.
#pragma once

#include "block/image_info.h"

#include <string>
#include <vector>

namespace ashlar::img {

std::string image_text(const ImageInfo& info);
std::string snapshots_text(const std::vector<SnapshotInfo>& snapshots);

}  // namespace ashlar::img
