// Writing guest data. Contracts as BlockDriver's; `backing` may be null.
#pragma once

#include "block/qcow2/image.h"

namespace ashlar::qcow2 {

[[nodiscard]] Task<int> co_write(Image& image, BdrvChild* backing, int64_t offset, int64_t bytes, IoVector iov);

// Compressed, each cluster for itself, as far as they get smaller. -EINVAL: parts of clusters, but for the disk's last.
[[nodiscard]] Task<int> co_write_compressed(Image& image, BdrvChild* backing, int64_t offset, int64_t bytes,
                                            IoVector iov);

// By changing the mapping, after zeroing a raw data file; what reads as zeroes says so itself, but for version 2.
// -ENOTSUP where that cannot be done: parts of clusters with data, or of those of a raw data file; version 2 with a
// backing file.
[[nodiscard]] Task<int> co_write_zeroes(Image& image, BdrvChild* backing, int64_t offset, int64_t bytes,
                                        RequestFlags flags);

// Whole clusters; reads as zeroes afterwards, except where it was the backing file's and cannot be made so.
// -ENOTSUP: not in this image.
[[nodiscard]] Task<int> co_discard(Image& image, BdrvChild* backing, int64_t offset, int64_t bytes);

// Unmaps the clusters that begin in [begin, end), which are behind the end of the disk.
[[nodiscard]] Task<int> co_forget(Image& image, int64_t begin, int64_t end);

}  // namespace ashlar::qcow2
