// What an L2 entry says: pure functions from its 8 or 16 bytes to the kind of each subcluster, and to runs of guest
// data that lie together in the file. An image without extended L2 entries has one subcluster a cluster.
//
// Entries are hostile input: what contradicts the specification is Kind::Invalid.
#pragma once

#include "block/qcow2/format.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace ashlar::qcow2 {

enum class Kind : uint8_t {
    Unallocated,       // the backing file's
    UnallocatedAlloc,  // the same, but there is room for it in the file
    ZeroPlain,
    ZeroAlloc,
    Normal,
    Compressed,
    Invalid,
};
constexpr bool is_zero(Kind kind) {
    return kind == Kind::ZeroPlain || kind == Kind::ZeroAlloc;
}
constexpr bool is_unallocated(Kind kind) {
    return kind == Kind::Unallocated || kind == Kind::UnallocatedAlloc;
}
constexpr bool has_host_cluster(Kind kind) {
    return kind == Kind::Normal || kind == Kind::ZeroAlloc || kind == Kind::UnallocatedAlloc;
}

struct L2Entry {
    uint64_t descriptor = 0;
    uint64_t bitmap = 0;  // of subclusters: allocated in the lower half, zero in the upper one

    uint64_t host_offset() const { return descriptor & kOffsetMask; }
    bool copied() const { return descriptor & kCopied; }
    bool operator==(const L2Entry&) const = default;
};

// What decoding depends on.
struct L2Format {
    Geometry geometry;
    unsigned version = 3;
    bool data_file = false;
};

L2Entry load_l2_entry(const std::byte* at, const Geometry& geometry);
void store_l2_entry(std::byte* at, const Geometry& geometry, const L2Entry& entry);

Kind subcluster_kind(const L2Entry& entry, unsigned subcluster, const L2Format& format);

// Where compressed data are: from `offset` on, in at most `bytes`.
struct CompressedExtent {
    uint64_t offset;
    uint64_t bytes;
};
CompressedExtent compressed_extent(const L2Entry& entry, const Geometry& geometry);
// The descriptor, without kCopied, for data at `offset`, `bytes` long.
uint64_t compressed_descriptor(uint64_t offset, uint64_t bytes, const Geometry& geometry);

// Guest bytes of one kind. `host` is where the first one is, for Normal, ZeroAlloc and UnallocatedAlloc, and then all
// of them are in one piece; for Compressed it is the run of one cluster, and `entry` is its entry.
struct Run {
    Kind kind = Kind::Unallocated;
    uint64_t bytes = 0;
    uint64_t host = 0;
    L2Entry entry = {};  // the first one's
};

enum class RunFor : uint8_t { Reading, Writing };

// The run that begins at guest offset `guest`, whose entry is the first in `entries`; up to `bytes` long, and to the
// last entry. For writing it ends where entry.copied() changes.
Run decode_run(std::span<const std::byte> entries, uint64_t guest, uint64_t bytes, const L2Format& format,
               RunFor what = RunFor::Reading);

}  // namespace ashlar::qcow2
