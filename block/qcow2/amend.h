// Changing the image itself: what its header says, and everything that must be otherwise for that. In the main context,
// with no request in the node, which is writable.
#pragma once

#include "block/image_format.h"
#include "block/qcow2/image.h"

namespace ashlar::qcow2 {

[[nodiscard]] Task<Result<void>> co_change_backing_name(Image& image, BackingName name);

// All of the disk is the backing file's again.
[[nodiscard]] Task<Result<void>> co_make_empty(Image& image);

}  // namespace ashlar::qcow2
