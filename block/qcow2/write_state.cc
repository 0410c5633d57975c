#include "block/qcow2/write_state.h"

#include "block/qcow2/open.h"

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

Task<int> WriteState::co_settle() {
    do {
        if (int ret = co_await co_flush_all(); ret < 0)
            co_return ret;
        auto guard = co_await allocation_lock.co_lock();
        if (int ret = co_await refcounts.co_apply_frees(); ret < 0)
            co_return ret;
    } while (!refcounts.has_settled());
    co_return co_await co_flush_all();
}

Task<int> WriteState::co_set_dirty(bool dirty) {
    auto guard = co_await allocation_lock.co_lock();
    if (image.format.version < 3 || image.header.has(kDirty) == dirty)
        co_return 0;
    Header header = image.header;
    header.incompatible ^= kDirty;
    co_return co_await image.co_write_header(std::move(header));
}

Task<Result<void>> WriteState::co_reload() {
    auto guard = co_await allocation_lock.co_lock();
    image.distrust();
    const Header& header = image.header;
    image.data_file_raw = header.data_file_raw();
    image.format = {header.geometry(), header.version, header.has(kDataFile)};
    auto reftable = co_await co_load_reftable(image.file, header);
    if (!reftable)
        co_return std::unexpected(std::move(reftable.error()));
    auto entries = co_await co_load_table(image.file, "l1_table_offset", header.l1_offset, header.l1_size);
    if (!entries)
        co_return std::unexpected(std::move(entries.error()));
    image.l1.replace(std::move(*entries));
    image.l2_cache.drop(0, ~uint64_t{0});
    refcounts.reset(std::move(*reftable));
    dirty_l1_.clear();
    if (auto found = find_metadata(); !found)
        co_return found;
    if (!header.has(kCorrupt))
        image.trust();
    header_is_ours = false;
    co_return {};
}

Result<void> WriteState::find_metadata() {
    const Geometry& geometry = image.geometry();
    const Header& header = image.header;
    metadata.clear();
    metadata.add(MetadataKind::Header, 0, geometry.cluster_size());
    metadata.add(MetadataKind::L1, header.l1_offset, uint64_t{header.l1_size} * 8);
    metadata.add(MetadataKind::Reftable, header.reftable_offset,
                 uint64_t{header.reftable_clusters} << header.cluster_bits);
    if (header.snapshots > 0)
        metadata.add(MetadataKind::Snapshots, header.snapshots_offset, image.snapshot_table_bytes);
    if (auto blocks = refcounts.find_metadata(metadata); !blocks)
        return blocks;
    if (header.bitmaps && !metadata.add(MetadataKind::BitmapDirectory, header.bitmaps->directory_offset,
                                        header.bitmaps->directory_bytes))
        return fail("bitmap_directory_offset: {:#x} overlaps other metadata", header.bitmaps->directory_offset);
    for (uint64_t i = 0; i < image.l1.size(); i++) {
        uint64_t table = image.l1.get(i) & kOffsetMask;
        if (table == 0)
            continue;
        if (geometry.in_cluster(table) != 0)
            return fail("L1 table entry {}: {:#x} is not the offset of a cluster", i, table);
        // A table that is not the image's own may be in several places: it is copied before it is changed.
        MetadataKind there;
        if (!(image.l1.get(i) & kCopied) && metadata.overlaps(table, geometry.cluster_size(), there) &&
            there == MetadataKind::L2)
            continue;
        if (!metadata.add(MetadataKind::L2, table, geometry.cluster_size()))
            return fail("L1 table entry {}: the L2 table at {:#x} overlaps other metadata", i, table);
    }
    for (const Snapshot& snapshot : image.snapshots)
        metadata.add(MetadataKind::InactiveL1, snapshot.l1_offset, uint64_t{snapshot.l1_size} * 8);
    return {};
}

Task<Result<void>> WriteState::co_find_inactive_tables() {
    if (!metadata.checks(MetadataKind::InactiveL2))
        co_return {};
    for (const Snapshot& snapshot : image.snapshots) {
        auto l1 = co_await co_load_table(image.file, "a snapshot's L1 table", snapshot.l1_offset, snapshot.l1_size);
        if (!l1)
            co_return std::unexpected(std::move(l1.error()));
        for (uint64_t entry : *l1)
            if (uint64_t table = entry & kOffsetMask; table != 0)
                metadata.add(MetadataKind::InactiveL2, table, image.geometry().cluster_size());
    }
    co_return {};
}

int WriteState::check_data_place(uint64_t host, uint64_t bytes) {
    MetadataKind what;
    if (image.format.data_file || !metadata.overlaps(host, bytes, what))
        return 0;
    return image.report_corruption(
        fmt::format("Preventing invalid write on metadata (overlaps with {}): {} bytes at {:#x}", metadata_name(what),
                    bytes, host));
}

Task<int> WriteState::co_mark_corrupt() {
    auto guard = co_await allocation_lock.co_lock();
    if (image.has_reported() && image.format.version >= 3 && !image.header.has(kCorrupt)) {
        Header header = image.header;
        header.incompatible |= kCorrupt;
        co_await image.co_write_header(std::move(header));  // whether or not that works
    }
    co_return -EIO;
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
        int ret = old == 0 ? 0 : co_await image.co_copy_table(old, table.span());
        if (ret < 0) {
            refcounts.free_later(offset, table.size());
            co_return ret;
        }
        image.l2_cache.drop(offset, table.size());  // from when the cluster was a table before
        ret = co_await image.file.co_pwrite(static_cast<int64_t>(offset), static_cast<int64_t>(table.size()),
                                            table.data());
        if (ret < 0) {
            refcounts.free_later(offset, table.size());
            co_return ret;
        }
        metadata.add(MetadataKind::L2, offset, table.size());
        set_l1(index, offset | kCopied);
        if (old != 0) {
            metadata.remove(old, table.size());
            if (!image.snapshots.empty() && metadata.checks(MetadataKind::InactiveL2))
                metadata.add(MetadataKind::InactiveL2, old, table.size());
            refcounts.free_later(old, table.size());
        }
    }
    co_return co_await image.l2_cache.co_load(image.l2_entry_offset(guest));
}

void WriteState::free_cluster(const L2Entry& entry, FreedBy by) {
    if (entry.descriptor & kCompressed) {
        CompressedExtent extent = compressed_extent(entry, image.geometry());
        refcounts.free_later(extent.offset, extent.bytes, by);
    } else if (entry.host_offset() != 0 && !image.format.data_file) {
        refcounts.free_later(entry.host_offset(), image.geometry().cluster_size(), by);
    }
}

}  // namespace ashlar::qcow2
