#include "block/node_io.h"

#include <algorithm>
#include <cerrno>

namespace ashlar {

Task<BlockStatus> BlockDriverState::co_block_status(bool want_zero, int64_t offset, int64_t bytes) {
    if (!NodeIo::is_valid_range(offset, bytes))
        co_return BlockStatus{.ret = -EIO};
    const int64_t total = length();
    if (total < 0)
        co_return BlockStatus{.ret = static_cast<int>(total)};
    if (offset >= total || bytes == 0)
        co_return BlockStatus{.flags = offset >= total ? BlockStatus::Eof : 0u};
    bytes = std::min(bytes, total - offset);

    // The driver is asked for whole blocks; what it says of them is cut to what was asked for.
    const int64_t alignment = limits_.request_alignment;
    const int64_t start = NodeIo::align_down(offset, alignment);
    BlockStatus status =
        co_await driver_->co_block_status(want_zero, start, NodeIo::align_up(offset + bytes, alignment) - start);
    if (status.ret < 0)
        co_return status;
    const int64_t skip = offset - start;
    if (status.bytes <= skip)
        co_return BlockStatus{.ret = -EIO};  // a driver that makes no progress
    status.bytes = std::min(status.bytes - skip, bytes);
    status.offset += skip;

    if (status.has(BlockStatus::Raw)) {
        BdrvChild* below = primary_child();
        BlockStatus lower = co_await below->co_block_status(want_zero, status.offset, status.bytes);
        if (lower.ret < 0)
            co_return lower;
        if (lower.bytes == 0)  // what is below has become shorter
            lower = {.flags = BlockStatus::Zero | BlockStatus::Allocated, .bytes = status.bytes};
        // The offset stays one in the child, which is what this node's users can find.
        lower.flags &= ~BlockStatus::Eof;
        if (status.has(BlockStatus::OffsetValid)) {
            lower.flags |= BlockStatus::OffsetValid;
            lower.offset = status.offset;
        }
        status = lower;
    }
    if (status.flags & (BlockStatus::Data | BlockStatus::Zero))
        status.flags |= BlockStatus::Allocated;
    else if (!(status.flags & BlockStatus::Allocated) && type_.supports_backing && !cow_child())
        status.flags |= BlockStatus::Zero;  // nothing below it to be seen
    if (offset + status.bytes == total)
        status.flags |= BlockStatus::Eof;
    co_return status;
}

Task<BlockStatus> BlockDriverState::co_block_status_above(bool want_zero, int64_t offset, int64_t bytes) {
    const int64_t total = length();
    unsigned depth = 0;
    for (BlockDriverState* layer = this;; layer = &layer->cow_child()->node()) {
        // A filter is no layer of its own.
        while (layer->type().is_filter)
            layer = &layer->primary_child()->node();
        ++depth;
        BlockStatus status = co_await layer->co_block_status(want_zero, offset, bytes);
        if (status.ret < 0)
            co_return status;
        if (status.bytes == 0) {  // a backing file that is shorter: what is behind its end reads as zeroes
            if (depth == 1)
                co_return status;
            status = {.flags = BlockStatus::Zero, .bytes = bytes};
        }
        bytes = status.bytes;
        if (status.has(BlockStatus::Allocated) || !layer->cow_child() || status.has(BlockStatus::Zero)) {
            status.depth = status.has(BlockStatus::Allocated) ? depth : 0;
            status.flags &= ~BlockStatus::Eof;
            if (offset + status.bytes == total)
                status.flags |= BlockStatus::Eof;
            co_return status;
        }
    }
}

}  // namespace ashlar
