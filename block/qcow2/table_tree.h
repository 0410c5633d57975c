// What an L1 table refers to, as a whole: L2 tables and clusters. With the allocation lock held and no request in the
// node; the tables are read as they are in memory.
#pragma once

#include "block/qcow2/image.h"

#include <span>

namespace ashlar::qcow2 {

// Once more. On failure nothing is counted more often than before; -ERANGE: a count would not fit into its bits.
[[nodiscard]] Task<int> co_reference_tree(Image& image, std::span<const uint64_t> l1);
// Once less, as soon as that is safe. What cannot be read stays counted.
[[nodiscard]] Task<int> co_unreference_tree(Image& image, std::span<const uint64_t> l1);
// Makes the flags of the active tables say which counts are one.
[[nodiscard]] Task<int> co_update_copied(Image& image);

}  // namespace ashlar::qcow2
