// The qcow2 format's numbers: bits, limits, and the Geometry that follows from a header. Values only; the names are
// those of the specification (docs/interop/qcow2.md says where to find it).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace ashlar::qcow2 {

constexpr uint32_t kMagic = 0x514649fb;  // "QFI\xfb"
constexpr unsigned kMinClusterBits = 9;
constexpr unsigned kMaxClusterBits = 21;
constexpr unsigned kMinExtendedL2ClusterBits = 14;

// QEMU's limits: what is larger is refused before anything is allocated for it.
constexpr uint64_t kMaxL1Bytes = 32 << 20;
constexpr uint64_t kMaxReftableBytes = 8 << 20;
constexpr uint32_t kMaxSnapshots = 65536;
constexpr uint32_t kMaxBitmaps = 65535;
constexpr uint32_t kMaxBackingName = 1023;
constexpr uint32_t kMaxBackingFormat = 15;
constexpr uint32_t kMaxDataFileName = 1023;

enum Incompatible : uint64_t {
    kDirty = 1 << 0,
    kCorrupt = 1 << 1,
    kDataFile = 1 << 2,
    kCompressionType = 1 << 3,
    kExtendedL2 = 1 << 4,
    kKnownIncompatible = (1 << 5) - 1,
};
enum Compatible : uint64_t { kLazyRefcounts = 1 << 0 };
enum Autoclear : uint64_t { kBitmaps = 1 << 0, kDataFileRaw = 1 << 1 };

enum class Compression : uint8_t { Zlib = 0, Zstd = 1 };

// Bits of L1, L2 and refcount table entries.
constexpr uint64_t kOffsetMask = 0x00ff'ffff'ffff'fe00;  // bits 9 to 55
constexpr uint64_t kReftableOffsetMask = 0xffff'ffff'ffff'fe00;
constexpr uint64_t kCopied = uint64_t{1} << 63;      // the refcount is exactly one
constexpr uint64_t kCompressed = uint64_t{1} << 62;  // an L2 entry's
constexpr uint64_t kZero = 1;                        // a standard L2 entry's
constexpr uint64_t kL1Reserved = ~(kOffsetMask | kCopied);
constexpr uint64_t kL2StandardReserved = ~(kOffsetMask | kCopied | kCompressed | kZero);
constexpr uint64_t kMaxHostOffset = kOffsetMask;
constexpr uint64_t kMaxCompressedOffset = 0x00ff'ffff'ffff'ffff;

constexpr unsigned kSubclusters = 32;  // of a cluster with an extended L2 entry
constexpr uint64_t kSectorSize = 512;  // what the size of compressed data counts in

// Everything that follows from cluster_bits, refcount_order and the features.
struct Geometry {
    unsigned cluster_bits = 16;
    unsigned refcount_order = 4;
    bool extended_l2 = false;

    uint64_t cluster_size() const { return uint64_t{1} << cluster_bits; }
    uint64_t in_cluster(uint64_t offset) const { return offset & (cluster_size() - 1); }
    uint64_t cluster_start(uint64_t offset) const { return offset & ~(cluster_size() - 1); }
    uint64_t cluster_end(uint64_t offset) const { return cluster_start(offset + cluster_size() - 1); }  // rounds up
    uint64_t clusters(uint64_t bytes) const { return (bytes >> cluster_bits) + (in_cluster(bytes) != 0); }

    unsigned l2_entry_bytes() const { return extended_l2 ? 16 : 8; }
    unsigned l2_bits() const { return cluster_bits - (extended_l2 ? 4 : 3); }  // of the number of entries
    uint64_t l2_entries() const { return uint64_t{1} << l2_bits(); }
    uint64_t l1_index(uint64_t guest) const { return guest >> (cluster_bits + l2_bits()); }
    uint64_t l2_index(uint64_t guest) const { return (guest >> cluster_bits) & (l2_entries() - 1); }
    uint64_t l1_entries_for(uint64_t bytes) const {  // bytes below 2^63
        uint64_t per_entry = uint64_t{1} << (cluster_bits + l2_bits());
        return (bytes + per_entry - 1) >> (cluster_bits + l2_bits());
    }

    unsigned subclusters() const { return extended_l2 ? kSubclusters : 1; }
    unsigned subcluster_bits() const { return extended_l2 ? cluster_bits - 5 : cluster_bits; }
    uint64_t subcluster_size() const { return uint64_t{1} << subcluster_bits(); }
    unsigned subcluster_index(uint64_t guest) const {
        return static_cast<unsigned>(in_cluster(guest) >> subcluster_bits());
    }

    unsigned refcount_bits() const { return 1u << refcount_order; }
    unsigned refblock_bits() const { return cluster_bits + 3 - refcount_order; }  // of the entries of a refcount block
    uint64_t refblock_entries() const { return uint64_t{1} << refblock_bits(); }
    uint64_t max_refcount() const { return refcount_order == 6 ? ~uint64_t{0} : (uint64_t{1} << refcount_bits()) - 1; }

    // Of a compressed cluster's descriptor: where the sector count begins.
    unsigned compressed_shift() const { return 62 - (cluster_bits - 8); }
};

}  // namespace ashlar::qcow2
