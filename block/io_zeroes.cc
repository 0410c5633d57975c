#include "block/node_io.h"
#include "block/request_tracker.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <optional>

namespace ashlar {

namespace {

// Written wherever a driver cannot zero by itself.
constexpr size_t kZeroBufferSize = 64 << 10;
alignas(4096) constinit std::array<std::byte, kZeroBufferSize> zero_buffer{};

// An IoVector of `bytes` zeroes, at most kMaxBytes of them.
struct ZeroVector {
    static constexpr unsigned kMaxElements = 16;
    static constexpr int64_t kMaxBytes = int64_t{kMaxElements} * kZeroBufferSize;

    std::array<iovec, kMaxElements> elements;
    unsigned count = 0;

    explicit ZeroVector(int64_t bytes) {
        for (; bytes > 0; ++count) {
            size_t n = static_cast<size_t>(std::min<int64_t>(bytes, kZeroBufferSize));
            elements[count] = {zero_buffer.data(), n};
            bytes -= static_cast<int64_t>(n);
        }
    }
    IoVector get() const { return {elements.data(), count}; }
};

}  // namespace

Task<int> BlockDriverState::co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) {
    return NodeIo::co_pwrite_zeroes(*this, offset, bytes, flags);
}

Task<int> BlockDriverState::co_pdiscard(int64_t offset, int64_t bytes) {
    return NodeIo::co_pdiscard(*this, offset, bytes);
}

Task<int> NodeIo::co_write_zero_buffers(BlockDriverState& node, int64_t offset, int64_t bytes, RequestFlags flags) {
    while (bytes > 0) {
        int64_t n = std::min(bytes, ZeroVector::kMaxBytes);
        ZeroVector zeroes(n);
        if (int ret = co_await co_write_pieces(node, offset, n, zeroes.get(), flags); ret < 0)
            co_return ret;
        offset += n;
        bytes -= n;
    }
    co_return 0;
}

// Whole blocks: by the driver if it can, so that a large range becomes few requests which begin and end at multiples
// of pwrite_zeroes_alignment where possible.
Task<int> NodeIo::co_zero_pieces(BlockDriverState& node, int64_t offset, int64_t bytes, RequestFlags flags) {
    const BlockLimits& limits = node.limits_;
    const int64_t best = std::max<int64_t>({limits.pwrite_zeroes_alignment, limits.request_alignment, 1});
    const int64_t most = limits.max_pwrite_zeroes ? limits.max_pwrite_zeroes : kMaxLength;
    const RequestFlags zero_flags = flags & node.supported_.write_zeroes;
    const RequestFlags write_flags = flags & RequestFlags::Fua & node.supported_.write;
    while (bytes > 0) {
        int64_t n = std::min(bytes, most);
        if (int64_t misaligned = offset % best; misaligned != 0)
            n = std::min(n, best - misaligned);  // up to where it is aligned
        else if (n > best)
            n -= n % best;
        int ret = co_await node.driver_->co_pwrite_zeroes(offset, n, zero_flags);
        if (ret == -ENOTSUP && !has(flags, RequestFlags::NoFallback))
            ret = co_await co_write_zero_buffers(node, offset, n, write_flags);
        if (ret < 0)
            co_return ret;
        offset += n;
        bytes -= n;
    }
    co_return 0;
}

Task<int> NodeIo::co_pwrite_zeroes(BlockDriverState& node, int64_t offset, int64_t bytes, RequestFlags flags) {
    if (!is_valid_range(offset, bytes))
        co_return -EIO;
    if (node.is_read_only())
        co_return -EPERM;
    if (!may_write_to(node, offset + bytes))
        co_return -ENOSPC;
    if (node.flags_.discard == Discard::Ignore)
        flags &= ~RequestFlags::MayUnmap;

    const int64_t alignment = node.limits_.request_alignment;
    const bool unaligned = (offset | bytes) & (alignment - 1);
    if (has(flags, RequestFlags::NoFallback) &&
        (unaligned || !has(node.supported_.write_zeroes, RequestFlags::NoFallback)))
        co_return -ENOTSUP;
    // One of the two ways may be taken: Fua only if both can.
    bool flush_after = takes_fua_away(node, node.supported_.write_zeroes & node.supported_.write, flags);

    std::optional<RequestTracker::Request> tracked;
    if (!begin_write(node, tracked, offset, bytes, flags))
        co_await node.tracker_->co_enter(*tracked);
    if (node.wants_debug_events_)
        co_await node.driver_->co_debug_event(BlkdebugEvent::PwritevZero);

    const int64_t end = offset + bytes;
    const RequestFlags write_flags = flags & RequestFlags::Fua;
    int64_t middle = std::min(align_up(offset, alignment), end);
    int64_t tail = std::max(align_down(end, alignment), middle);
    int ret = co_await co_write_zero_buffers(node, offset, middle - offset, write_flags);
    if (ret == 0)
        ret = co_await co_zero_pieces(node, middle, tail - middle, flags);
    if (ret == 0)
        ret = co_await co_write_zero_buffers(node, tail, end - tail, write_flags);
    node.mark_dirty(offset, bytes);
    tracked.reset();
    if (ret == 0 && flush_after)
        ret = co_await node.co_flush();
    co_return ret;
}

// Advice: what is not a whole block is left alone, but for the last one of the disk, and a driver that cannot do it has
// done its part. Bitmaps are told of all that was asked for, as QEMU's are.
Task<int> NodeIo::co_pdiscard(BlockDriverState& node, int64_t offset, int64_t bytes) {
    if (!is_valid_range(offset, bytes))
        co_return -EIO;
    if (node.is_read_only())
        co_return -EPERM;
    if (node.flags_.discard == Discard::Ignore)
        co_return 0;
    const BlockLimits& limits = node.limits_;
    const int64_t alignment = std::max<int64_t>({limits.pdiscard_alignment, limits.request_alignment, 1});
    int64_t at = (offset + alignment - 1) / alignment * alignment;
    int64_t end = offset + bytes;
    if (end != node.length() || end % std::max<int64_t>(limits.request_alignment, 1) != 0)
        end = end / alignment * alignment;
    if (at >= end) {
        node.mark_dirty(offset, bytes);
        co_return 0;
    }
    std::optional<RequestTracker::Request> tracked;
    if (node.tracks_writes_) {
        tracked.emplace(*node.tracker_, RequestTracker::Kind::Plain, at, end - at);
        if (!tracked->try_enter())
            co_await node.tracker_->co_enter(*tracked);
    }
    const int64_t most = limits.max_pdiscard ? limits.max_pdiscard / alignment * alignment : kMaxLength;
    int ret = 0;
    for (int64_t from = at; from < end && ret == 0;) {
        int64_t n = std::min(end - from, most);
        ret = co_await node.driver_->co_pdiscard(from, n);
        from += n;
    }
    node.mark_dirty(offset, bytes);
    co_return ret == -ENOTSUP ? 0 : ret;
}

}  // namespace ashlar
