#include "block/block_graph.h"
#include "block/dirty_bitmap.h"
#include "block/node_io.h"
#include "block/request_tracker.h"

#include <cerrno>
#include <optional>

namespace ashlar {

Task<Result<>> BlockDriverState::co_truncate(int64_t size, bool exact, PreallocMode prealloc, RequestFlags flags) {
    return NodeIo::co_truncate(*this, size, exact, prealloc, flags);
}

Task<Result<>> NodeIo::co_truncate(BlockDriverState& node, int64_t size, bool exact, PreallocMode prealloc,
                                   RequestFlags flags) {
    if (size < 0)
        co_return std::unexpected(Error{.message = "Image size cannot be negative", .code = EINVAL});
    if (size > kMaxLength)
        co_return std::unexpected(
            Error{.message = fmt::format("Required too big image size, it must be not greater than {}", kMaxLength),
                  .code = EFBIG});
    if (node.is_read_only())
        co_return std::unexpected(Error{.message = "Image is read-only", .code = EACCES});
    const int64_t before = node.length();
    if (before < 0)
        co_return fail_errno(static_cast<int>(-before), "Failed to get image size");
    for (const auto& bitmap : node.dirty_bitmaps()) {
        if (bitmap->is_inconsistent())  // what is stored would no longer fit the disk
            if (auto ok = bitmap->check_use(DirtyBitmap::Use::Read); !ok)
                co_return ok;
        if (auto ok = DirtyBitmap::check_size(bitmap->granularity(), size); !ok)
            co_return std::unexpected(std::move(ok.error()).prefixed(fmt::format("Dirty bitmap '{}'", bitmap->name())));
    }
    std::optional<RequestTracker::Request> tracked;
    if (node.tracks_writes_) {
        const int64_t start = align_down(std::min(before, size), node.limits_.request_alignment);
        tracked.emplace(*node.tracker_, RequestTracker::Kind::Serialising, start, kMaxLength - start);
        co_await node.tracker_->co_enter(*tracked);
    }
    auto done = co_await node.driver_->co_truncate(size, exact, prealloc, flags);
    if (const int64_t now = node.length(); now >= 0 && now != before)
        announce_resize(node);
    co_return done;
}

void NodeIo::announce_resize(BlockDriverState& node) {
    if (const int64_t length = node.length(); length >= 0)
        for (const auto& bitmap : node.dirty_bitmaps())
            bitmap->resize(length);
    node.graph_.announce_resize(node);
}

void NodeIo::announce_new_contents(BlockDriverState& node) {
    announce_resize(node);
    if (const int64_t length = node.length(); length > 0)
        node.mark_dirty(0, length);
}

}  // namespace ashlar
