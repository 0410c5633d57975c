// snapshot_param of qemu-img, and -l of qemu-nbd: which internal snapshot of an image is meant.
#pragma once

#include "block/block_backend.h"
#include "util/error.h"

#include <string>

namespace ashlar::img {

// "snapshot.id=ID,snapshot.name=NAME", either or both, or a name or id by itself. Says what is wrong on standard error
// where it takes two messages.
Result<void> check_snapshot_argument(const std::string& argument);

// Makes the image, which is read-only, show that snapshot.
[[nodiscard]] Task<Result<void>> co_show_snapshot(BlockDriverState& image, std::string argument);
[[nodiscard]] Task<Result<void>> co_show_snapshot(BlockBackend& image, std::string argument);

}  // namespace ashlar::img
