// Opening a qcow2 image: from its file to header and tables that can be trusted.
#pragma once

#include "block/bdrv_child.h"
#include "block/qcow2/image.h"

#include <vector>

namespace ashlar::qcow2 {

// The header of the image in `file`, with everything checked that does not need other files.
// For a check it is enough that the L1 table can be read.
[[nodiscard]] Task<Result<Header>> co_load_header(BdrvChild& file, bool for_check);

// Whether this program can write to it: "opened read-only" is the way out where not.
// Not called for those that are to be repaired.
Result<void> check_writable(const Header& header);

// The refcount table, whose entries have been checked.
[[nodiscard]] Task<Result<std::vector<uint64_t>>> co_load_reftable(BdrvChild& file, const Header& header);

// Of the persistent bitmaps: `image.bitmaps`.
[[nodiscard]] Task<Result<void>> co_load_bitmap_directory(Image& image);

// Entries of a table of big-endian 64-bit numbers; `field` is for messages.
[[nodiscard]] Task<Result<std::vector<uint64_t>>> co_load_table(BdrvChild& file, const char* field, uint64_t offset,
                                                                uint64_t entries);

}  // namespace ashlar::qcow2
