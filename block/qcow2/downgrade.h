// What version 2 of the format does not have: clusters that read as zeroes because their entry says so.
#pragma once

#include "block/qcow2/image.h"
#include "util/error.h"

namespace ashlar {
class Progress;
}

namespace ashlar::qcow2 {

// What snapshots say of themselves must fit into what version 2 keeps of it.
Result<void> check_snapshots_for_downgrade(const Image& image);

// Of the disk and of the snapshots. In the main context, with no request in the node, which is writable.
[[nodiscard]] Task<Result<void>> co_expand_zero_clusters(Image& image, BdrvChild* backing, Progress& progress);

}  // namespace ashlar::qcow2
