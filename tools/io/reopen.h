// `reopen` of ashlar-io: other options for an image that is open; what is not said stays as it is.
#pragma once

#include "block/block_backend.h"
#include "block/cache_mode.h"
#include "util/error.h"
#include "util/json.h"
#include "util/task.h"

#include <optional>

namespace ashlar {

struct IoReopen {
    std::optional<bool> read_only = {};
    std::optional<CacheMode> cache = {};
    Json options = Json::object();  // of the node, with those of its children as objects
};

// `node` is the image, `backend` what holds it. All of it happens, or nothing.
[[nodiscard]] Task<Result<void>> co_reopen(BlockBackend& backend, BlockDriverState& node, IoReopen change);

}  // namespace ashlar
