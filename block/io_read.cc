#include "block/node_io.h"
#include "block/request_tracker.h"
#include "util/buffer_pool.h"

#include <algorithm>
#include <cassert>
#include <optional>

namespace ashlar {

Task<int> BlockDriverState::co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
    if (copies_on_read_ && !has(flags, RequestFlags::Serialising)) [[unlikely]]
        return NodeIo::co_copy_on_read(*this, nullptr, offset, bytes, iov, flags);
    if (flags == RequestFlags::None && offset >= 0 && NodeIo::fits_driver(limits_, max_read_, offset, bytes, iov) &&
        offset <= driver_->length() - bytes)
        return driver_->co_preadv(offset, bytes, iov, flags);
    return NodeIo::co_preadv(*this, offset, bytes, iov, flags);
}

bool BlockDriverState::try_read_pages(int64_t offset, int64_t bytes, PagePipe& pages) {
    return !copies_on_read_ && offset <= driver_->length() - bytes && driver_->try_read_pages(offset, bytes, pages);
}

const std::byte* BlockDriverState::try_map(int64_t offset, int64_t bytes) {
    return !copies_on_read_ && offset <= driver_->length() - bytes ? driver_->try_map(offset, bytes) : nullptr;
}

int64_t NodeIo::direct_part(const BlockLimits& limits, int64_t max_bytes, IoVector iov, int64_t done, int64_t bytes) {
    int64_t skip = done, part = 0, fitting = 0;
    unsigned count = 0;
    bytes = std::min(bytes, max_bytes);
    for (const iovec& element : iov.elements()) {
        auto length = static_cast<int64_t>(element.iov_len);
        if (skip >= length) {
            skip -= length;
            continue;
        }
        auto address = reinterpret_cast<uintptr_t>(element.iov_base) + static_cast<uintptr_t>(skip);
        int64_t n = std::min(length - skip, bytes - part);
        if (n == 0 || count == limits.max_iov || (address & (limits.min_mem_alignment - 1)))
            break;
        part += n;
        ++count;
        skip = 0;
        fitting = std::max(fitting, align_down(part, limits.request_alignment));
        if (n & (length_alignment(limits) - 1))
            break;  // it may only be the last, cut down to a whole block
    }
    return fitting;
}

Task<int> NodeIo::co_read_pieces(BlockDriverState& node, int64_t offset, int64_t bytes, IoVector iov,
                                 RequestFlags flags) {
    const BlockLimits& limits = node.limits_;
    const int64_t alignment = limits.request_alignment;
    for (int64_t done = 0; done < bytes;) {
        int64_t at = offset + done, left = bytes - done;
        int64_t direct = at & (alignment - 1) ? 0 : direct_part(limits, node.max_read_, iov, done, left);
        if (direct > 0) {
            IovSlice slice(iov, done, direct);
            if (int ret = co_await node.driver_->co_preadv(at, direct, slice.get(), flags); ret < 0)
                co_return ret;
            done += direct;
            continue;
        }
        int64_t start = align_down(at, alignment);
        int64_t length =
            std::min({align_up(at + left, alignment) - start, node.max_read_, std::max(kMaxBounce, alignment)});
        Buffer bounce = Buffer::try_alloc(static_cast<size_t>(length));
        if (!bounce)
            co_return -ENOMEM;
        iovec element{bounce.data(), static_cast<size_t>(length)};
        if (int ret = co_await node.driver_->co_preadv(start, length, IoVector(element), flags); ret < 0)
            co_return ret;
        int64_t n = std::min(start + length, at + left) - at;
        iov_copy_in(iov, done, bounce.data() + (at - start), n);
        done += n;
    }
    co_return 0;
}

Task<int> NodeIo::co_preadv(BlockDriverState& node, int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
    if (!is_valid_range(offset, bytes))
        co_return -EIO;
    int64_t length = node.length();
    if (length < 0)
        co_return static_cast<int>(length);
    int64_t present = std::clamp<int64_t>(length - offset, 0, bytes);

    if (has(flags, RequestFlags::Prefetch)) {
        // Advice: whole blocks, if the driver can do anything with it.
        if (!has(node.supported_.read, RequestFlags::Prefetch) || present == 0)
            co_return 0;
        int64_t start = align_down(offset, node.limits_.request_alignment);
        int64_t end = align_up(offset + present, node.limits_.request_alignment);
        while (start < end) {
            int64_t n = std::min(end - start, node.max_read_);
            if (int ret = co_await node.driver_->co_preadv(start, n, {}, RequestFlags::Prefetch); ret < 0)
                co_return ret;
            start += n;
        }
        co_return 0;
    }

    std::optional<RequestTracker::Request> tracked;
    if (has(flags, RequestFlags::Serialising)) {
        assert(node.tracks_writes_);
        tracked.emplace(*node.tracker_, RequestTracker::Kind::Serialising, offset, bytes);
        co_await node.tracker_->co_enter(*tracked);
    }
    if (present > 0)
        if (int ret = co_await co_read_pieces(node, offset, present, iov, RequestFlags::None); ret < 0)
            co_return ret;
    iov_fill_zero(iov, present, bytes - present);
    co_return 0;
}

}  // namespace ashlar
