// Changing the size of the disk.
#pragma once

#include "block/qcow2/image.h"

namespace ashlar::qcow2 {

// Contract as BlockDriver::co_truncate, with PreallocMode::Off. -ENOTSUP: there are snapshots.
[[nodiscard]] Task<int> co_resize(Image& image, BdrvChild* backing, int64_t size);

}  // namespace ashlar::qcow2
