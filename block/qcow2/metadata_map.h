// MetadataMap: which clusters of the image file hold metadata, so that nothing else is ever written over them, whatever
// a damaged or hostile image says. Any thread.
//
// It knows the header, the active L1 table with its L2 tables, and the refcount table with its blocks: what QEMU's
// overlap-check=cached looks at.
#pragma once

#include "block/qcow2/format.h"

#include <cstdint>
#include <mutex>
#include <string_view>
#include <unordered_map>

namespace ashlar::qcow2 {

enum class MetadataKind : uint8_t { Header, L1, L2, Reftable, Refblock, Snapshots };
std::string_view metadata_name(MetadataKind kind);  // "active L2 table"

class MetadataMap {
public:
    explicit MetadataMap(const Geometry& geometry) : geometry_(geometry) {}

    // False if a cluster of the byte range is something already.
    bool add(MetadataKind kind, uint64_t offset, uint64_t bytes);
    void remove(uint64_t offset, uint64_t bytes);
    void clear();
    // What a write to the byte range would destroy, if anything.
    bool overlaps(uint64_t offset, uint64_t bytes, MetadataKind& what) const;

private:
    const Geometry geometry_;
    mutable std::mutex lock_;
    std::unordered_map<uint64_t, MetadataKind> clusters_;  // by index
};

}  // namespace ashlar::qcow2
