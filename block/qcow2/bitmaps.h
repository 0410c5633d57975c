// Persistent dirty bitmaps: from the image to the node that shows it, and back. Specification: "Bitmaps".
//
// While an image is open for writing its bitmaps are in memory, and those in the file are marked as in use: if nobody
// stores them again they are inconsistent, which is all that is known of them then. Storing writes everything anew and
// makes it the image's by one write of the header, so that a crash leaves the bitmaps that were there before, in use.
//
// In the main context, with no request in the node; the allocation lock is not held, but for marking.
#pragma once

#include "block/block_node.h"
#include "block/qcow2/image.h"

#include <string>

namespace ashlar::qcow2 {

// Of one bitmap; what is larger is neither loaded nor stored.
constexpr uint64_t kMaxBitmapBytes = 512 << 20;

// Makes bitmaps of the node of those in `image.bitmaps`, when it is opened; they are read-only if the image is.
[[nodiscard]] Task<Result<void>> co_load_bitmaps(Image& image, BlockDriverState& node);

// The image can be written: it says that its bitmaps are in use.
[[nodiscard]] Task<Result<void>> co_mark_bitmaps_in_use(Image& image);

// Whether there is room for one more of the node's persistent bitmaps.
Result<void> can_store_bitmap(const Image& image, const BlockDriverState& node, const std::string& name,
                              uint32_t granularity);

// Those of the node that are persistent; what is inconsistent stays as it is. On failure nothing is different.
[[nodiscard]] Task<Result<void>> co_store_bitmaps(Image& image, const BlockDriverState& node);

// From the file, if it is there.
[[nodiscard]] Task<Result<void>> co_remove_bitmap(Image& image, const std::string& name);

// --- what these share ---

// How many clusters the bits take.
uint64_t bitmap_clusters(const Geometry& geometry, uint64_t disk_bytes, unsigned granularity_bits);

// The table of a bitmap, whose entries are either clusters or say what all of the bits are.
[[nodiscard]] Task<Result<std::vector<uint64_t>>> co_load_bitmap_table(const Image& image, const BitmapEntry& entry);

}  // namespace ashlar::qcow2
