#include "block/qcow2/check.h"
#include "util/buffer_pool.h"
#include "util/byte_order.h"

#include <array>
#include <cerrno>
#include <unordered_set>

namespace ashlar::qcow2 {

namespace {

struct CopiedCheck {
    Check& check;
    // Where nothing else is wrong, no more than leaks were asked to be repaired for this to be safe.
    const bool repair;

    Task<int> co_check_l2(uint64_t offset, Buffer& table) {
        const L2Format& format = check.image.format;
        const Geometry& geometry = format.geometry;
        if (co_await check.co_read(offset, table.span()) < 0)
            co_return 0;  // which has been reported
        bool changed = false;
        for (uint64_t i = 0; i < geometry.l2_entries(); i++) {
            std::byte* at = table.data() + i * geometry.l2_entry_bytes();
            L2Entry entry = load_l2_entry(at, geometry);
            uint64_t host = entry.host_offset();
            if ((entry.descriptor & kCompressed) || host == 0 || geometry.in_cluster(host) != 0)
                continue;
            // In a data file every cluster is its guest's own.
            uint64_t refcount = format.data_file ? 1 : check.refcount(host >> geometry.cluster_bits);
            if ((refcount == 1) == entry.copied())
                continue;
            if (check.repairs(repair, " OFLAG_COPIED data cluster: l2_entry={:x} refcount={}", entry.descriptor,
                              refcount)) {
                store_l2_entry(at, geometry, {entry.descriptor ^ kCopied, entry.bitmap});
                changed = true;
            }
        }
        co_return changed ? co_await check.co_write(offset, table.span()) : 0;
    }
};

}  // namespace

Task<int> co_check_copied(Check& check) {
    const Header& header = check.image.header;
    const Geometry& geometry = check.image.geometry();
    const ImageCheck& so_far = check.result;
    CopiedCheck copied{check, check.fixes_all() || (check.fix == CheckFix::Leaks && so_far.corruptions == 0 &&
                                                    so_far.errors == 0 && so_far.leaks == 0)};
    Buffer bytes = Buffer::try_alloc(std::max<size_t>(uint64_t{header.l1_size} * 8, 8));
    Buffer table = Buffer::try_alloc(geometry.cluster_size());
    if (!bytes || !table)
        co_return -ENOMEM;
    if (header.l1_size == 0 || co_await check.co_read(header.l1_offset, bytes.span()) < 0)
        co_return 0;  // which has been reported
    std::unordered_set<uint64_t> seen;
    for (uint64_t i = 0; i < header.l1_size; i++) {
        uint64_t entry = load_be<uint64_t>(bytes.data() + i * 8), offset = entry & kOffsetMask;
        if (offset == 0 || geometry.in_cluster(offset) != 0)
            continue;
        uint64_t refcount = check.refcount(offset >> geometry.cluster_bits);
        if ((refcount == 1) != ((entry & kCopied) != 0) &&
            check.repairs(copied.repair, " OFLAG_COPIED L2 cluster: l1_index={} l1_entry={:x} refcount={}", i, entry,
                          refcount)) {
            std::array<std::byte, 8> changed;
            store_be<uint64_t>(changed.data(), entry ^ kCopied);
            if (int ret = co_await check.co_write(header.l1_offset + i * 8, changed); ret < 0)
                co_return ret;
        }
        if (offset < check.file_length && seen.insert(offset).second)
            if (int ret = co_await copied.co_check_l2(offset, table); ret < 0)
                co_return ret;
    }
    co_return 0;
}

}  // namespace ashlar::qcow2
