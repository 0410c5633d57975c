// -drive: an image as a device with a name, as QEMU has had it for a long time. Main context.
#pragma once

#include "block/block_graph.h"

#include <string>

namespace ashlar {

// `number`: of this -drive, from which comes its name if it has none ("none0").
[[nodiscard]] Task<Result<void>> co_add_drive(BlockGraph& graph, std::string argument, unsigned number);

}  // namespace ashlar
