#include "block/block_driver.h"

#include "block/block_node.h"

#include <cerrno>

namespace ashlar {

BdrvChild* BlockDriver::primary_child() const {
    return node_.primary_child();
}

bool BlockDriver::try_read_pages(int64_t, int64_t, PagePipe&) {
    return false;
}

const std::byte* BlockDriver::try_map(int64_t, int64_t) {
    return nullptr;
}

Task<int> BlockDriver::co_pwritev(int64_t, int64_t, IoVector, RequestFlags) {
    co_return -ENOTSUP;
}

Task<int> BlockDriver::co_pwrite_zeroes(int64_t, int64_t, RequestFlags) {
    co_return -ENOTSUP;
}

Task<int> BlockDriver::co_pdiscard(int64_t, int64_t) {
    co_return -ENOTSUP;
}

Task<int> BlockDriver::co_flush() {
    int result = 0;
    for (const auto& child : node_.children())
        if (int ret = co_await child->co_flush(); ret < 0 && result == 0)
            result = ret;
    co_return result;
}

Task<BlockStatus> BlockDriver::co_block_status(bool, int64_t offset, int64_t bytes) {
    if (node_.type().is_filter)
        co_return BlockStatus{.flags = BlockStatus::Raw | BlockStatus::OffsetValid, .bytes = bytes, .offset = offset};
    co_return BlockStatus{.flags = BlockStatus::Data, .bytes = bytes};
}

Task<Result<>> BlockDriver::co_truncate(int64_t size, bool exact, PreallocMode prealloc, RequestFlags flags) {
    if (!node_.type().is_filter)
        co_return std::unexpected(Error{.message = "Image format driver does not support resize", .code = ENOTSUP});
    co_return co_await primary_child()->co_truncate(size, exact, prealloc, flags);
}

Task<Result<void>> BlockDriver::co_reopen_prepare(ReopenContext&) {
    co_return fail("Block format '{}' used by node '{}' does not support reopening files", node_.type().name,
                   node_.node_name());
}

Task<int> BlockDriver::co_close() {
    co_return 0;
}

// What a child is for says what is needed of it:
//  - a filter passes on what its parents do, and what they let others do;
//  - a backing file is only read, and as nobody wrote it since;
//  - what holds a format's metadata is the format's alone to write, which it may do whatever its parents do;
//  - what holds data grows as it is written.
ChildPerm BlockDriver::child_perm(const BdrvChild& child, ChildPerm cumulative) const {
    using enum BlockPerm;
    auto [perm, shared] = cumulative;
    if (has(child.role(), ChildRole::Filtered))
        return cumulative;
    if (has(child.role(), ChildRole::Cow))
        return {perm & ConsistentRead, (has(shared, Write) ? Write | Resize : None) | ConsistentRead | WriteUnchanged};
    if (has(child.role(), ChildRole::Metadata)) {
        perm = perm | ConsistentRead | (node_.is_read_only() ? None : Write | Resize);
        shared = shared & ~(Write | Resize);
    }
    if (has(child.role(), ChildRole::Data)) {
        if (has(perm, Write))
            perm = perm | Resize;
        shared = (shared & ~Resize) | WriteUnchanged;
    }
    if (node_.flags().force_share)
        shared = All;
    return {perm, shared};
}

std::string BlockDriver::filename() const {
    BdrvChild* child = primary_child();
    return child && node_.type().is_filter ? child->node().driver().filename() : "";
}

int64_t BlockDriver::allocated_size() const {
    if (node_.children().empty())
        return -ENOTSUP;
    int64_t sum = 0;
    for (const auto& child : node_.children()) {
        if (has(child->role(), ChildRole::Cow))
            continue;
        int64_t size = child->node().driver().allocated_size();
        if (size < 0)
            return size;
        sum += size;
    }
    return sum;
}

bool BlockDriver::may_have_holes() const {
    BdrvChild* child = primary_child();
    return child && child->node().driver().may_have_holes();
}

bool BlockDriver::is_rotational() const {
    BdrvChild* child = primary_child();
    return child && child->node().driver().is_rotational();
}

bool BlockDriver::can_multi_conn() const {
    BdrvChild* child = primary_child();
    return child && child->node().driver().can_multi_conn();
}

bool BlockDriver::supports_fast_zero() const {
    BdrvChild* child = primary_child();
    return has(supported_flags().write_zeroes, RequestFlags::NoFallback) &&
           (!child || child->node().driver().supports_fast_zero());
}

Task<void> BlockDriver::co_debug_event(BlkdebugEvent) {
    co_return;
}

}  // namespace ashlar
