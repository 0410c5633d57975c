// BLOCK_STATUS: what the backend says of a range, as extents of each metadata context asked for.
//
// One walk over the range serves every context. Neighbours of the same status are one extent; extents are multiples of
// the minimum block size, a block of several kinds having what is true of all of it.
#include <algorithm>
#include <cerrno>

#include "nbd/transmission.h"

namespace ashlar::nbd {

namespace {

struct Statuses {
    uint32_t of[kContextFirstBitmap] = {};
};

Statuses statuses_of(const BlockStatus& status) {
    uint32_t hole = status.has(BlockStatus::Data) ? 0 : kStateHole;
    uint32_t zero = status.has(BlockStatus::Zero) ? kStateZero : 0;
    return {{hole | zero, status.depth}};
}

// Nothing is known of an image that has shrunk below what we told our clients.
int error_of(const BlockStatus& status) {
    return status.ret < 0 || status.bytes > 0 ? status.ret : -EIO;
}

class ExtentList {
public:
    ExtentList(uint32_t id, size_t limit) : id_(id), limit_(limit) {}

    // False: the list was full, and neither it nor any later piece was taken.
    bool add(uint64_t length, uint32_t status) {
        if (full_)
            return false;
        if (!extents_.empty() && extents_.back().status == status) {
            extents_.back().length += length;
            return true;
        }
        if (extents_.size() == limit_) {
            full_ = true;
            return false;
        }
        extents_.push_back({length, status});
        return true;
    }
    bool add(uint64_t length, const Statuses& statuses) { return add(length, statuses.of[id_]); }
    bool is_of_bitmap() const { return id_ >= kContextFirstBitmap; }
    uint32_t id() const { return id_; }
    std::span<const Extent> extents() const { return extents_; }

private:
    uint32_t id_;
    size_t limit_;
    bool full_ = false;
    std::vector<Extent> extents_;
};

// The status of the range's first piece, in whole blocks: its length and what is true of all of it.
struct BlockwiseStatus {
    int ret = 0;
    uint64_t length = 0;
    Statuses statuses;
};

Task<BlockwiseStatus> co_next_status(BlockBackend& backend, uint64_t offset, uint64_t length, uint32_t block) {
    BlockStatus first =
        co_await backend.co_block_status_above(static_cast<int64_t>(offset), static_cast<int64_t>(length));
    if (int ret = error_of(first); ret < 0)
        co_return {ret, 0, {}};
    uint64_t bytes = std::min(static_cast<uint64_t>(first.bytes), length);
    BlockwiseStatus result{0, bytes & ~uint64_t{block - 1}, statuses_of(first)};
    if (result.length > 0)
        co_return result;
    for (uint64_t at = bytes; at < block; at += bytes) {
        BlockStatus more =
            co_await backend.co_block_status_above(static_cast<int64_t>(offset + at), static_cast<int64_t>(block - at));
        if (int ret = error_of(more); ret < 0)
            co_return {ret, 0, {}};
        bytes = static_cast<uint64_t>(more.bytes);
        Statuses statuses = statuses_of(more);
        result.statuses.of[kContextBaseAllocation] &= statuses.of[kContextBaseAllocation];
        // The nearest layer that has any of it; 0 is "no layer".
        uint32_t& depth = result.statuses.of[kContextAllocationDepth];
        uint32_t other = statuses.of[kContextAllocationDepth];
        depth = depth == 0 || other == 0 ? std::max(depth, other) : std::min(depth, other);
    }
    result.length = block;
    co_return result;
}

// Whole blocks, dirty if any part of them is. What is behind the end of the bitmap, whose disk may be shorter, is
// clean.
Task<void> co_bitmap_status(const DirtyBitmap& bitmap, uint64_t offset, uint64_t length, uint32_t block,
                            ExtentList& list) {
    constexpr unsigned kStepsAtOnce = 1024;
    const uint64_t end = offset + length;
    unsigned steps = 0;
    while (offset < end) {
        auto [bytes, dirty] = bitmap.stretch(static_cast<int64_t>(offset), static_cast<int64_t>(end));
        uint64_t n = bytes > 0 ? static_cast<uint64_t>(bytes) : end - offset;
        if (offset + n < end) {
            const uint64_t whole = n & ~uint64_t{block - 1};
            if (dirty || whole == 0) {
                dirty = true;
                n = std::min((n + block - 1) & ~uint64_t{block - 1}, end - offset);
            } else {
                n = whole;
            }
        }
        if (!list.add(n, dirty ? kStateDirty : 0))
            co_return;
        offset += n;
        if (++steps % kStepsAtOnce == 0)
            co_await co_yield_now();
    }
}

}  // namespace

Task<void> Transmission::co_block_status(ServerRequest& request, std::vector<uint32_t> contexts) {
    const Request& wire = request.wire;
    size_t limit = contexts.size() <= 2 ? kMaxExtents : std::max<size_t>(2 * kMaxExtents / contexts.size(), 1);
    if (wire.flags & kCmdFlagReqOne)
        limit = 1;
    std::vector<ExtentList> lists;
    bool asks_backend = false;
    for (uint32_t id : contexts) {
        lists.emplace_back(id, limit);
        asks_backend |= !lists.back().is_of_bitmap();
    }
    for (uint64_t done = 0; done < wire.length && asks_backend;) {
        auto next = co_await co_next_status(backend_, wire.offset + done, wire.length - done, limits_.min_block);
        if (next.ret < 0) {
            if (done > 0)
                break;  // what was found so far is an answer
            finish(request, next.ret);
            co_return;
        }
        bool any = false;
        for (ExtentList& list : lists)
            any |= !list.is_of_bitmap() && list.add(next.length, next.statuses);
        if (!any)
            break;
        done += next.length;
    }
    for (ExtentList& list : lists)
        if (list.is_of_bitmap())
            co_await co_bitmap_status(*bitmaps_[list.id() - kContextFirstBitmap], wire.offset, wire.length,
                                      limits_.min_block, list);

    request.chunks = std::make_unique<ChunkedReply>();
    auto& [bytes, iov] = *request.chunks;
    Reply reply = request.reply(limits_.style);
    size_t total = lists.empty() ? kMaxChunkHeader : 0;
    for (const ExtentList& list : lists)
        total += block_status_size(limits_.style, list.extents().size());
    bytes.resize(total);
    std::byte* to = bytes.data();
    if (lists.empty())
        to += build_chunk_header(to, reply, kReplyFlagDone, kChunkNone, 0);
    for (const ExtentList& list : lists)
        to += build_block_status(to, reply, &list == &lists.back() ? kReplyFlagDone : 0, list.id(), list.extents());
    iov.push_back({bytes.data(), static_cast<size_t>(to - bytes.data())});
    queue_.push(request);
}

}  // namespace ashlar::nbd
