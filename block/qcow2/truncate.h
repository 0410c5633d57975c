// Changing the size of the disk.
#pragma once

#include "block/block_types.h"
#include "block/qcow2/image.h"
#include "util/error.h"

namespace ashlar::qcow2 {

// Contract as BlockDriver::co_truncate.
[[nodiscard]] Task<Result<>> co_resize(Image& image, BdrvChild* backing, int64_t size, bool exact,
                                       PreallocMode prealloc);

// Makes the L1 table have at least so many entries.
[[nodiscard]] Task<int> co_extend_l1(Image& image, uint64_t entries);

}  // namespace ashlar::qcow2
