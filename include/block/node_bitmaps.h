// The dirty bitmaps of a node, by name: what block-dirty-bitmap-* of QMP and the bitmap tool do, in QEMU's words.
//
// Main context. What changes the list drains the node meanwhile.
#pragma once

#include "block/block_graph.h"
#include "block/dirty_bitmap.h"

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ashlar {

struct NewBitmap {
    std::string name;
    std::optional<uint32_t> granularity;  // default: the clusters', between 4 KiB and 64 KiB
    bool persistent = false;              // stored in the image when the node is closed
    bool enabled = true;
};

// One of another node, or (without a node) of the same.
struct BitmapName {
    std::optional<std::string> node;
    std::string name;
};

uint32_t default_bitmap_granularity(const BlockDriverState& node);

// Null: there is none.
std::shared_ptr<DirtyBitmap> find_bitmap(const BlockDriverState& node, std::string_view name);
// "Dirty bitmap 'x' not found"
Result<std::shared_ptr<DirtyBitmap>> get_bitmap(const BlockDriverState& node, std::string_view name);
// The first of that name in the node, its filters and its backing files.
struct FoundBitmap {
    std::shared_ptr<DirtyBitmap> bitmap;  // null: none
    const BlockDriverState* node = nullptr;
};
FoundBitmap find_bitmap_below(const BlockDriverState& node, std::string_view name);

[[nodiscard]] Task<Result<void>> co_add_bitmap(BlockDriverState& node, NewBitmap bitmap);
// From the image, too, if it is stored there.
[[nodiscard]] Task<Result<void>> co_remove_bitmap(BlockDriverState& node, std::string name);
// The same in two steps, in a drained section: then it is busy, and out of the image until that is closed, and nothing
// can go wrong with finish_removal() any more. Who sets it free (set_busy()) instead has it as before.
[[nodiscard]] Task<Result<std::shared_ptr<DirtyBitmap>>> co_begin_removal(BlockDriverState& node, std::string name);
void finish_removal(BlockDriverState& node, DirtyBitmap& bitmap);
Result<void> clear_bitmap(BlockDriverState& node, std::string_view name);
Result<void> enable_bitmap(BlockDriverState& node, std::string_view name, bool on);
// `target` then has what any of the others has; or, on failure, what it had.
Result<void> merge_bitmaps(BlockDriverState& node, std::string_view target, std::span<const BitmapName> sources);

// The hash of the bits, as x-debug-block-dirty-bitmap-sha256 shows it.
std::string bitmap_sha256(const DirtyBitmap& bitmap);

}  // namespace ashlar
