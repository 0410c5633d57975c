// BdrvChild: an edge of the graph, from a parent (a node, or a BlockBackend) down to a node.
//
// Made by OpenContext::co_open_child() or BlockBackend; owned by the parent; changed only in the main context while the
// requests that use it are drained. It is through its edges that a driver makes requests to what is below: those may be
// made from any AioContext, by coroutines, and take the child's generic request path, so that any offset, length and
// memory is fine. Results are 0 or a negative errno, but for resizing, whose failures have a reason to tell.
#pragma once

#include "block/blkdebug_event.h"
#include "block/block_types.h"
#include "util/error.h"
#include "util/task.h"

#include <string>

namespace ashlar {

class BlockDriverState;
class EdgeParent;

struct ChildPerm {
    BlockPerm perm = BlockPerm::None;   // what is wanted
    BlockPerm shared = BlockPerm::All;  // what others may have
    bool operator==(const ChildPerm&) const = default;
};

class BdrvChild {
public:
    BdrvChild(EdgeParent& parent, std::string name, ChildRole role)
        : parent_(parent), name_(std::move(name)), role_(role) {}
    BdrvChild(const BdrvChild&) = delete;
    ~BdrvChild();  // detached by then

    BlockDriverState& node() const { return *node_; }  // if it is attached: always, outside of a change of the graph
    bool is_attached() const { return node_ != nullptr; }
    EdgeParent& parent() const { return parent_; }
    const std::string& name() const { return name_; }  // "file", "backing", "root"
    ChildRole role() const { return role_; }
    const ChildPerm& perms() const { return perms_; }

    // --- requests: BlockDriverState's ---
    [[nodiscard]] Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags = {});
    [[nodiscard]] bool try_read_pages(int64_t offset, int64_t bytes, PagePipe& pages);
    [[nodiscard]] const std::byte* try_map(int64_t offset, int64_t bytes);
    [[nodiscard]] Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags = {});
    [[nodiscard]] Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags = {});
    [[nodiscard]] Task<int> co_pdiscard(int64_t offset, int64_t bytes);
    [[nodiscard]] Task<int> co_flush();
    [[nodiscard]] Task<Result<>> co_truncate(int64_t size, bool exact, PreallocMode prealloc, RequestFlags flags = {});
    [[nodiscard]] Task<BlockStatus> co_block_status(bool want_zero, int64_t offset, int64_t bytes);
    int64_t length() const;  // or a negative errno

    // One block of memory instead of a vector; `data` stays valid until the end.
    [[nodiscard]] Task<int> co_pread(int64_t offset, int64_t bytes, void* data, RequestFlags flags = {});
    [[nodiscard]] Task<int> co_pwrite(int64_t offset, int64_t bytes, const void* data, RequestFlags flags = {});

    // True if a blkdebug driver is below, and co_debug_event() worth calling.
    bool wants_debug_events() const;
    [[nodiscard]] Task<void> co_debug_event(BlkdebugEvent event);

private:
    friend class GraphTransaction;

    EdgeParent& parent_;
    std::string name_;
    ChildRole role_;
    ChildPerm perms_;
    BlockDriverState* node_ = nullptr;
};

}  // namespace ashlar
