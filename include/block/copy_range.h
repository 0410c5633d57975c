// Copying by the host, from one file to another, without the data passing through here: copy_file_range(2), which
// shares blocks where the file system can.
#pragma once

#include "block/block_backend.h"
#include "util/task.h"

namespace ashlar {

// Copies bytes that `from` has as data. 0; -ENOTSUP if these images are not files, or parts of files, in which the data
// are as they are read, or if the host cannot; another negative errno if it failed. Any context; nobody changes the
// graph.
[[nodiscard]] Task<int> co_copy_range(BlockBackend& from, int64_t from_offset, BlockBackend& to, int64_t to_offset,
                                      int64_t bytes);

}  // namespace ashlar
