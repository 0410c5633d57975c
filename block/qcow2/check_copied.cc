#include "block/qcow2/check.h"
#include "block/qcow2/open.h"
#include "util/buffer_pool.h"
#include "util/byte_order.h"

#include <array>
#include <cerrno>

namespace ashlar::qcow2 {

namespace {

Task<int> co_check_l2(Check& check, uint64_t offset, Buffer& table) {
    const L2Format& format = check.image.format;
    const Geometry& geometry = format.geometry;
    BdrvChild& file = check.image.file;
    int ret = co_await file.co_pread(static_cast<int64_t>(offset), static_cast<int64_t>(table.size()), table.data());
    if (ret < 0) {
        check.error(ret, "an L2 table cannot be read");
        co_return 0;
    }
    bool changed = false;
    for (uint64_t i = 0; i < geometry.l2_entries(); i++) {
        std::byte* at = table.data() + i * geometry.l2_entry_bytes();
        L2Entry entry = load_l2_entry(at, geometry);
        uint64_t host = entry.host_offset();
        // In a data file every cluster is its guest's own.
        if ((entry.descriptor & kCompressed) || host == 0 || format.data_file || geometry.in_cluster(host) != 0)
            continue;
        uint64_t refcount = check.refcount(host >> geometry.cluster_bits);
        if ((refcount == 1) == entry.copied())
            continue;
        if (check.repairs("OFLAG_COPIED data cluster: l2_entry={:x} refcount={}", entry.descriptor, refcount)) {
            store_l2_entry(at, geometry, {entry.descriptor ^ kCopied, entry.bitmap});
            changed = true;
        }
    }
    if (changed)
        ret = co_await file.co_pwrite(static_cast<int64_t>(offset), static_cast<int64_t>(table.size()), table.data());
    co_return ret;
}

}  // namespace

Task<int> co_check_copied(Check& check) {
    Image& image = check.image;
    const Geometry& geometry = image.geometry();
    auto l1 = co_await co_load_table(image.file, "l1_table_offset", image.header.l1_offset, image.header.l1_size);
    Buffer table = Buffer::try_alloc(geometry.cluster_size());
    if (!l1 || !table)
        co_return 0;  // which has been reported
    for (size_t i = 0; i < l1->size(); i++) {
        uint64_t entry = (*l1)[i], offset = entry & kOffsetMask;
        if (offset == 0 || geometry.in_cluster(offset) != 0)
            continue;
        uint64_t refcount = check.refcount(offset >> geometry.cluster_bits);
        if ((refcount == 1) != ((entry & kCopied) != 0) &&
            check.repairs("OFLAG_COPIED L2 cluster: l1_index={} l1_entry={:x} refcount={}", i, entry, refcount)) {
            std::array<std::byte, 8> bytes;
            store_be<uint64_t>(bytes.data(), entry ^ kCopied);
            int ret = co_await image.file.co_pwrite(static_cast<int64_t>(image.header.l1_offset + i * 8), bytes.size(),
                                                    bytes.data());
            if (ret < 0)
                co_return ret;
        }
        if (int ret = co_await co_check_l2(check, offset, table); ret < 0)
            co_return ret;
    }
    co_return 0;
}

}  // namespace ashlar::qcow2
