// -snapshot: what is written to an image goes to a temporary file over it, and is gone when the image is closed.
#pragma once

#include "block/block_graph.h"
#include "util/error.h"
#include "util/task.h"

namespace ashlar {

// A qcow2 image in $TMPDIR or /var/tmp, which has no name any more, over `base`: takes over the caller's reference to
// that, and gives one to the overlay. Main context.
[[nodiscard]] Task<Result<BlockDriverState*>> co_open_temporary_overlay(BlockGraph& graph, BlockDriverState& base,
                                                                        NodeFlags flags);

}  // namespace ashlar
