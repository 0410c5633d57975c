// Changing the size of the disk.
#pragma once

#include "block/qcow2/image.h"

namespace ashlar::qcow2 {

// Contract as BlockDriver::co_truncate, with PreallocMode::Off.
[[nodiscard]] Task<int> co_resize(Image& image, BdrvChild* backing, int64_t size);

// Makes the L1 table have at least so many entries.
[[nodiscard]] Task<int> co_extend_l1(Image& image, uint64_t entries);

}  // namespace ashlar::qcow2
