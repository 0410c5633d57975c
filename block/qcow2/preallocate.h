// Giving guest clusters their place in the file before they are written to.
#pragma once

#include "block/block_types.h"
#include "block/qcow2/image.h"
#include "util/error.h"

namespace ashlar::qcow2 {

// What that means for the file, or the data file, when it is made longer.
constexpr PreallocMode mode_below(PreallocMode mode) {
    return mode == PreallocMode::Metadata ? PreallocMode::Off : mode;
}

// Of the clusters that begin in [begin, end) those that have none; they read as before. Metadata: in the mapping only;
// Falloc and Full: the file has room for them as well. The end of the disk may be elsewhere.
[[nodiscard]] Task<Result<void>> co_preallocate(Image& image, uint64_t begin, uint64_t end, PreallocMode mode);

}  // namespace ashlar::qcow2
