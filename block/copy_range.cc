#include "block/copy_range.h"

#include "block/block_graph.h"
#include "block/file/file_driver.h"

#include <algorithm>
#include <cerrno>

namespace ashlar {

namespace {

// A range of a file.
struct Place {
    HostFile* file = nullptr;  // null: it is none
    int64_t offset = 0;
};

FileDriver* file_driver(const BlockDriverState& node) {
    return dynamic_cast<FileDriver*>(&node.driver());
}

// Where `bytes` of a node's data are, as they are, in one piece.
Task<Place> co_find_source(BlockDriverState& node, int64_t offset, int64_t bytes) {
    if (FileDriver* file = file_driver(node))
        co_return Place{&file->host_file(), offset};
    const BlockStatus status = co_await node.co_block_status(false, offset, bytes);
    constexpr unsigned kPlain = BlockStatus::Data | BlockStatus::OffsetValid;
    BdrvChild* data = node.find_child("data-file");
    BdrvChild* child = data ? data : node.primary_child();
    if (status.ret < 0 || (status.flags & kPlain) != kPlain || status.has(BlockStatus::Compressed) ||
        status.bytes < bytes || !child)
        co_return Place{};
    co_return co_await co_find_source(child->node(), status.offset, bytes);
}

// A node that may be written in the place of the one above it: nothing keeps track of what is written.
bool is_unwatched(const BlockDriverState& node) {
    return node.dirty_bitmaps().empty() && !node.is_probed_raw();
}

// Only a raw image's place is known before it is written.
Task<Place> co_find_target(BlockDriverState& node, int64_t offset, int64_t bytes) {
    if (!is_unwatched(node))
        co_return Place{};
    if (FileDriver* file = file_driver(node))
        co_return Place{&file->host_file(), offset};
    if (node.type().name != "raw")
        co_return Place{};
    const BlockStatus status = co_await node.co_block_status(false, offset, bytes);
    if (status.ret < 0 || !status.has(BlockStatus::OffsetValid))
        co_return Place{};
    co_return co_await co_find_target(node.primary_child()->node(), status.offset, bytes);
}

}  // namespace

Task<int> co_copy_range(BlockBackend& from, int64_t from_offset, BlockBackend& to, int64_t to_offset, int64_t bytes) {
    if (to.is_read_only() || to.throttle() || from.throttle() || from_offset < 0 || to_offset < 0 || bytes <= 0 ||
        from_offset > from.length() - bytes || to_offset > to.length() - bytes)
        co_return -ENOTSUP;
    const Place source = co_await co_find_source(*from.root(), from_offset, bytes);
    if (!source.file)
        co_return -ENOTSUP;
    const Place target = co_await co_find_target(*to.root(), to_offset, bytes);
    if (!target.file)
        co_return -ENOTSUP;
    co_return co_await target.file->co_copy_from(*source.file, source.offset, target.offset, bytes);
}

}  // namespace ashlar
