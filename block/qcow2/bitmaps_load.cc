#include "block/dirty_bitmap.h"
#include "block/qcow2/bitmaps.h"
#include "block/qcow2/open.h"
#include "block/qcow2/write_state.h"
#include "util/buffer_pool.h"

#include <algorithm>
#include <cerrno>
#include <unordered_set>

namespace ashlar::qcow2 {

namespace {

using ClusterSet = std::unordered_set<uint64_t>;

// False if a cluster is in the set already: what belongs to bitmaps belongs to one, so that a small image cannot make
// us read and keep much.
bool take(ClusterSet& taken, const Geometry& geometry, uint64_t offset, uint64_t bytes) {
    for (uint64_t at = offset >> geometry.cluster_bits; at < geometry.clusters(offset + bytes); at++)
        if (!taken.insert(at).second)
            return false;
    return true;
}

Task<Result<void>> co_load_bits(const Image& image, const BitmapEntry& entry, ClusterSet& taken, DirtyBitmap& bitmap) {
    const Geometry& geometry = image.geometry();
    const auto disk_bytes = static_cast<uint64_t>(image.length.get());
    const uint64_t expected = bitmap_clusters(geometry, disk_bytes, entry.granularity_bits);
    if (entry.table_entries != expected)
        co_return fail("bitmap '{}': bitmap_table_size: {} entries, where a disk of {} bytes takes {}", entry.name,
                       entry.table_entries, disk_bytes, expected);
    if (expected * geometry.cluster_size() > std::max(kMaxBitmapBytes, geometry.cluster_size()))
        co_return fail("bitmap '{}': its {} bytes exceed the limit of {}", entry.name,
                       expected * geometry.cluster_size(), kMaxBitmapBytes);
    auto table = co_await co_load_bitmap_table(image, entry);
    if (!table)
        co_return std::unexpected(std::move(table.error()));
    if (!take(taken, geometry, entry.table_offset, uint64_t{entry.table_entries} * 8))
        co_return fail("bitmap '{}': bitmap_table_offset: {:#x} is another bitmap's", entry.name, entry.table_offset);
    Buffer cluster = Buffer::try_alloc(geometry.cluster_size());
    if (!cluster)
        co_return fail_errno(ENOMEM, "bitmap '{}'", entry.name);
    const uint64_t bits = geometry.cluster_size() * 8;  // of a cluster
    for (uint64_t i = 0; i < table->size(); i++) {
        const uint64_t offset = (*table)[i] & kOffsetMask;
        if (offset == 0) {
            if ((*table)[i] & kBitmapAllOnes) {
                const uint64_t begin = i * bits << entry.granularity_bits;
                const uint64_t end = begin + std::min(disk_bytes - begin, bits << entry.granularity_bits);
                bitmap.set(static_cast<int64_t>(begin), static_cast<int64_t>(end - begin));
            }
            continue;
        }
        if (!take(taken, geometry, offset, geometry.cluster_size()))
            co_return fail("bitmap '{}': table entry {}: {:#x} belongs to a bitmap already", entry.name, i, offset);
        if (int ret = co_await image.file.co_pread(static_cast<int64_t>(offset), static_cast<int64_t>(cluster.size()),
                                                   cluster.data());
            ret < 0)
            co_return fail_errno(-ret, "bitmap '{}': could not read it", entry.name);
        bitmap.load_bits(i * bits, cluster.span());
    }
    co_return {};
}

}  // namespace

uint64_t bitmap_clusters(const Geometry& geometry, uint64_t disk_bytes, unsigned granularity_bits) {
    const uint64_t bits =
        (disk_bytes >> granularity_bits) + ((disk_bytes & ((uint64_t{1} << granularity_bits) - 1)) != 0);
    return geometry.clusters((bits + 7) / 8);
}

Task<Result<std::vector<uint64_t>>> co_load_bitmap_table(const Image& image, const BitmapEntry& entry) {
    auto table = co_await co_load_table(image.file, "bitmap_table_offset", entry.table_offset, entry.table_entries);
    if (!table)
        co_return std::unexpected(std::move(table.error()).prefixed(fmt::format("bitmap '{}'", entry.name)));
    for (size_t i = 0; i < table->size(); i++) {
        const uint64_t at = (*table)[i], offset = at & kOffsetMask;
        if ((at & kBitmapEntryReserved) != 0 || (offset != 0 && (at & kBitmapAllOnes) != 0) ||
            image.geometry().in_cluster(offset) != 0)
            co_return fail("bitmap '{}': table entry {}: {:#x} makes no sense", entry.name, i, at);
    }
    co_return table;
}

Task<Result<void>> co_load_bitmaps(Image& image, BlockDriverState& node) {
    std::vector<std::shared_ptr<DirtyBitmap>> loaded;
    ClusterSet taken;
    for (const BitmapEntry& entry : image.bitmaps) {
        if (!entry.extra_data.empty() && !(entry.flags & kBitmapExtraDataCompatible)) {
            if (!image.writing)
                continue;
            co_return std::unexpected(Error{
                fmt::format("bitmap '{}' has extra data that are not known: it cannot be kept up to date", entry.name)}
                                          .with_hint("Open the image read-only."));
        }
        auto bitmap = DirtyBitmap::create(entry.name, uint32_t{1} << entry.granularity_bits, image.length.get());
        if (!bitmap)
            co_return std::unexpected(std::move(bitmap.error()).prefixed(fmt::format("bitmap '{}'", entry.name)));
        (*bitmap)->set_persistent(true);
        (*bitmap)->set_read_only(!image.writing);
        (*bitmap)->set_enabled((entry.flags & kBitmapAuto) && !(entry.flags & kBitmapInUse));
        if (entry.flags & kBitmapInUse)
            (*bitmap)->set_inconsistent(true);
        else if (auto bits = co_await co_load_bits(image, entry, taken, **bitmap); !bits)
            co_return bits;
        loaded.push_back(std::move(*bitmap));
    }
    for (auto& bitmap : loaded)
        node.add_dirty_bitmap(std::move(bitmap));
    co_return {};
}

Task<Result<void>> co_mark_bitmaps_in_use(Image& image) {
    std::vector<BitmapEntry> entries = image.bitmaps;
    bool any = false;
    for (BitmapEntry& entry : entries) {
        any |= !(entry.flags & kBitmapInUse);
        entry.flags |= kBitmapInUse;
    }
    if (!any)
        co_return {};
    // In place (where there is no other metadata: WriteState::find_metadata() has looked). Whatever a crash leaves of
    // this write, nothing else has been written before it is on the disk.
    const BitmapsExtension& place = *image.header.bitmaps;
    std::vector<std::byte> bytes = write_bitmap_directory(entries);
    if (bytes.size() != place.directory_bytes)
        co_return fail("bitmap_directory_size: {} bytes, where its entries take {}", place.directory_bytes,
                       bytes.size());
    int ret = co_await image.file.co_pwrite(static_cast<int64_t>(place.directory_offset),
                                            static_cast<int64_t>(bytes.size()), bytes.data());
    if (ret == 0)
        ret = co_await image.file.co_flush();
    if (ret < 0)
        co_return fail_errno(-ret, "could not mark the bitmaps as in use");
    for (BitmapEntry& entry : image.bitmaps)
        entry.flags |= kBitmapInUse;
    co_return {};
}

}  // namespace ashlar::qcow2
