// NodeIo: the parts of the generic request path that are not a mere call of the driver. One file for each: io_read.cc,
// io_write.cc, io_zeroes.cc, io_status.cc.
#pragma once

#include "block/block_node.h"
#include "block/io_vector.h"
#include "block/request_tracker.h"

#include <algorithm>
#include <optional>

namespace ashlar {

struct NodeIo {
    // A piece of a request that is copied through a bounce buffer is at most this long.
    static constexpr int64_t kMaxBounce = 256 << 10;

    static constexpr int64_t align_down(int64_t value, int64_t alignment) { return value & -alignment; }
    static constexpr int64_t align_up(int64_t value, int64_t alignment) { return (value + alignment - 1) & -alignment; }
    // No driver sees an offset or a length outside of these.
    static bool is_valid_range(int64_t offset, int64_t bytes) {
        return offset >= 0 && bytes >= 0 && bytes <= kMaxLength && offset <= kMaxLength - bytes;
    }

    // The request can go to the driver as it is.
    static bool fits_driver(const BlockLimits& limits, int64_t max_bytes, int64_t offset, int64_t bytes, IoVector iov) {
        return ((offset | bytes) & (limits.request_alignment - 1)) == 0 && bytes <= max_bytes && bytes > 0 &&
               iov.count <= limits.max_iov &&
               (limits.min_mem_alignment <= 1 ||
                iov_is_aligned(iov, limits.min_mem_alignment, length_alignment(limits)));
    }
    // Of the elements of a vector.
    static uint32_t length_alignment(const BlockLimits& limits) {
        return std::min(limits.min_mem_alignment, limits.request_alignment);
    }

    // How many of the first `bytes` bytes behind `done` can go to the driver without a bounce buffer; 0: none.
    static int64_t direct_part(const BlockLimits& limits, int64_t max_bytes, IoVector iov, int64_t done, int64_t bytes);

    static Task<int> co_preadv(BlockDriverState& node, int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags);
    static Task<int> co_pwritev(BlockDriverState& node, int64_t offset, int64_t bytes, IoVector iov,
                                RequestFlags flags);
    static Task<int> co_pwrite_zeroes(BlockDriverState& node, int64_t offset, int64_t bytes, RequestFlags flags);
    static Task<int> co_pdiscard(BlockDriverState& node, int64_t offset, int64_t bytes);
    static Task<Result<>> co_truncate(BlockDriverState& node, int64_t size, bool exact, PreallocMode prealloc,
                                      RequestFlags flags);

    // For a driver whose length has changed without being asked to by co_truncate().
    static void announce_resize(BlockDriverState& node);
    // The same for one of which all may have changed.
    static void announce_new_contents(BlockDriverState& node);

    // Reads, and writes what comes from a backing file of `node`, down to the layer `bottom` (null: from any), to
    // `node` itself; what is written to it meanwhile is kept out. With Prefetch, it copies only. `node` tracks its
    // writes.
    static Task<int> co_copy_on_read(BlockDriverState& node, BlockDriverState* bottom, int64_t offset, int64_t bytes,
                                     IoVector iov, RequestFlags flags);
    static Task<int> co_copy_up(BlockDriverState& node, int64_t offset, int64_t bytes);
    // The layer that a node shows: itself, if it is no filter.
    static BlockDriverState& without_filters(BlockDriverState& node);

    // Without checks, tracking and FUA: the loop over the pieces.
    static Task<int> co_read_pieces(BlockDriverState& node, int64_t offset, int64_t bytes, IoVector iov,
                                    RequestFlags flags);
    static Task<int> co_write_pieces(BlockDriverState& node, int64_t offset, int64_t bytes, IoVector iov,
                                     RequestFlags flags);
    static Task<int> co_zero_pieces(BlockDriverState& node, int64_t offset, int64_t bytes, RequestFlags flags);
    static Task<int> co_write_zero_buffers(BlockDriverState& node, int64_t offset, int64_t bytes, RequestFlags flags);

    // Tracks a write if the node asks for it. False: `tracked` has to wait in the node's tracker first.
    static bool begin_write(BlockDriverState& node, std::optional<RequestTracker::Request>& tracked, int64_t offset,
                            int64_t bytes, RequestFlags flags);
    static bool may_write_to(const BlockDriverState& node, int64_t end);
    // Which flags of `flags` the node has to see to after the request: Fua if the driver does not.
    static bool takes_fua_away(const BlockDriverState& node, RequestFlags supported, RequestFlags& flags);
};

}  // namespace ashlar
