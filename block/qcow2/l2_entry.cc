#include "block/qcow2/l2_entry.h"

#include "util/byte_order.h"

#include <algorithm>

namespace ashlar::qcow2 {

L2Entry load_l2_entry(const std::byte* at, const Geometry& geometry) {
    L2Entry entry{load_be<uint64_t>(at)};
    if (geometry.extended_l2)
        entry.bitmap = load_be<uint64_t>(at + 8);
    return entry;
}

void store_l2_entry(std::byte* at, const Geometry& geometry, const L2Entry& entry) {
    store_be<uint64_t>(at, entry.descriptor);
    if (geometry.extended_l2)
        store_be<uint64_t>(at + 8, entry.bitmap);
}

Kind subcluster_kind(const L2Entry& entry, unsigned subcluster, const L2Format& format) {
    if (entry.descriptor & kCompressed)
        return format.data_file ? Kind::Invalid : Kind::Compressed;
    uint64_t host = entry.host_offset();
    if (format.geometry.in_cluster(host) != 0)
        return Kind::Invalid;
    // Only in a data file can a cluster be at offset 0, where the header is otherwise.
    bool has_host = host != 0 || (format.data_file && entry.copied());
    if (format.geometry.extended_l2) {
        bool allocated = entry.bitmap >> subcluster & 1;
        bool zero = entry.bitmap >> (kSubclusters + subcluster) & 1;
        if ((entry.descriptor & kZero) || (allocated && (zero || !has_host)))
            return Kind::Invalid;
        if (zero)
            return has_host ? Kind::ZeroAlloc : Kind::ZeroPlain;
        if (allocated)
            return Kind::Normal;
        return has_host ? Kind::UnallocatedAlloc : Kind::Unallocated;
    }
    if (entry.descriptor & kZero) {
        if (format.version < 3)
            return Kind::Invalid;
        return has_host ? Kind::ZeroAlloc : Kind::ZeroPlain;
    }
    return has_host ? Kind::Normal : Kind::Unallocated;
}

CompressedExtent compressed_extent(const L2Entry& entry, const Geometry& geometry) {
    unsigned shift = geometry.compressed_shift();
    uint64_t offset = entry.descriptor & ((uint64_t{1} << shift) - 1) & kMaxCompressedOffset;
    uint64_t sectors = (entry.descriptor & (kCompressed - 1)) >> shift;
    return {offset, (sectors + 1) * kSectorSize - offset % kSectorSize};
}

uint64_t compressed_descriptor(uint64_t offset, uint64_t bytes, const Geometry& geometry) {
    uint64_t sectors = (offset + bytes - 1) / kSectorSize - offset / kSectorSize;
    return kCompressed | sectors << geometry.compressed_shift() | offset;
}

Run decode_run(std::span<const std::byte> entries, uint64_t guest, uint64_t bytes, const L2Format& format,
               RunFor what) {
    const Geometry& geometry = format.geometry;
    size_t entry_bytes = geometry.l2_entry_bytes();
    Run run;
    run.entry = load_l2_entry(entries.data(), geometry);
    unsigned subcluster = geometry.subcluster_index(guest);
    run.kind = subcluster_kind(run.entry, subcluster, format);
    uint64_t within = geometry.in_cluster(guest);
    if (has_host_cluster(run.kind))
        run.host = run.entry.host_offset() + within;
    if (run.kind == Kind::Compressed || run.kind == Kind::Invalid) {
        run.bytes = std::min(bytes, geometry.cluster_size() - within);
        return run;
    }
    L2Entry entry = run.entry;
    uint64_t length = geometry.subcluster_size() - (guest & (geometry.subcluster_size() - 1));
    for (;;) {
        if (length >= bytes)
            break;
        if (++subcluster == geometry.subclusters()) {
            subcluster = 0;
            entries = entries.subspan(entry_bytes);
            if (entries.size() < entry_bytes)
                break;
            entry = load_l2_entry(entries.data(), geometry);
            if (has_host_cluster(run.kind) && entry.host_offset() != run.host + length)
                break;
            if (what == RunFor::Writing && entry.copied() != run.entry.copied())
                break;
        }
        if (subcluster_kind(entry, subcluster, format) != run.kind)
            break;
        length += geometry.subcluster_size();
    }
    run.bytes = std::min(length, bytes);
    return run;
}

}  // namespace ashlar::qcow2
