#include "block/qcow2/check.h"
#include "block/qcow2/refcount_entry.h"
#include "util/buffer_pool.h"
#include "util/byte_order.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace ashlar::qcow2 {

namespace {

// Where the new structures go: all in one piece, the blocks first.
struct Layout {
    Geometry geometry;             // with the new width
    uint64_t first = 0;            // cluster
    std::vector<uint64_t> blocks;  // those that are needed, by what they count
    uint64_t table_clusters = 0;

    uint64_t end() const { return first + blocks.size() + table_clusters; }
};

Result<Layout> lay_out(const ReferenceMap& references, Geometry geometry) {
    Layout layout{geometry, references.clusters(), {}, 0};
    for (uint64_t at = references.skip_unused(0); at < references.clusters(); at = references.skip_unused(at)) {
        uint64_t block = at >> geometry.refblock_bits();
        if (references.get(at) == 0) {
            at++;
            continue;
        }
        layout.blocks.push_back(block);
        at = (block + 1) << geometry.refblock_bits();
    }
    const std::vector<uint64_t> needed = layout.blocks;
    for (;;) {
        uint64_t end = layout.end();
        layout.blocks = needed;
        uint64_t last = (end - 1) >> geometry.refblock_bits();
        for (uint64_t block = layout.first >> geometry.refblock_bits(); block <= last; block++)
            if (needed.empty() || needed.back() < block)
                layout.blocks.push_back(block);
        layout.table_clusters = geometry.clusters((last + 1) * 8);
        if (layout.table_clusters << geometry.cluster_bits > kMaxReftableBytes)
            return fail("the refcount table would exceed {} MiB", kMaxReftableBytes >> 20);
        if (layout.end() == end)
            return layout;
    }
}

}  // namespace

Task<Result<void>> co_rebuild_refcounts(Image& image, const ReferenceMap& references, unsigned order, uint64_t clear) {
    Geometry geometry = image.geometry();
    geometry.refcount_order = order;
    if (uint64_t most = references.largest(); most > geometry.max_refcount())
        co_return fail("a cluster with {} references cannot be counted with {} bits", most, geometry.refcount_bits());
    auto layout = lay_out(references, geometry);
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
    std::memset(table.data(), 0, table.size());
    for (size_t i = 0; i < layout->blocks.size(); i++) {
        uint64_t first = layout->blocks[i] << geometry.refblock_bits();
        std::memset(block.data(), 0, block.size());
        for (uint64_t j = 0; j < geometry.refblock_entries(); j++) {
            bool is_new = first + j >= layout->first && first + j < layout->end();
            if (uint64_t count = is_new ? 1 : references.get(first + j))
                set_refcount(block.data(), j, order, count);
        }
        store_be<uint64_t>(table.data() + layout->blocks[i] * 8, (layout->first + i) << geometry.cluster_bits);
        if (int ret = co_await write(layout->first + i, block); ret < 0)
            co_return fail_errno(-ret, "could not write a refcount block");
    }
    uint64_t table_at = layout->first + layout->blocks.size();
    if (int ret = co_await write(table_at, table); ret < 0)
        co_return fail_errno(-ret, "could not write the refcount table");
    if (int ret = co_await image.file.co_flush(); ret < 0)
        co_return fail_errno(-ret, "could not flush the refcount table");
    Header header = image.header;
    header.reftable_offset = table_at << geometry.cluster_bits;
    header.reftable_clusters = static_cast<uint32_t>(layout->table_clusters);
    header.refcount_order = order;
    header.incompatible &= ~clear;
    if (int ret = co_await image.co_write_header(std::move(header)); ret < 0)
        co_return fail_errno(-ret, "could not write the header");
    co_return {};
}

}  // namespace ashlar::qcow2
