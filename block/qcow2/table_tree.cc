#include "block/qcow2/table_tree.h"

#include "block/qcow2/write_state.h"
#include "util/buffer_pool.h"

#include <cerrno>

namespace ashlar::qcow2 {

namespace {

// Gathers what lies together.
struct Ranges {
    std::vector<ClusterRange> all;

    void add(const Geometry& geometry, uint64_t offset, uint64_t bytes) {
        uint64_t first = offset >> geometry.cluster_bits, count = geometry.clusters(offset + bytes) - first;
        if (!all.empty() && all.back().first + all.back().count == first)
            all.back().count += count;
        else
            all.push_back({first, count});
    }
};

void add_clusters(const Image& image, std::span<const std::byte> table, Ranges& ranges) {
    const Geometry& geometry = image.geometry();
    for (size_t at = 0; at < table.size(); at += geometry.l2_entry_bytes()) {
        L2Entry entry = load_l2_entry(table.data() + at, geometry);
        if (entry.descriptor & kCompressed) {
            CompressedExtent extent = compressed_extent(entry, geometry);
            ranges.add(geometry, extent.offset, extent.bytes);
        } else if (entry.host_offset() != 0 && !image.format.data_file) {
            ranges.add(geometry, entry.host_offset(), geometry.cluster_size());
        }
    }
}

int check_table(Image& image, uint64_t entry) {
    if (image.geometry().in_cluster(entry & kOffsetMask) == 0)
        return 0;
    return image.report_corruption(fmt::format("L2 table offset {:#x} unaligned", entry & kOffsetMask));
}

}  // namespace

Task<int> co_reference_tree(Image& image, std::span<const uint64_t> l1) {
    Refcounts& refcounts = image.writing->refcounts;
    const Geometry& geometry = image.geometry();
    Buffer table = Buffer::try_alloc(geometry.cluster_size());
    if (!table)
        co_return -ENOMEM;
    Ranges done;
    int ret = 0;
    for (size_t i = 0; ret == 0 && i < l1.size(); i++) {
        uint64_t offset = l1[i] & kOffsetMask;
        if (offset == 0)
            continue;
        Ranges ranges;
        ret = check_table(image, l1[i]);
        if (ret == 0)
            ret = co_await image.co_copy_table(offset, table.span());
        if (ret < 0)
            break;
        add_clusters(image, table.span(), ranges);
        ranges.add(geometry, offset, geometry.cluster_size());
        for (ClusterRange range : ranges.all) {
            if (ret = co_await refcounts.co_reference(range); ret < 0)
                break;
            done.add(geometry, range.first << geometry.cluster_bits, range.count << geometry.cluster_bits);
        }
    }
    if (ret < 0)
        for (ClusterRange range : done.all)
            (void)co_await refcounts.co_unreference(range);  // if that fails as well, clusters are lost
    co_return ret;
}

Task<int> co_unreference_tree(Image& image, std::span<const uint64_t> l1) {
    WriteState& state = *image.writing;
    const Geometry& geometry = image.geometry();
    Buffer table = Buffer::try_alloc(geometry.cluster_size());
    if (!table)
        co_return -ENOMEM;
    for (uint64_t entry : l1) {
        uint64_t offset = entry & kOffsetMask;
        if (offset == 0)
            continue;
        int ret = check_table(image, entry);
        if (ret == 0)
            ret = co_await image.co_copy_table(offset, table.span());
        if (ret < 0)
            co_return ret;
        Ranges ranges;
        add_clusters(image, table.span(), ranges);
        ranges.add(geometry, offset, geometry.cluster_size());
        for (ClusterRange range : ranges.all)
            state.refcounts.free_later(range.first << geometry.cluster_bits, range.count << geometry.cluster_bits,
                                       FreedBy::Snapshot);
        if (state.refcounts.has_many_frees())
            if (ret = co_await state.co_writeback(); ret < 0)
                co_return ret;
    }
    co_return 0;
}

namespace {

// Of the entries in one piece of an L2 table.
Task<int> co_update_piece(Image& image, uint64_t at, std::span<std::byte> piece) {
    const Geometry& geometry = image.geometry();
    unsigned entry_bytes = geometry.l2_entry_bytes();
    bool changed = false;
    for (size_t i = 0; i < piece.size(); i += entry_bytes) {
        L2Entry entry = load_l2_entry(piece.data() + i, geometry);
        if ((entry.descriptor & kCompressed) || entry.host_offset() == 0 || image.format.data_file)
            continue;
        uint64_t count;
        int ret = co_await image.writing->refcounts.co_get(entry.host_offset() >> geometry.cluster_bits, count);
        if (ret < 0)
            co_return ret;
        if ((count == 1) == entry.copied())
            continue;
        store_l2_entry(piece.data() + i, geometry, {entry.descriptor ^ kCopied, entry.bitmap});
        changed = true;
    }
    if (!changed)
        co_return 0;
    while (!image.l2_cache.modify(at, piece.size(),
                                  [&](std::span<std::byte> bytes) { std::ranges::copy(piece, bytes.begin()); }))
        if (int ret = co_await image.l2_cache.co_load(at); ret < 0)
            co_return ret;
    co_return 0;
}

}  // namespace

Task<int> co_update_copied(Image& image) {
    WriteState& state = *image.writing;
    const Geometry& geometry = image.geometry();
    Buffer table = Buffer::try_alloc(geometry.cluster_size());
    if (!table)
        co_return -ENOMEM;
    size_t piece = image.l2_cache.piece_bytes();
    for (uint64_t i = 0; i < image.l1.size(); i++) {
        uint64_t entry = image.l1.get(i), offset = entry & kOffsetMask;
        if (offset == 0)
            continue;
        uint64_t count;
        int ret = check_table(image, entry);
        if (ret == 0)
            ret = co_await state.refcounts.co_get(offset >> geometry.cluster_bits, count);
        if (ret == 0)
            ret = co_await image.co_copy_table(offset, table.span());
        if (ret < 0)
            co_return ret;
        if ((count == 1) != ((entry & kCopied) != 0))
            state.set_l1(i, entry ^ kCopied);
        for (size_t at = 0; at < table.size(); at += piece)
            if (ret = co_await co_update_piece(image, offset + at, table.span().subspan(at, piece)); ret < 0)
                co_return ret;
    }
    co_return 0;
}

}  // namespace ashlar::qcow2
