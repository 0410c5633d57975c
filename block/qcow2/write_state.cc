#include "block/qcow2/write_state.h"

#include <cerrno>

namespace ashlar::qcow2 {

Task<bool> WriteState::co_may_change(CoMutex::Guard& guard, uint64_t start, uint64_t& end) {
    for (Allocation* other : allocations) {
        if (other->start >= end || other->end <= start)
            continue;
        if (other->start > start) {
            end = other->start;
            continue;
        }
        co_await other->ended.co_wait(guard);
        co_return false;
    }
    co_return true;
}

void WriteState::set_l1(uint64_t index, uint64_t entry) {
    image.l1.set(index, entry);
    std::lock_guard guard(dirty_lock_);
    dirty_l1_.push_back(index);
}

uint64_t WriteState::entries_in_piece(uint64_t guest) const {
    size_t piece = image.l2_cache.piece_bytes();
    return (piece - (image.l2_entry_offset(guest) & (piece - 1))) / image.geometry().l2_entry_bytes();
}

Task<int> WriteState::co_own_l2_table(uint64_t guest) {
    const Geometry& geometry = image.geometry();
    uint64_t index = geometry.l1_index(guest);
    uint64_t entry = image.l1.get(index);
    uint64_t old = entry & kOffsetMask;
    if (old == 0 || !(entry & kCopied)) {
        uint64_t offset, got;
        if (int ret = co_await refcounts.co_allocate(1, true, offset, got); ret < 0)
            co_return ret;
        Buffer table(geometry.cluster_size());
        std::ranges::fill(table.span(), std::byte{0});
        size_t piece = image.l2_cache.piece_bytes();
        for (uint64_t at = 0; old != 0 && at < table.size(); at += piece)
            while (!image.l2_cache.read(
                old + at, [&](std::span<const std::byte> bytes) { std::ranges::copy(bytes, table.data() + at); }))
                if (int ret = co_await image.l2_cache.co_load(old + at); ret < 0) {
                    refcounts.free_later(offset, table.size());
                    co_return ret;
                }
        image.l2_cache.drop(offset, table.size());  // from when the cluster was a table before
        int ret = co_await image.file.co_pwrite(static_cast<int64_t>(offset), static_cast<int64_t>(table.size()),
                                                table.data());
        if (ret < 0) {
            refcounts.free_later(offset, table.size());
            co_return ret;
        }
        set_l1(index, offset | kCopied);
        if (old != 0)
            refcounts.free_later(old, table.size());
    }
    co_return co_await image.l2_cache.co_load(image.l2_entry_offset(guest));
}

void WriteState::free_cluster(const L2Entry& entry) {
    if (entry.descriptor & kCompressed) {
        CompressedExtent extent = compressed_extent(entry, image.geometry());
        refcounts.free_later(extent.offset, extent.bytes);
    } else if (entry.host_offset() != 0 && !image.format.data_file) {
        refcounts.free_later(entry.host_offset(), image.geometry().cluster_size());
    }
}

}  // namespace ashlar::qcow2
