#include "block/qcow2/check.h"
#include "util/buffer_pool.h"
#include "util/byte_order.h"

#include <algorithm>
#include <cerrno>

namespace ashlar::qcow2 {

namespace {

// Where the new structures go: all in one piece, the blocks first.
struct Layout {
    uint64_t first;                // cluster
    std::vector<uint64_t> blocks;  // those that are needed, by what they count
    uint64_t table_clusters = 0;

    uint64_t end() const { return first + blocks.size() + table_clusters; }
};

// The blocks that count something, in order.
std::vector<uint64_t> needed_blocks(const ClusterCounts& references, const Geometry& geometry) {
    std::vector<uint64_t> blocks;
    for (uint64_t page : references.pages())
        for (uint64_t at = page * ClusterCounts::kPage, end = at + ClusterCounts::kPage; at < end;) {
            uint64_t block = at >> geometry.refblock_bits();
            if (references.get(at) == 0 || (!blocks.empty() && blocks.back() == block)) {
                at++;
                continue;
            }
            blocks.push_back(block);
        }
    return blocks;
}

Result<Layout> lay_out(const ClusterCounts& references, const Geometry& geometry, uint64_t first) {
    const std::vector<uint64_t> needed = needed_blocks(references, geometry);
    Layout layout{first, needed};
    for (;;) {  // they count themselves, too
        uint64_t end = layout.end();
        layout.blocks = needed;
        uint64_t last = (std::max(end, first + 1) - 1) >> geometry.refblock_bits();
        for (uint64_t block = first >> geometry.refblock_bits(); block <= last; block++)
            if (needed.empty() || needed.back() < block)
                layout.blocks.push_back(block);
        layout.table_clusters = geometry.clusters((layout.blocks.back() + 1) * 8);
        if (layout.table_clusters << geometry.cluster_bits > kMaxReftableBytes)
            return fail("the refcount table would exceed {} MiB", kMaxReftableBytes >> 20);
        if (layout.end() == end)
            return layout;
    }
}

}  // namespace

Result<uint64_t> end_of_rebuilt(const ClusterCounts& references, const Geometry& geometry, uint64_t first) {
    auto layout = lay_out(references, geometry, first);
    if (!layout)
        return std::unexpected(std::move(layout.error()));
    return layout->end();
}

Task<Result<void>> co_rebuild_refcounts(Image& image, const ClusterCounts& references, uint64_t first, Header header) {
    const Geometry geometry = header.geometry();
    auto layout = lay_out(references, geometry, first);
    if (!layout)
        co_return std::unexpected(std::move(layout.error()));
    auto write = [&](uint64_t cluster, const Buffer& data) {
        return image.file.co_pwrite(static_cast<int64_t>(cluster << geometry.cluster_bits),
                                    static_cast<int64_t>(data.size()), data.data());
    };
    Buffer table = Buffer::try_alloc(layout->table_clusters << geometry.cluster_bits);
    Buffer block = Buffer::try_alloc(geometry.cluster_size());
    if (!table || !block)
        co_return fail_errno(ENOMEM, "refcount table");
    std::ranges::fill(table.span(), std::byte{0});
    for (size_t i = 0; i < layout->blocks.size(); i++) {
        uint64_t counted = layout->blocks[i] << geometry.refblock_bits();
        std::ranges::fill(block.span(), std::byte{0});
        for (uint64_t j = 0; j < geometry.refblock_entries(); j++) {
            bool is_new = counted + j >= first && counted + j < layout->end();
            uint64_t count = is_new ? 1 : references.get(counted + j);
            if (count > geometry.max_refcount())
                co_return fail("a cluster with {} references cannot be counted with {} bits", count,
                               geometry.refcount_bits());
            if (count != 0)
                set_refcount(block.data(), j, geometry.refcount_order, count);
        }
        store_be<uint64_t>(table.data() + layout->blocks[i] * 8, (first + i) << geometry.cluster_bits);
        if (int ret = co_await write(first + i, block); ret < 0)
            co_return fail_errno(-ret, "could not write a refcount block");
    }
    uint64_t table_at = first + layout->blocks.size();
    if (int ret = co_await write(table_at, table); ret < 0)
        co_return fail_errno(-ret, "could not write the refcount table");
    if (int ret = co_await image.file.co_flush(); ret < 0)
        co_return fail_errno(-ret, "could not flush the refcount table");
    header.reftable_offset = table_at << geometry.cluster_bits;
    header.reftable_clusters = static_cast<uint32_t>(layout->table_clusters);
    if (int ret = co_await image.co_write_header(std::move(header)); ret < 0)
        co_return fail_errno(-ret, "could not write the header");
    co_return {};
}

}  // namespace ashlar::qcow2
