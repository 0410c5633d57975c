#include "block/qcow2/bitmap_directory.h"
#include "block/qcow2/check.h"
#include "block/qcow2/open.h"
#include "util/buffer_pool.h"

#include <cerrno>

namespace ashlar::qcow2 {

namespace {

// Of one L2 table.
struct Table {
    uint64_t offset;
    bool active;
    uint64_t next_host = 0;  // where the next cluster would lie if it were in one piece with the last one
};

Task<int> co_rewrite_entry(Check& check, const Table& table, uint64_t index, L2Entry entry) {
    const Geometry& geometry = check.image.geometry();
    std::array<std::byte, 16> bytes;
    store_l2_entry(bytes.data(), geometry, entry);
    unsigned size = geometry.l2_entry_bytes();
    co_return co_await check.image.file.co_pwrite(static_cast<int64_t>(table.offset + index * size), size,
                                                  bytes.data());
}

Task<int> co_count_compressed(Check& check, const Table& table, uint64_t index, L2Entry entry) {
    const Geometry& geometry = check.image.geometry();
    CompressedExtent extent = compressed_extent(entry, geometry);
    if (check.image.format.data_file) {
        check.corruption("compressed cluster {} with data file, entry=0x{:x}", index, entry.descriptor);
        co_return 0;
    }
    if (entry.bitmap != 0)
        check.corruption("compressed cluster {} with non-zero subcluster allocation bitmap, entry=0x{:x}", index,
                         entry.descriptor);
    if (entry.copied() &&
        check.repairs("coffset=0x{:x}: copied flag must never be set for compressed clusters", extent.offset))
        if (int ret = co_await co_rewrite_entry(check, table, index, {entry.descriptor & ~kCopied, entry.bitmap});
            ret < 0)
            co_return ret;
    check.count(extent.offset, extent.bytes);
    if (table.active) {
        check.clusters.allocated++;
        check.clusters.compressed++;
        check.clusters.fragmented++;
    }
    co_return 0;
}

Task<int> co_count_standard(Check& check, Table& table, uint64_t index, L2Entry entry) {
    const L2Format& format = check.image.format;
    const Geometry& geometry = format.geometry;
    uint64_t reserved = kL2StandardReserved | (geometry.extended_l2 || format.version < 3 ? kZero : 0);
    if (entry.descriptor & reserved)
        check.corruption("found l2 entry with reserved bits set: {:x}", entry.descriptor);
    uint64_t host = entry.host_offset();
    if (geometry.extended_l2) {
        auto allocated = static_cast<uint32_t>(entry.bitmap), zero = static_cast<uint32_t>(entry.bitmap >> 32);
        if ((allocated & zero) != 0)
            check.corruption("l2 entry {}: subclusters are allocated and zero at once: {:016x}", index, entry.bitmap);
        else if (allocated != 0 && host == 0 && !(format.data_file && entry.copied()))
            check.corruption("l2 entry {}: subclusters are allocated, and the cluster is not: {:016x}", index,
                             entry.bitmap);
    }
    if (host == 0 && !(format.data_file && entry.copied()))
        co_return 0;
    bool has_data = geometry.extended_l2 ? static_cast<uint32_t>(entry.bitmap) != 0 : !(entry.descriptor & kZero);
    if (geometry.in_cluster(host) != 0) {
        if (has_data) {
            check.corruption("offset={:x}: Data cluster is not properly aligned; L2 entry corrupted.", host);
        } else if (check.repairs("offset={:x}: Preallocated cluster is not properly aligned; L2 entry corrupted.",
                                 host)) {
            // There are no data in it: it can do without.
            L2Entry plain{geometry.extended_l2 ? 0 : kZero, entry.bitmap};
            co_return co_await co_rewrite_entry(check, table, index, plain);
        }
    }
    if (table.active) {
        check.clusters.allocated++;
        if (table.next_host != 0 && table.next_host != host)
            check.clusters.fragmented++;
        table.next_host = host + geometry.cluster_size();
    }
    if (!format.data_file)
        check.count(host, geometry.cluster_size());
    co_return 0;
}

Task<int> co_count_l2(Check& check, Table& table, Buffer& buffer) {
    const Geometry& geometry = check.image.geometry();
    int ret = co_await check.image.file.co_pread(static_cast<int64_t>(table.offset),
                                                 static_cast<int64_t>(buffer.size()), buffer.data());
    if (ret < 0) {
        check.error(ret, "an L2 table cannot be read");
        check.incomplete = true;
        co_return 0;
    }
    for (uint64_t i = 0; i < geometry.l2_entries(); i++) {
        L2Entry entry = load_l2_entry(buffer.data() + i * geometry.l2_entry_bytes(), geometry);
        if (entry == L2Entry{})
            continue;
        ret = entry.descriptor & kCompressed ? co_await co_count_compressed(check, table, i, entry)
                                             : co_await co_count_standard(check, table, i, entry);
        if (ret < 0)
            co_return ret;
    }
    co_return 0;
}

Task<int> co_count_tables(Check& check, const std::vector<uint64_t>& l1, bool active, Buffer& buffer) {
    const Geometry& geometry = check.image.geometry();
    uint64_t next_host = 0;
    for (uint64_t entry : l1) {
        if (entry == 0)
            continue;
        if (entry & kL1Reserved & ~(geometry.cluster_size() - 1))
            check.corruption("found L1 entry with reserved bits set: {:x}", entry);
        uint64_t offset = entry & kOffsetMask;
        if (offset == 0)
            continue;
        check.count(offset, geometry.cluster_size());
        if (geometry.in_cluster(offset) != 0) {
            check.corruption("l2_offset={:x}: Table is not cluster aligned; L1 entry corrupted", offset);
            check.incomplete = true;
            continue;
        }
        Table table{offset, active, next_host};
        if (int ret = co_await co_count_l2(check, table, buffer); ret < 0)
            co_return ret;
        next_host = table.next_host;
    }
    co_return 0;
}

Task<int> co_count_snapshots(Check& check, Buffer& buffer) {
    Image& image = check.image;
    for (const Snapshot& snapshot : image.snapshots) {
        check.count(snapshot.l1_offset, uint64_t{snapshot.l1_size} * 8);
        auto l1 = co_await co_load_table(image.file, "a snapshot's L1 table", snapshot.l1_offset, snapshot.l1_size);
        if (!l1) {
            check.error(-EIO, "a snapshot's L1 table cannot be read");
            check.incomplete = true;
            continue;
        }
        if (int ret = co_await co_count_tables(check, *l1, false, buffer); ret < 0)
            co_return ret;
    }
    if (image.header.snapshots > 0)
        check.count(image.header.snapshots_offset, image.snapshot_table_bytes);
    co_return 0;
}

Task<int> co_count_bitmaps(Check& check) {
    Image& image = check.image;
    if (!image.header.bitmaps)
        co_return 0;
    const BitmapsExtension& place = *image.header.bitmaps;
    check.count(place.directory_offset, place.directory_bytes);
    if (auto loaded = co_await co_load_bitmap_directory(image); !loaded) {
        check.corruption("{}", loaded.error().message);
        check.incomplete = true;
        co_return 0;
    }
    for (const BitmapEntry& entry : image.bitmaps) {
        check.count(entry.table_offset, uint64_t{entry.table_entries} * 8);
        auto table = co_await co_load_table(image.file, "a bitmap table", entry.table_offset, entry.table_entries);
        if (!table) {
            check.error(-EIO, "a bitmap table cannot be read");
            check.incomplete = true;
            continue;
        }
        for (uint64_t at : *table) {
            uint64_t offset = at & kOffsetMask;
            if ((at & kBitmapEntryReserved) != 0 || (offset != 0 && (at & kBitmapAllOnes)) ||
                image.geometry().in_cluster(offset) != 0)
                check.corruption("bitmap '{}': table entry {:#x} makes no sense", entry.name, at);
            else if (offset != 0)
                check.count(offset, image.geometry().cluster_size());
        }
    }
    co_return 0;
}

Task<Result<void>> co_count_refcount_structures(Check& check) {
    Image& image = check.image;
    const Geometry& geometry = image.geometry();
    uint64_t bytes = uint64_t{image.header.reftable_clusters} << geometry.cluster_bits;
    auto table = co_await co_load_table(image.file, "refcount_table_offset", image.header.reftable_offset, bytes / 8);
    if (!table)
        co_return std::unexpected(std::move(table.error()));
    check.reftable = std::move(*table);
    check.count(image.header.reftable_offset, bytes);
    for (size_t i = 0; i < check.reftable.size(); i++) {
        uint64_t entry = check.reftable[i];
        uint64_t cluster = entry >> geometry.cluster_bits;
        if (entry == 0)
            continue;
        bool bad = true;
        if (entry & ~kReftableOffsetMask) {
            check.repairs("refcount table entry {} has reserved bits set", i);
        } else if (geometry.in_cluster(entry) != 0) {
            check.repairs("refcount block {} is not cluster aligned; refcount table entry corrupted", i);
        } else if (cluster >= check.references.clusters()) {
            check.repairs("refcount block {} is outside image", i);
        } else {
            check.count(entry, geometry.cluster_size());
            check.refcount_blocks.push_back(entry);
            bad = check.references.get(cluster) != 1;
            if (bad)
                check.repairs("refcount block {} refcount={}", i, check.references.get(cluster));
        }
        if (bad) {
            check.must_rebuild = true;
            check.reftable[i] = 0;
        }
    }
    co_return {};
}

Task<int> co_count_contents(Check& check) {
    Image& image = check.image;
    const Header& header = image.header;
    check.count(0, image.geometry().cluster_size());
    check.count(header.l1_offset, uint64_t{header.l1_size} * 8);
    auto l1 = co_await co_load_table(image.file, "l1_table_offset", header.l1_offset, header.l1_size);
    if (!l1) {
        check.error(-EIO, "the L1 table cannot be read");
        check.incomplete = true;
        co_return 0;
    }
    Buffer buffer = Buffer::try_alloc(image.geometry().cluster_size());
    if (!buffer)
        co_return -ENOMEM;
    if (int ret = co_await co_count_tables(check, *l1, true, buffer); ret < 0)
        co_return ret;
    if (int ret = co_await co_count_snapshots(check, buffer); ret < 0)
        co_return ret;
    co_return co_await co_count_bitmaps(check);
}

}  // namespace

void Check::error(int ret, std::string_view what) {
    say("ERROR: {}: {}", what, std::strerror(-ret));
    result.errors++;
}

void Check::count(uint64_t offset, uint64_t bytes) {
    if (references.add(offset, bytes))
        return;
    say("ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset 0x{:x} "
        "size 0x{:x}",
        offset, bytes);
    result.corruptions++;
}

Task<Result<void>> co_count_references(Check& check) {
    if (int ret = co_await co_count_contents(check); ret < 0)
        co_return fail_errno(-ret, "Check failed");
    co_return co_await co_count_refcount_structures(check);
}

}  // namespace ashlar::qcow2
