#include "block/flush_queue.h"
#include "block/node_io.h"
#include "block/request_tracker.h"
#include "util/buffer_pool.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <optional>

namespace ashlar {

Task<int> BlockDriverState::co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
    if (!needs_write_care_ && has(supported_.write, flags) && offset >= 0 &&
        NodeIo::fits_driver(limits_, max_write_, offset, bytes, iov) && offset <= driver_->length() - bytes)
        return driver_->co_pwritev(offset, bytes, iov, flags);
    return NodeIo::co_pwritev(*this, offset, bytes, iov, flags);
}

bool NodeIo::may_write_to(const BlockDriverState& node, int64_t end) {
    return end <= node.length() || node.may_grow_.load(std::memory_order_relaxed);
}

bool NodeIo::takes_fua_away(const BlockDriverState& node, RequestFlags supported, RequestFlags& flags) {
    if (!has(flags, RequestFlags::Fua) || has(supported, RequestFlags::Fua))
        return false;
    flags &= ~RequestFlags::Fua;
    return !node.flags_.no_flush;
}

Task<int> NodeIo::co_write_pieces(BlockDriverState& node, int64_t offset, int64_t bytes, IoVector iov,
                                  RequestFlags flags) {
    const BlockLimits& limits = node.limits_;
    const int64_t alignment = limits.request_alignment;
    const int64_t end = offset + bytes;
    for (int64_t done = 0; done < bytes;) {
        int64_t at = offset + done;
        int64_t direct = at & (alignment - 1) ? 0 : direct_part(limits, node.max_write_, iov, done, bytes - done);
        if (direct > 0) {
            IovSlice slice(iov, done, direct);
            if (node.wants_debug_events_)
                co_await node.driver_->co_debug_event(BlkdebugEvent::Pwritev);
            if (int ret = co_await node.driver_->co_pwritev(at, direct, slice.get(), flags); ret < 0)
                co_return ret;
            done += direct;
            continue;
        }
        int64_t start = align_down(at, alignment);
        int64_t length = std::min({align_up(end, alignment) - start, node.max_write_, std::max(kMaxBounce, alignment)});
        Buffer bounce = Buffer::try_alloc(static_cast<size_t>(length));
        if (!bounce)
            co_return -ENOMEM;
        // What is in the first and in the last block beside the new data stays as it is.
        const int64_t last = start + length - alignment;
        const bool has_head = start < at;
        const bool has_tail = start + length > end && !(has_head && last == start);
        for (bool tail : {false, true}) {
            if (!(tail ? has_tail : has_head))
                continue;
            if (node.wants_debug_events_)
                co_await node.driver_->co_debug_event(tail ? BlkdebugEvent::PwritevRmwTail
                                                           : BlkdebugEvent::PwritevRmwHead);
            int64_t block = tail ? last : start;
            iovec element{bounce.data() + (block - start), static_cast<size_t>(alignment)};
            if (int ret = co_await co_preadv(node, block, alignment, IoVector(element), RequestFlags::None); ret < 0)
                co_return ret;
            if (node.wants_debug_events_)
                co_await node.driver_->co_debug_event(tail ? BlkdebugEvent::PwritevRmwAfterTail
                                                           : BlkdebugEvent::PwritevRmwAfterHead);
        }
        int64_t n = std::min(start + length, end) - at;
        iov_copy_out(iov, done, bounce.data() + (at - start), n);
        iovec element{bounce.data(), static_cast<size_t>(length)};
        if (node.wants_debug_events_)
            co_await node.driver_->co_debug_event(BlkdebugEvent::Pwritev);
        if (int ret = co_await node.driver_->co_pwritev(start, length, IoVector(element), flags); ret < 0)
            co_return ret;
        done += n;
    }
    if (node.wants_debug_events_)
        co_await node.driver_->co_debug_event(BlkdebugEvent::PwritevDone);
    co_return 0;
}

bool NodeIo::begin_write(BlockDriverState& node, std::optional<RequestTracker::Request>& tracked, int64_t offset,
                         int64_t bytes, RequestFlags flags) {
    if (!node.tracks_writes_)
        return true;
    const int64_t alignment = node.limits_.request_alignment;
    bool unaligned = (offset | bytes) & (alignment - 1);
    bool serialising = unaligned || has(flags, RequestFlags::Serialising);
    int64_t start = align_down(offset, alignment);
    tracked.emplace(*node.tracker_, serialising ? RequestTracker::Kind::Serialising : RequestTracker::Kind::Plain,
                    start, align_up(offset + bytes, alignment) - start);
    return tracked->try_enter();
}

Task<int> NodeIo::co_pwritev(BlockDriverState& node, int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
    if (!is_valid_range(offset, bytes))
        co_return -EIO;
    if (node.is_read_only())
        co_return -EPERM;
    if (!may_write_to(node, offset + bytes))
        co_return -ENOSPC;
    if (has(flags & ~node.supported_.write, RequestFlags::Compressed))
        co_return -ENOTSUP;
    const bool changes = !has(flags, RequestFlags::Unchanged);
    flags &= node.supported_.write | ~RequestFlags::Unchanged;

    if (node.flags_.detect_zeroes != DetectZeroes::Off && bytes > 0 && iov_is_zero(iov)) {
        if (node.flags_.detect_zeroes == DetectZeroes::Unmap)
            flags |= RequestFlags::MayUnmap;
        co_return co_await co_pwrite_zeroes(node, offset, bytes, flags);
    }

    bool flush_after = takes_fua_away(node, node.supported_.write, flags);
    std::optional<RequestTracker::Request> tracked;
    if (!begin_write(node, tracked, offset, bytes, flags))
        co_await node.tracker_->co_enter(*tracked);
    flags &= ~RequestFlags::Serialising;
    int ret = co_await co_write_pieces(node, offset, bytes, iov, flags);
    if (changes)
        node.mark_dirty(offset, bytes);
    tracked.reset();
    if (ret == 0 && flush_after)
        ret = co_await node.co_flush();
    co_return ret;
}

Task<int> BlockDriverState::co_flush() {
    if (flags_.no_flush)
        co_return 0;
    if (BdrvChild* below = primary_child(); below && below->wants_debug_events()) {
        co_await below->co_debug_event(BlkdebugEvent::FlushToOs);
        co_await below->co_debug_event(BlkdebugEvent::FlushToDisk);
    }
    if (flush_queue_)
        co_return co_await flush_queue_->co_flush(*driver_);
    co_return co_await driver_->co_flush();
}

}  // namespace ashlar
