// Copy on read: a read that writes what it has found in a backing file to the layer in front.
#include <algorithm>
#include <cerrno>
#include <optional>

#include "block/node_io.h"
#include "util/buffer_pool.h"

namespace ashlar {

namespace {

struct Piece {
    int ret = 0;
    int64_t bytes = 0;
    bool copy = false;
};

// The first piece of a range of which all is to be copied, or nothing. What no layer has is not.
Task<Piece> co_next_piece(BlockDriverState& top, BlockDriverState* bottom, int64_t offset, int64_t bytes) {
    for (BlockDriverState* layer = &top;; layer = &NodeIo::without_filters(layer->cow_child()->node())) {
        BlockStatus status = co_await layer->co_block_status(false, offset, bytes);
        if (status.ret < 0)
            co_return Piece{.ret = status.ret};
        if (status.bytes == 0)  // behind the end of a backing file
            co_return Piece{.bytes = bytes};
        bytes = status.bytes;
        if (status.has(BlockStatus::Allocated))
            co_return Piece{.bytes = bytes, .copy = layer != &top};
        if (layer == bottom || !layer->cow_child())
            co_return Piece{.bytes = bytes};
    }
}

}  // namespace

BlockDriverState& NodeIo::without_filters(BlockDriverState& node) {
    BlockDriverState* layer = &node;
    while (layer->type().is_filter)
        layer = &layer->primary_child()->node();
    return *layer;
}

Task<int> NodeIo::co_copy_up(BlockDriverState& node, int64_t offset, int64_t bytes) {
    Buffer bounce = Buffer::try_alloc(static_cast<size_t>(bytes));
    if (!bounce)
        co_return -ENOMEM;
    iovec element{bounce.data(), static_cast<size_t>(bytes)};
    RequestTracker::Request tracked(*node.tracker_, RequestTracker::Kind::Serialising, offset, bytes);
    co_await node.tracker_->co_enter(tracked);
    // Whatever has been written since somebody looked is read, too.
    if (int ret = co_await co_preadv(node, offset, bytes, IoVector(element), RequestFlags::None); ret < 0)
        co_return ret;
    if (iov_is_zero(IoVector(element)))
        co_return co_await co_zero_pieces(node, offset, bytes, RequestFlags::None);
    co_return co_await co_write_pieces(node, offset, bytes, IoVector(element),
                                       RequestFlags::Unchanged & node.supported_.write);
}

Task<int> NodeIo::co_copy_on_read(BlockDriverState& node, BlockDriverState* bottom, int64_t offset, int64_t bytes,
                                  IoVector iov, RequestFlags flags) {
    if (!is_valid_range(offset, bytes))
        co_return -EIO;
    const int64_t length = node.length();
    if (length < 0)
        co_return static_cast<int>(length);
    BlockDriverState& top = without_filters(node);
    const int64_t alignment = node.limits_.request_alignment;
    const int64_t unit = std::max<int64_t>(top.driver().cluster_size(), alignment);  // powers of two, both
    const int64_t present = std::clamp<int64_t>(length - offset, 0, bytes);
    const bool prefetch = has(flags, RequestFlags::Prefetch);
    for (int64_t done = 0; done < present;) {
        const int64_t at = offset + done;
        Piece piece = co_await co_next_piece(top, bottom, at, present - done);
        if (piece.ret < 0)
            co_return piece.ret;
        if (piece.copy) {
            const int64_t start = align_down(at, unit);
            piece.bytes = std::min(piece.bytes, start + std::max(kMaxBounce, unit) - at);
            const int64_t end = std::min(align_up(at + piece.bytes, unit), align_up(length, alignment));
            if (int ret = co_await co_copy_up(node, start, end - start); ret < 0)
                co_return ret;
        }
        if (!prefetch) {
            IovSlice slice(iov, done, piece.bytes);
            if (int ret = co_await co_preadv(node, at, piece.bytes, slice.get(), RequestFlags::None); ret < 0)
                co_return ret;
        }
        done += piece.bytes;
    }
    if (!prefetch)
        iov_fill_zero(iov, present, bytes - present);
    co_return 0;
}

}  // namespace ashlar
