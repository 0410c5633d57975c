#include "block/dirty_bitmap.h"
#include "block/qcow2/bitmaps.h"
#include "block/qcow2/write_state.h"
#include "util/buffer_pool.h"
#include "util/byte_order.h"

#include <algorithm>
#include <bit>
#include <cerrno>

namespace ashlar::qcow2 {

namespace {

constexpr uint64_t kMostAtOnce = 256;  // clusters in a row

auto find(std::vector<BitmapEntry>& entries, const std::string& name) {
    return std::ranges::find(entries, name, &BitmapEntry::name);
}

// What was allocated for something that did not come to be. With the lock held.
struct Allocated {
    Refcounts& refcounts;
    struct Range {
        uint64_t offset, bytes;
    };
    std::vector<Range> ranges = {};

    [[nodiscard]] Task<int> co_allocate(uint64_t clusters, bool exactly, unsigned cluster_bits, uint64_t& offset,
                                        uint64_t& got) {
        int ret = co_await refcounts.co_allocate(clusters, exactly, offset, got);
        if (ret == 0)
            ranges.push_back({offset, got << cluster_bits});
        co_return ret;
    }
    void give_back() {
        for (const Range& range : ranges)
            refcounts.free_later(range.offset, range.bytes);
        ranges.clear();
    }
};

// The stretch of the bitmap that cluster `i` of its data is for.
struct Piece {
    uint64_t first_bit, bits;
    bool all_clean, all_dirty;
};

Piece piece_of(const DirtyBitmap& bitmap, uint64_t i, uint64_t bits_of_cluster) {
    const auto granularity = static_cast<unsigned>(std::countr_zero(bitmap.granularity()));
    const auto size = static_cast<uint64_t>(bitmap.size());
    Piece piece{.first_bit = i * bits_of_cluster};
    const uint64_t begin = piece.first_bit << granularity;
    const uint64_t bytes = std::min(size - begin, bits_of_cluster << granularity);
    piece.bits = (bytes + bitmap.granularity() - 1) >> granularity;
    auto stretch = bitmap.stretch(static_cast<int64_t>(begin), static_cast<int64_t>(begin + bytes));
    const bool alike = static_cast<uint64_t>(stretch.bytes) == bytes;
    piece.all_clean = alike && !stretch.dirty;
    piece.all_dirty = alike && stretch.dirty;
    return piece;
}

// Writes the bits and the table; fills in where it is. With the lock held.
Task<int> co_write_bits(Image& image, const DirtyBitmap& bitmap, BitmapEntry& entry, Allocated& allocated) {
    const Geometry& geometry = image.geometry();
    const uint64_t cluster_size = geometry.cluster_size(), bits_of_cluster = cluster_size * 8;
    const uint64_t clusters = bitmap_clusters(geometry, static_cast<uint64_t>(bitmap.size()), entry.granularity_bits);
    std::vector<uint64_t> table(clusters), needed;
    for (uint64_t i = 0; i < clusters; i++) {
        Piece piece = piece_of(bitmap, i, bits_of_cluster);
        if (piece.all_dirty && piece.bits == bits_of_cluster)  // or bits behind the last would be set
            table[i] = kBitmapAllOnes;
        else if (!piece.all_clean)
            needed.push_back(i);
    }
    Buffer cluster = Buffer::try_alloc(cluster_size);
    if (!cluster)
        co_return -ENOMEM;
    for (uint64_t done = 0; done < needed.size();) {
        uint64_t offset, got;
        if (int ret = co_await allocated.co_allocate(std::min(needed.size() - done, kMostAtOnce), false,
                                                     geometry.cluster_bits, offset, got);
            ret < 0)
            co_return ret;
        for (; got > 0; got--, done++, offset += cluster_size) {
            table[needed[done]] = offset;
            bitmap.store_bits(needed[done] * bits_of_cluster, cluster.span());
            if (int ret = co_await image.file.co_pwrite(static_cast<int64_t>(offset),
                                                        static_cast<int64_t>(cluster_size), cluster.data());
                ret < 0)
                co_return ret;
        }
    }

    const uint64_t bytes = geometry.cluster_end(std::max<uint64_t>(clusters * 8, 8));
    uint64_t got;
    if (int ret = co_await allocated.co_allocate(bytes >> geometry.cluster_bits, true, geometry.cluster_bits,
                                                 entry.table_offset, got);
        ret < 0)
        co_return ret;
    std::vector<std::byte> out(bytes);
    for (uint64_t i = 0; i < clusters; i++)
        store_be<uint64_t>(out.data() + i * 8, table[i]);
    entry.table_entries = static_cast<uint32_t>(clusters);
    co_return co_await image.file.co_pwrite(static_cast<int64_t>(entry.table_offset), static_cast<int64_t>(bytes),
                                            out.data());
}

// Writes a new directory and makes it the image's. With the lock held.
Task<int> co_store_directory(Image& image, std::vector<BitmapEntry> entries) {
    WriteState& state = *image.writing;
    const Geometry& geometry = image.geometry();
    Allocated allocated{state.refcounts};
    Header header = image.header;
    const std::optional<BitmapsExtension> before = header.bitmaps;
    int ret = 0;
    header.bitmaps.reset();
    header.autoclear &= ~uint64_t{kBitmaps};
    if (!entries.empty()) {
        std::vector<std::byte> bytes = write_bitmap_directory(entries);
        BitmapsExtension place{static_cast<uint32_t>(entries.size()), bytes.size(), 0};
        uint64_t got;
        ret = co_await allocated.co_allocate(geometry.clusters(bytes.size()), true, geometry.cluster_bits,
                                             place.directory_offset, got);
        if (ret < 0)
            co_return ret;
        bytes.resize(geometry.cluster_end(bytes.size()));
        ret = co_await image.file.co_pwrite(static_cast<int64_t>(place.directory_offset),
                                            static_cast<int64_t>(bytes.size()), bytes.data());
        header.bitmaps = place;
        header.autoclear |= kBitmaps;
        if (!write_header(header))
            header.feature_names.clear();  // which are for messages only
    }
    if (ret == 0)
        ret = co_await state.co_flush_all();
    const std::optional<BitmapsExtension> after = header.bitmaps;
    if (ret == 0)
        ret = co_await image.co_write_header(std::move(header));
    if (ret < 0) {
        allocated.give_back();
        co_return ret;
    }
    image.bitmaps = std::move(entries);
    if (before) {
        state.metadata.remove(before->directory_offset, before->directory_bytes);
        state.refcounts.free_later(before->directory_offset, before->directory_bytes);
    }
    if (after)
        state.metadata.add(MetadataKind::BitmapDirectory, after->directory_offset, after->directory_bytes);
    co_return 0;
}

// What the image no longer refers to. What cannot be made out of it is lost until the next check. With the lock held.
Task<void> co_free_bitmap(Image& image, const BitmapEntry& entry) {
    Refcounts& refcounts = image.writing->refcounts;
    const Geometry& geometry = image.geometry();
    auto table = co_await co_load_bitmap_table(image, entry);
    if (!table)
        co_return;
    for (uint64_t at : *table)
        if (uint64_t offset = at & kOffsetMask; offset != 0)
            refcounts.free_later(offset, geometry.cluster_size());
    refcounts.free_later(entry.table_offset, std::max<uint64_t>(uint64_t{entry.table_entries} * 8, 8));
}

std::vector<std::shared_ptr<DirtyBitmap>> bitmaps_to_store(const BlockDriverState& node) {
    std::vector<std::shared_ptr<DirtyBitmap>> found;
    for (const auto& bitmap : node.dirty_bitmaps())
        if (bitmap->is_persistent() && !bitmap->is_inconsistent())
            found.push_back(bitmap);
    return found;
}

}  // namespace

Result<void> can_store_bitmap(const Image& image, const BlockDriverState& node, const std::string& name,
                              uint32_t granularity) {
    const Geometry& geometry = image.geometry();
    Header header = image.header_copy();
    if (header.version < 3)
        return fail("Cannot store dirty bitmaps in qcow2 v2 files");
    header.feature_names.clear();
    header.bitmaps = BitmapsExtension{};
    if (!write_header(header))
        return fail("There is no room for the bitmaps in the header, which is a cluster of {} bytes",
                    geometry.cluster_size());
    if (name.size() > kMaxBitmapName)
        return fail("Name length exceeds maximum ({} characters)", kMaxBitmapName);
    const uint64_t clusters = bitmap_clusters(geometry, static_cast<uint64_t>(image.length.get()),
                                              static_cast<unsigned>(std::countr_zero(granularity)));
    if (clusters * geometry.cluster_size() > std::max(kMaxBitmapBytes, geometry.cluster_size()) ||
        clusters * 8 > kMaxL1Bytes)
        return fail("Too much space will be occupied by the bitmap. Use larger granularity");
    uint64_t count = 1, bytes = bitmap_entry_bytes(name.size(), 0);
    auto add = [&](const std::string& other, size_t extra) {
        count++;
        bytes += bitmap_entry_bytes(other.size(), extra);
    };
    for (const BitmapEntry& entry : image.bitmaps) {
        if (entry.name == name)
            return fail("Bitmap with the same name is already stored");
        add(entry.name, entry.extra_data.size());
    }
    for (const auto& bitmap : bitmaps_to_store(node))
        if (std::ranges::find(image.bitmaps, bitmap->name(), &BitmapEntry::name) == image.bitmaps.end())
            add(bitmap->name(), 0);
    if (count > kMaxBitmaps)
        return fail("Maximum number of persistent bitmaps is already reached");
    if (bytes > kMaxBitmapDirectoryBytes)
        return fail("Not enough space in the bitmap directory");
    return {};
}

Task<Result<void>> co_store_bitmaps(Image& image, const BlockDriverState& node) {
    const auto bitmaps = bitmaps_to_store(node);
    if (bitmaps.empty())
        co_return {};
    WriteState& state = *image.writing;
    auto guard = co_await state.allocation_lock.co_lock();
    Allocated allocated{state.refcounts};
    std::vector<BitmapEntry> entries = image.bitmaps, replaced;
    int ret = 0;
    for (const auto& bitmap : bitmaps) {
        bitmap->resize(image.length.get());
        auto found = find(entries, bitmap->name());
        if (found != entries.end())
            replaced.push_back(*found);
        else
            found = entries.insert(entries.end(), {.name = bitmap->name()});
        found->granularity_bits = static_cast<uint8_t>(std::countr_zero(bitmap->granularity()));
        found->flags = (found->flags & kBitmapExtraDataCompatible) | (bitmap->is_enabled() ? kBitmapAuto : 0u);
        ret = co_await co_write_bits(image, *bitmap, *found, allocated);
        if (ret < 0)
            break;
    }
    if (ret == 0)
        ret = co_await co_store_directory(image, std::move(entries));
    if (ret < 0) {
        allocated.give_back();
        co_return fail_errno(-ret, "Failed to write the bitmaps");
    }
    for (const BitmapEntry& entry : replaced)
        co_await co_free_bitmap(image, entry);
    co_return {};
}

Task<Result<void>> co_remove_bitmap(Image& image, const std::string& name) {
    std::vector<BitmapEntry> entries = image.bitmaps;
    auto found = find(entries, name);
    if (found == entries.end())
        co_return {};
    const BitmapEntry removed = *found;
    entries.erase(found);
    {
        auto guard = co_await image.writing->allocation_lock.co_lock();
        if (int ret = co_await co_store_directory(image, std::move(entries)); ret < 0)
            co_return fail_errno(-ret, "Failed to update bitmap extension");
        co_await co_free_bitmap(image, removed);
    }
    if (int ret = co_await image.writing->co_settle(); ret < 0)
        co_return fail_errno(-ret, "Failed to free the bitmap's clusters");
    co_return {};
}

}  // namespace ashlar::qcow2
