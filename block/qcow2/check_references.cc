#include "block/qcow2/check.h"
#include "block/qcow2/metadata_map.h"
#include "util/buffer_pool.h"
#include "util/byte_order.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>

namespace ashlar::qcow2 {

namespace {

// How often an L2 table is referred to.
struct TableUse {
    uint64_t active = 0;
    uint64_t snapshots = 0;
    bool is_done = false;
};
using TableUses = std::unordered_map<uint64_t, TableUse>;  // by offset

struct L2Scan {
    Check& check;
    uint64_t offset;
    TableUse use;
    uint64_t next_host = 0;  // where the next cluster would lie if it were in one piece with the last one
    bool changed = false;

    uint64_t times() const { return use.active + use.snapshots; }

    void count_compressed(uint64_t index, L2Entry& entry) {
        const Geometry& geometry = check.image.geometry();
        CompressedExtent extent = compressed_extent(entry, geometry);
        if (check.image.format.data_file) {
            check.corruption(" compressed cluster {} with data file, entry=0x{:x}", index, entry.descriptor);
            return;
        }
        if (entry.bitmap != 0)
            check.corruption(" compressed cluster {} with non-zero subcluster allocation bitmap, entry=0x{:x}", index,
                             entry.descriptor);
        if (entry.copied() &&
            check.repairs(check.fixes_all(), ": coffset=0x{:x}: copied flag must never be set for compressed clusters",
                          extent.offset)) {
            entry.descriptor &= ~kCopied;
            changed = true;
        }
        check.count(extent.offset, extent.bytes, times());
        check.statistics.allocated += static_cast<int64_t>(use.active);
        check.statistics.compressed += static_cast<int64_t>(use.active);
        check.statistics.fragmented += static_cast<int64_t>(use.active);
    }

    void count_standard(L2Entry& entry) {
        const L2Format& format = check.image.format;
        const Geometry& geometry = format.geometry;
        uint64_t reserved = kL2StandardReserved | (geometry.extended_l2 || format.version < 3 ? kZero : 0);
        if (entry.descriptor & reserved) {
            // What the first bit means for clusters without subclusters, subclusters have bits of their own for.
            bool only_zero = geometry.extended_l2 && (entry.descriptor & reserved) == kZero;
            if (check.repairs(check.fixes_all() && only_zero, " found l2 entry with reserved bits set: {:x}",
                              entry.descriptor)) {
                entry.descriptor &= ~kZero;
                changed = true;
            }
        }
        uint64_t host = entry.host_offset();
        auto allocated = static_cast<uint32_t>(entry.bitmap), zero = static_cast<uint32_t>(entry.bitmap >> 32);
        bool has_host = host != 0 || (format.data_file && entry.copied());
        if (!has_host) {
            if (allocated != 0)
                check.corruption(": Unallocated cluster has non-zero subcluster allocation map");
            return;
        }
        if ((allocated & zero) != 0)
            check.corruption(" offset={:x}: Allocated cluster has corrupted subcluster allocation bitmap", host);
        if (geometry.in_cluster(host) != 0) {
            bool has_data = geometry.extended_l2 ? allocated != 0 : !(entry.descriptor & kZero);
            if (has_data) {
                check.corruption(" offset={:x}: Data cluster is not properly aligned; L2 entry corrupted.", host);
            } else if (check.repairs(check.fixes_all(),
                                     " offset={:x}: Preallocated cluster is not properly aligned; L2 entry corrupted.",
                                     host)) {
                // There are no data in it: it can do without.
                entry.descriptor = geometry.extended_l2 ? 0 : kZero;
                changed = true;
                return;
            }
        }
        check.statistics.allocated += static_cast<int64_t>(use.active);
        if (next_host != 0 && next_host != host)
            check.statistics.fragmented += static_cast<int64_t>(use.active);
        next_host = host + geometry.cluster_size();
        if (!format.data_file)
            check.count(host, geometry.cluster_size(), times());
    }

    Task<int> co_run(Buffer& table) {
        const Geometry& geometry = check.image.geometry();
        if (int ret = co_await check.co_read(offset, table.span()); ret < 0) {
            check.error(ret, fmt::format("the L2 table at {:#x} cannot be read", offset));
            check.incomplete = true;
            co_return 0;
        }
        for (uint64_t i = 0; i < geometry.l2_entries(); i++) {
            std::byte* at = table.data() + i * geometry.l2_entry_bytes();
            const L2Entry before = load_l2_entry(at, geometry);
            if (before == L2Entry{})
                continue;
            L2Entry entry = before;
            if (entry.descriptor & kCompressed)
                count_compressed(i, entry);
            else
                count_standard(entry);
            if (entry != before)
                store_l2_entry(at, geometry, entry);
        }
        co_return changed ? co_await check.co_write(offset, table.span()) : 0;
    }
};

// Where the entries of an L1 table lead to; `times` as often as that is counted.
void count_l1_entries(Check& check, const std::vector<uint64_t>& l1, bool active, uint64_t times, TableUses& uses) {
    const Geometry& geometry = check.image.geometry();
    for (uint64_t entry : l1) {
        if (entry == 0)
            continue;
        if (entry & kL1Reserved)
            check.corruption(" found L1 entry with reserved bits set: {:x}", entry);
        uint64_t offset = entry & kOffsetMask;
        if (offset == 0)
            continue;
        check.count(offset, geometry.cluster_size(), times);
        if (geometry.in_cluster(offset) != 0) {
            check.corruption(" l2_offset={:x}: Table is not cluster aligned; L1 entry corrupted", offset);
            check.incomplete = true;
            continue;
        }
        if (offset >= check.file_length)
            continue;  // there is nothing to be followed
        auto [use, is_new] = uses.try_emplace(offset);
        (active ? use->second.active : use->second.snapshots) += times;
        if (is_new)
            check.tables.push_back(offset);
    }
}

Task<int> co_count_tables(Check& check) {
    const Header& header = check.image.header;
    std::vector<L1Place> snapshots;
    TableUses uses;
    std::vector<uint64_t> l1;

    check.count(header.l1_offset, uint64_t{header.l1_size} * 8);
    if (co_await check.co_read_table(header.l1_offset, header.l1_size, "the L1 table", l1))
        count_l1_entries(check, l1, true, 1, uses);

    if (int ret = co_await co_count_snapshots(check, snapshots); ret < 0)
        co_return ret;
    std::map<std::pair<uint64_t, uint64_t>, uint64_t> places;
    for (const L1Place& place : snapshots)
        places[{place.offset, place.entries}]++;
    uint64_t bytes = 0;
    for (const auto& [place, times] : places) {
        auto [offset, entries] = place;
        check.count(offset, entries * 8, times);
        bytes += entries * 8;
        if (bytes > check.file_length + kMaxL1Bytes) {
            check.error(-EFBIG, "L1 tables overlap each other");
            check.incomplete = true;
            break;
        }
        if (co_await check.co_read_table(offset, entries, "a snapshot's L1 table", l1))
            count_l1_entries(check, l1, false, times, uses);
    }

    Buffer table = Buffer::try_alloc(check.image.geometry().cluster_size());
    if (!table)
        co_return -ENOMEM;
    for (uint64_t offset : check.tables) {
        L2Scan scan{check, offset, uses[offset]};
        if (int ret = co_await scan.co_run(table); ret < 0)
            co_return ret;
    }
    co_return 0;
}

Task<int> co_count_refcount_structures(Check& check) {
    Image& image = check.image;
    const Geometry& geometry = image.geometry();
    const uint64_t table = image.header.reftable_offset;
    uint64_t bytes = uint64_t{image.header.reftable_clusters} << geometry.cluster_bits;
    check.count(table, bytes);
    if (geometry.in_cluster(table) != 0 || table < geometry.cluster_size() || table >= check.file_length ||
        bytes == 0) {
        check.must_rebuild = true;
        co_return 0;
    }
    if (!co_await check.co_read_table(table, bytes / 8, "the refcount table", check.reftable))
        co_return 0;
    bool changed = false;
    for (size_t i = 0; i < check.reftable.size(); i++) {
        uint64_t& entry = check.reftable[i];
        if (entry == 0)
            continue;
        if (entry & ~kReftableOffsetMask) {
            changed |= check.repairs(check.fixes_all(), " refcount table entry {} has reserved bits set", i);
            entry &= kReftableOffsetMask;
            if (entry == 0)
                continue;
        }
        uint64_t cluster = entry >> geometry.cluster_bits;
        bool bad = true;
        if (geometry.in_cluster(entry) != 0) {
            check.repairs(check.fixes_all(),
                          " refcount block {} is not cluster aligned; refcount table entry corrupted", i);
        } else if (cluster >= check.clusters) {
            check.repairs(check.fixes_all(), " refcount block {} is outside image", i);
        } else {
            check.count(entry, geometry.cluster_size());
            check.counted_blocks.push_back(entry);
            bad = check.times_counted(cluster) != 1;
            if (bad)
                check.repairs(check.fixes_all(), " refcount block {} refcount={}", i, check.times_counted(cluster));
        }
        if (bad) {
            // One that nobody needs may wait for a repair of everything.
            check.must_rebuild |= cluster < check.clusters || check.fixes_all();
            entry = 0;
        }
    }
    if (!changed || check.must_rebuild)  // which writes another table
        co_return 0;
    std::vector<std::byte> raw(bytes);
    for (size_t i = 0; i < check.reftable.size(); i++)
        store_be<uint64_t>(raw.data() + i * 8, check.reftable[i]);
    co_return co_await check.co_write(table, raw);
}

// No L2 table may be where other tables are that are changed in place. (That counts are right is no help.)
void check_overlaps(Check& check) {
    const Header& header = check.image.header;
    const Geometry& geometry = check.image.geometry();
    MetadataMap map(geometry);
    map.add(MetadataKind::Header, 0, geometry.cluster_size());
    map.add(MetadataKind::L1, header.l1_offset, uint64_t{header.l1_size} * 8);
    if (!check.must_rebuild) {
        if (!map.add(MetadataKind::Reftable, header.reftable_offset,
                     uint64_t{header.reftable_clusters} << geometry.cluster_bits))
            check.corruption(" refcount table overlaps other metadata");
        for (uint64_t offset : check.counted_blocks)
            map.add(MetadataKind::Refblock, offset, geometry.cluster_size());  // that it does has been reported
    }
    for (uint64_t offset : check.tables)
        if (MetadataKind what; map.overlaps(offset, geometry.cluster_size(), what))
            check.corruption(" l2_offset={:x}: Table overlaps with {}", offset, metadata_name(what));
}

}  // namespace

void Check::error(int ret, std::string_view what) {
    say("ERROR: {}: {}", what, std::strerror(-ret));
    result.errors++;
}

void Check::count(uint64_t offset, uint64_t bytes, uint64_t times) {
    const Geometry& geometry = image.geometry();
    if (bytes == 0)
        return;
    uint64_t first = offset >> geometry.cluster_bits, end = 0;
    if (offset <= kMaxHostOffset)
        end = geometry.clusters(offset + bytes);
    if (end == 0 || end > clusters) {
        say("ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset 0x{:x} "
            "size 0x{:x}",
            offset, bytes);
        result.corruptions++;
        if (end != 0)
            dangling.push_back({first, end, times});
        return;
    }
    for (uint64_t at = first; at < end; at++) {
        uint64_t before = references.get(at);
        if (times > geometry.max_refcount() - before) {
            say("ERROR: overflow cluster offset=0x{:x}\nUse qemu-img amend to increase the refcount entry width or "
                "qemu-img convert to create a clean copy if the image cannot be opened for writing",
                at << geometry.cluster_bits);
            result.corruptions++;
            references.set(at, geometry.max_refcount());
            uint64_t& more = beyond[at];
            more += std::min(times - (geometry.max_refcount() - before), ~more);
        } else {
            references.set(at, before + times);
        }
    }
}

void Check::uncount(uint64_t cluster) {
    if (auto more = beyond.find(cluster); more != beyond.end()) {
        if (--more->second == 0)
            beyond.erase(more);
    } else if (uint64_t before = references.get(cluster)) {
        references.set(cluster, before - 1);
    }
}

Task<int> Check::co_read(uint64_t offset, std::span<std::byte> out) const {
    if (offset >= file_length)
        co_return -EIO;
    uint64_t there = std::min<uint64_t>(out.size(), file_length - offset);
    std::ranges::fill(out.subspan(there), std::byte{0});
    co_return co_await image.file.co_pread(static_cast<int64_t>(offset), static_cast<int64_t>(there), out.data());
}

Task<int> Check::co_write(uint64_t offset, std::span<const std::byte> data) const {
    co_return co_await image.file.co_pwrite(static_cast<int64_t>(offset), static_cast<int64_t>(data.size()),
                                            data.data());
}

Task<bool> Check::co_read_table(uint64_t offset, uint64_t entries, std::string_view what,
                                std::vector<uint64_t>& table) {
    table.clear();
    if (entries == 0)
        co_return true;
    Buffer bytes = Buffer::try_alloc(entries * 8);
    int ret = !bytes ? -ENOMEM : co_await co_read(offset, bytes.span());
    if (ret < 0) {
        error(ret, fmt::format("{} at {:#x} cannot be read", what, offset));
        incomplete = true;
        co_return false;
    }
    table.resize(entries);
    for (uint64_t i = 0; i < entries; i++)
        table[i] = load_be<uint64_t>(bytes.data() + i * 8);
    co_return true;
}

Task<int> co_count_references(Check& check) {
    check.count(0, check.image.geometry().cluster_size());
    if (int ret = co_await co_count_tables(check); ret < 0)
        co_return ret;
    if (int ret = co_await co_count_bitmaps(check); ret < 0)
        co_return ret;
    int64_t before = check.result.corruptions;
    size_t dangling = check.dangling.size();
    int ret = co_await co_count_refcount_structures(check);
    check.dangling.resize(dangling);  // the others are to be made anew
    check.structure_corruptions = check.result.corruptions - before;
    if (ret == 0)
        check_overlaps(check);
    co_return ret;
}

}  // namespace ashlar::qcow2
