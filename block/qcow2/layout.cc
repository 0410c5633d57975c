#include "block/qcow2/header.h"

#include <algorithm>
#include <vector>

namespace ashlar::qcow2 {

namespace {

struct Table {
    const char* field;
    uint64_t offset;
    uint64_t bytes;
};

Result<void> check_place(const Table& table, Geometry geometry, uint64_t file_length) {
    if (geometry.in_cluster(table.offset) != 0)
        return fail("{}: {:#x} is not at the start of a cluster", table.field, table.offset);
    if (table.offset < geometry.cluster_size())
        return fail("{}: {:#x} overlaps the header", table.field, table.offset);
    if (table.offset > kMaxHostOffset || table.bytes > kMaxHostOffset - table.offset)
        return fail("{}: {:#x} with {} bytes is beyond what the format can address", table.field, table.offset,
                    table.bytes);
    // The last cluster of a file may be cut short: what is missing reads as zeroes.
    if (table.offset + table.bytes > geometry.cluster_end(file_length) || table.offset >= file_length)
        return fail("{}: {:#x} with {} bytes is beyond the end of the file, which has {}", table.field, table.offset,
                    table.bytes, file_length);
    return {};
}

}  // namespace

Result<void> check_layout(const Header& header, uint64_t file_length) {
    Geometry geometry = header.geometry();
    if (header.snapshots > kMaxSnapshots)
        return fail("nb_snapshots: {} exceeds the limit of {}", header.snapshots, kMaxSnapshots);
    if (file_length > kMaxHostOffset)
        file_length = kMaxHostOffset;
    if (header.reftable_clusters == 0)
        return fail("refcount_table_clusters: 0 (Image does not contain a reference count table)");
    std::vector<Table> tables{
        {"refcount_table_offset", header.reftable_offset, uint64_t{header.reftable_clusters} << header.cluster_bits}};
    if (header.l1_size > 0)
        tables.push_back({"l1_table_offset", header.l1_offset, uint64_t{header.l1_size} * 8});
    if (header.snapshots > 0)  // an entry has at least 40 bytes
        tables.push_back({"snapshots_offset", header.snapshots_offset, uint64_t{header.snapshots} * 40});
    if (header.bitmaps)
        tables.push_back(
            {"bitmap_directory_offset", header.bitmaps->directory_offset, header.bitmaps->directory_bytes});
    for (size_t i = 0; i < tables.size(); i++) {
        const Table& a = tables[i];
        if (auto place = check_place(a, geometry, file_length); !place)
            return place;
        for (size_t j = 0; j < i; j++) {
            const Table& b = tables[j];
            if (a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes)
                return fail("{}: {:#x} with {} bytes overlaps {} at {:#x}", a.field, a.offset, a.bytes, b.field,
                            b.offset);
        }
    }
    return {};
}

Result<void> check_l1_place(const Header& header, uint64_t file_length) {
    if (header.l1_size == 0)
        return {};
    return check_place({"l1_table_offset", header.l1_offset, uint64_t{header.l1_size} * 8}, header.geometry(),
                       std::min<uint64_t>(file_length, kMaxHostOffset));
}

}  // namespace ashlar::qcow2
