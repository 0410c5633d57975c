// Reading guest data: each run of a request from where it is, several at once.
#pragma once

#include "block/qcow2/image.h"

namespace ashlar::qcow2 {

// `backing` may be null. Contract as BlockDriver::co_preadv.
[[nodiscard]] Task<int> co_read(Image& image, BdrvChild* backing, int64_t offset, int64_t bytes, IoVector iov);

// The decompressed cluster of `run` into `cluster`, which is as long as one.
[[nodiscard]] Task<int> co_read_compressed(Image& image, L2Entry entry, std::span<std::byte> cluster);

}  // namespace ashlar::qcow2
