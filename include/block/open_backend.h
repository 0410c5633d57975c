// Opening an image and holding it, in one step. Main context.
#pragma once

#include "block/block_graph.h"
#include "util/json_fwd.h"

#include <memory>

namespace ashlar {

// `options`, `typing` and `flags` as for BlockGraph::co_open(); `perms` as for BlockBackend. The backend is the only
// one to hold the nodes: co_detach() closes them.
[[nodiscard]] Task<Result<std::unique_ptr<BlockBackend>>> co_open_backend(BlockGraph& graph, Json options,
                                                                          Typing typing, NodeFlags flags,
                                                                          ChildPerm perms);

}  // namespace ashlar
