// The bitmap directory of a qcow2 image: what is accepted is within the limits, and is read again as it was when
// written. One byte says how many entries there are.
#include <cassert>
#include <cstdint>

#include "block/qcow2/bitmap_directory.h"

using namespace ashlar::qcow2;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 1)
        return 0;
    auto directory = std::as_bytes(std::span(data + 1, size - 1));
    Header header;
    header.cluster_bits = 9;
    header.bitmaps = BitmapsExtension{data[0], directory.size(), 512};
    auto entries = read_bitmap_directory(directory, header);
    if (!entries)
        return 0;
    assert(entries->size() == header.bitmaps->bitmaps);
    for (const BitmapEntry& one : *entries) {
        assert(!one.name.empty() && one.name.size() <= kMaxBitmapName && one.extra_data.size() <= kMaxBitmapExtraBytes);
        assert(one.granularity_bits >= kMinBitmapGranularityBits && one.granularity_bits <= kMaxBitmapGranularityBits);
        assert(one.table_offset % 512 == 0 && one.table_offset != 0 && (one.flags & ~kKnownBitmapFlags) == 0);
    }
    auto written = write_bitmap_directory(*entries);
    header.bitmaps->directory_bytes = written.size();
    auto again = read_bitmap_directory(written, header);
    assert(again && write_bitmap_directory(*again) == written);
    for (size_t i = 0; i < again->size(); i++) {
        const BitmapEntry &a = (*entries)[i], &b = (*again)[i];
        assert(a.name == b.name && a.table_offset == b.table_offset && a.table_entries == b.table_entries);
        assert(a.flags == b.flags && a.granularity_bits == b.granularity_bits && a.extra_data == b.extra_data);
    }
    return 0;
}
