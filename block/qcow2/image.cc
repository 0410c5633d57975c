#include "block/qcow2/image.h"

#include "block/block_node.h"
#include "block/qcow2/open.h"
#include "block/qcow2/refcount_entry.h"
#include "block/qcow2/write_state.h"
#include "util/report.h"

#include <algorithm>
#include <cerrno>

namespace ashlar::qcow2 {

Image::Image(BdrvChild& file_child, BdrvChild& data_child, Header head, std::vector<uint64_t> l1_entries,
             const CacheSizes& sizes, std::string display_name)
    : file(file_child),
      data(data_child),
      name(std::move(display_name)),
      format{head.geometry(), head.version, head.has(kDataFile)},
      compression(head.compression),
      data_file_raw(head.data_file_raw()),
      header(std::move(head)),
      l1_offset(header.l1_offset),
      l1(std::move(l1_entries)),
      l2_cache(file, *this, sizes.l2_piece_bytes, sizes.l2_pieces) {
    length.set(static_cast<int64_t>(header.size));
}

Image::~Image() = default;

int Image::report_corruption(std::string_view what) {
    if (!corrupt_.exchange(true))
        warn_report("{}: Image is corrupt: {}; further non-fatal corruption events will be suppressed", name, what);
    return -EIO;
}

std::optional<int> Image::try_map(uint64_t guest, uint64_t bytes, Run& run, RunFor what) {
    uint64_t l1_entry = l1.get(geometry().l1_index(guest));
    uint64_t table = l1_entry & kOffsetMask;
    uint64_t table_end = ((geometry().l1_index(guest) + 1) << (geometry().cluster_bits + geometry().l2_bits()));
    bytes = std::min(bytes, table_end - guest);
    if (table == 0) {
        run = {.kind = Kind::Unallocated, .bytes = bytes};
        return 0;
    }
    if (geometry().in_cluster(table) != 0)
        return report_corruption(
            fmt::format("L2 table offset {:#x} unaligned (L1 index: {:#x})", table, geometry().l1_index(guest)));
    uint64_t at = table + geometry().l2_index(guest) * geometry().l2_entry_bytes();
    bool found = l2_cache.read(
        at, [&](std::span<const std::byte> entries) { run = decode_run(entries, guest, bytes, format, what); });
    if (!found)
        return std::nullopt;
    if (run.kind == Kind::Invalid)
        return report_corruption(fmt::format("invalid L2 entry {:#x} (L2 offset: {:#x}, L2 index: {:#x})",
                                             run.entry.descriptor, table, geometry().l2_index(guest)));
    if (format.data_file && has_host_cluster(run.kind) && run.host != guest)
        return report_corruption(
            fmt::format("the external data file's cluster at {:#x} is not at its guest offset {:#x}", run.host, guest));
    return 0;
}

Task<int> Image::co_map(uint64_t guest, uint64_t bytes, Run& run, RunFor what) {
    for (;;) {
        if (auto ret = try_map(guest, bytes, run, what))
            co_return *ret;
        if (int ret = co_await l2_cache.co_load(l2_entry_offset(guest)); ret < 0)
            co_return ret;
    }
}

Task<int> Image::co_copy_table(uint64_t offset, std::span<std::byte> table) {
    size_t piece = l2_cache.piece_bytes();
    for (uint64_t at = 0; at < table.size(); at += piece)
        while (!l2_cache.read(offset + at,
                              [&](std::span<const std::byte> bytes) { std::ranges::copy(bytes, table.data() + at); }))
            if (int ret = co_await l2_cache.co_load(offset + at); ret < 0)
                co_return ret;
    co_return 0;
}

Task<bool> Image::co_has_empty_clusters() {
    Known known = empty_clusters_.load(std::memory_order_relaxed);
    if (known == Known::NotYet) {
        known = co_await co_find_empty_clusters() ? Known::Yes : Known::No;
        empty_clusters_.store(known, std::memory_order_relaxed);
    }
    co_return known == Known::Yes;
}

Task<bool> Image::co_find_empty_clusters() {
    int64_t allocated = file.node().driver().allocated_size();
    auto table = co_await co_load_reftable(file, header_copy());
    Buffer block = Buffer::try_alloc(geometry().cluster_size());
    if (allocated < 0 || !table || !block)
        co_return false;
    // A few are always short of something: the last one, and tables with nothing in them.
    uint64_t most = static_cast<uint64_t>(allocated) >> geometry().cluster_bits;
    most = std::max(most / 9 * 10, most + 2);
    uint64_t used = 0;
    for (uint64_t offset : *table) {
        if (offset == 0)
            continue;
        if (co_await file.co_pread(static_cast<int64_t>(offset), static_cast<int64_t>(block.size()), block.data()) < 0)
            co_return false;
        for (uint64_t i = 0; i < geometry().refblock_entries(); i++)
            used += get_refcount(block.data(), i, geometry().refcount_order) != 0;
        if (used >= most)
            co_return true;
    }
    co_return false;
}

Task<int> Image::co_write_header(Header next) {
    auto bytes = write_header(next);
    if (!bytes) {
        error_report(std::move(bytes.error()).prefixed(name));
        co_return -ENOSPC;
    }
    Buffer area(geometry().cluster_size());
    std::ranges::fill(std::ranges::copy(*bytes, area.data()).out, area.data() + area.size(), std::byte{0});
    int ret = co_await file.co_pwrite(0, static_cast<int64_t>(area.size()), area.data());
    if (ret == 0)
        ret = co_await file.co_flush();
    if (ret == 0) {
        std::lock_guard guard(header_lock_);
        header = std::move(next);
        l1_offset = header.l1_offset;
    }
    co_return ret;
}

Header Image::header_copy() const {
    std::lock_guard guard(header_lock_);
    return header;
}

Task<int> Image::co_make_clean() {
    co_return co_await writing->co_writeback();  // only what can be written is ever dirty
}

}  // namespace ashlar::qcow2
