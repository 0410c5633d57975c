#include "block/qcow2/open.h"

#include "util/buffer_pool.h"
#include "util/byte_order.h"

#include <algorithm>

namespace ashlar::qcow2 {

Task<Result<Header>> co_load_header(BdrvChild& file, bool for_check) {
    int64_t length = file.length();
    if (length < 0)
        co_return fail_errno(static_cast<int>(-length), "Could not get image size");
    Buffer head(kSectorSize);
    size_t head_bytes = static_cast<size_t>(std::min<int64_t>(length, static_cast<int64_t>(head.size())));
    if (int ret = co_await file.co_pread(0, static_cast<int64_t>(head_bytes), head.data()); ret < 0)
        co_return fail_errno(-ret, "Could not read qcow2 header");
    auto area_bytes = header_area_size(head.span().first(head_bytes));
    if (!area_bytes)
        co_return std::unexpected(std::move(area_bytes.error()));
    Buffer area(std::min(*area_bytes, static_cast<uint64_t>(length)));
    if (int ret = co_await file.co_pread(0, static_cast<int64_t>(area.size()), area.data()); ret < 0)
        co_return fail_errno(-ret, "Could not read qcow2 header");
    auto header = read_header(area.span());
    if (!header)
        co_return header;
    auto layout = for_check ? check_l1_place(*header, static_cast<uint64_t>(length))
                            : check_layout(*header, static_cast<uint64_t>(length));
    if (!layout)
        co_return std::unexpected(std::move(layout.error()));
    co_return header;
}

Result<void> check_writable(const Header& header) {
    auto refuse = [](std::string why, std::string hint) {
        return std::unexpected(Error{.message = std::move(why), .hint = std::move(hint)});
    };
    if (header.has(kCorrupt))
        return refuse("qcow2: Image is corrupt; cannot be opened read/write",
                      "Repair it with 'qemu-img check -r all', or open it read-only.");
    return {};
}

Task<Result<std::vector<uint64_t>>> co_load_reftable(BdrvChild& file, const Header& header) {
    Geometry geometry = header.geometry();
    int64_t length = file.length();
    if (length < 0)
        co_return fail_errno(static_cast<int>(-length), "Could not get image size");
    if (auto layout = check_layout(header, static_cast<uint64_t>(length)); !layout)
        co_return std::unexpected(std::move(layout.error()));
    auto table = co_await co_load_table(file, "refcount_table_offset", header.reftable_offset,
                                        (uint64_t{header.reftable_clusters} << header.cluster_bits) / 8);
    if (!table)
        co_return table;
    for (size_t i = 0; i < table->size(); i++) {
        uint64_t offset = (*table)[i];
        if (geometry.in_cluster(offset) != 0 || offset > kMaxHostOffset)
            co_return fail("refcount table entry {}: {:#x} is not the offset of a cluster", i, offset);
    }
    co_return table;
}

Task<Result<void>> co_load_bitmap_directory(Image& image) {
    image.bitmaps.clear();
    if (!image.header.bitmaps)
        co_return {};
    const BitmapsExtension& place = *image.header.bitmaps;
    Buffer bytes = Buffer::try_alloc(place.directory_bytes);
    if (!bytes)
        co_return fail_errno(ENOMEM, "bitmap directory");
    if (int ret = co_await image.file.co_pread(static_cast<int64_t>(place.directory_offset),
                                               static_cast<int64_t>(bytes.size()), bytes.data());
        ret < 0)
        co_return fail_errno(-ret, "bitmap directory: could not read it");
    auto entries = read_bitmap_directory(bytes.span(), image.header);
    if (!entries)
        co_return std::unexpected(std::move(entries.error()));
    image.bitmaps = std::move(*entries);
    co_return {};
}

Task<Result<std::vector<uint64_t>>> co_load_table(BdrvChild& file, const char* field, uint64_t offset,
                                                  uint64_t entries) {
    Buffer bytes = Buffer::try_alloc(std::max<size_t>(entries * 8, 8));
    if (!bytes)
        co_return fail_errno(ENOMEM, "{}", field);
    if (entries > 0)
        if (int ret =
                co_await file.co_pread(static_cast<int64_t>(offset), static_cast<int64_t>(entries * 8), bytes.data());
            ret < 0)
            co_return fail_errno(-ret, "{}: could not read the table at {:#x}", field, offset);
    std::vector<uint64_t> table(entries);
    for (uint64_t i = 0; i < entries; i++)
        table[i] = load_be<uint64_t>(bytes.data() + i * 8);
    co_return table;
}

}  // namespace ashlar::qcow2
