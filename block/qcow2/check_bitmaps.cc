#include "block/qcow2/bitmap_directory.h"
#include "block/qcow2/check.h"
#include "util/buffer_pool.h"

#include <cerrno>

namespace ashlar::qcow2 {

Task<int> co_count_bitmaps(Check& check) {
    Image& image = check.image;
    if (!image.header.bitmaps)
        co_return 0;
    const BitmapsExtension& place = *image.header.bitmaps;
    check.count(place.directory_offset, place.directory_bytes);
    Buffer bytes = Buffer::try_alloc(place.directory_bytes);
    int ret = !bytes ? -ENOMEM : co_await check.co_read(place.directory_offset, bytes.span());
    if (ret < 0) {
        check.error(ret, "the bitmap directory cannot be read");
        check.incomplete = true;
        co_return 0;
    }
    auto entries = read_bitmap_directory(bytes.span(), image.header);
    if (!entries) {
        check.corruption(" {}", entries.error().message);
        check.incomplete = true;
        co_return 0;
    }
    uint64_t table_bytes = 0;
    std::vector<uint64_t> table;
    for (const BitmapEntry& entry : *entries) {
        check.count(entry.table_offset, uint64_t{entry.table_entries} * 8);
        table_bytes += uint64_t{entry.table_entries} * 8;
        if (table_bytes > check.file_length + kMaxL1Bytes) {
            check.error(-EFBIG, "bitmap tables overlap each other");
            check.incomplete = true;
            co_return 0;
        }
        if (!co_await check.co_read_table(entry.table_offset, entry.table_entries, "a bitmap table", table))
            continue;
        for (uint64_t at : table) {
            uint64_t offset = at & kOffsetMask;
            if ((at & kBitmapEntryReserved) != 0 || (offset != 0 && (at & kBitmapAllOnes)) ||
                image.geometry().in_cluster(offset) != 0)
                check.corruption(" bitmap '{}': table entry {:#x} makes no sense", entry.name, at);
            else if (offset != 0)
                check.count(offset, image.geometry().cluster_size());
        }
    }
    co_return 0;
}

}  // namespace ashlar::qcow2
