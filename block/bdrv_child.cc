#include "block/bdrv_child.h"

#include "block/block_node.h"

#include <cassert>

namespace ashlar {

BdrvChild::~BdrvChild() {
    assert(!node_);
}

Task<int> BdrvChild::co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
    return node_->co_preadv(offset, bytes, iov, flags);
}

bool BdrvChild::try_read_pages(int64_t offset, int64_t bytes, PagePipe& pages) {
    return node_->try_read_pages(offset, bytes, pages);
}

const std::byte* BdrvChild::try_map(int64_t offset, int64_t bytes) {
    return node_->try_map(offset, bytes);
}

Task<int> BdrvChild::co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
    return node_->co_pwritev(offset, bytes, iov, flags);
}

Task<int> BdrvChild::co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) {
    return node_->co_pwrite_zeroes(offset, bytes, flags);
}

Task<int> BdrvChild::co_pdiscard(int64_t offset, int64_t bytes) {
    return node_->co_pdiscard(offset, bytes);
}

Task<int> BdrvChild::co_flush() {
    return node_->co_flush();
}

Task<Result<>> BdrvChild::co_truncate(int64_t size, bool exact, PreallocMode prealloc, RequestFlags flags) {
    return node_->co_truncate(size, exact, prealloc, flags);
}

Task<BlockStatus> BdrvChild::co_block_status(bool want_zero, int64_t offset, int64_t bytes) {
    return node_->co_block_status(want_zero, offset, bytes);
}

int64_t BdrvChild::length() const {
    return node_->length();
}

Task<int> BdrvChild::co_pread(int64_t offset, int64_t bytes, void* data, RequestFlags flags) {
    iovec element{data, static_cast<size_t>(bytes)};
    co_return co_await node_->co_preadv(offset, bytes, IoVector(element), flags);
}

Task<int> BdrvChild::co_pwrite(int64_t offset, int64_t bytes, const void* data, RequestFlags flags) {
    iovec element{const_cast<void*>(data), static_cast<size_t>(bytes)};
    co_return co_await node_->co_pwritev(offset, bytes, IoVector(element), flags);
}

bool BdrvChild::wants_debug_events() const {
    return node_->wants_debug_events();
}

Task<void> BdrvChild::co_debug_event(BlkdebugEvent event) {
    return node_->driver().co_debug_event(event);
}

}  // namespace ashlar
