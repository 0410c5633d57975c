// MetadataMap: which clusters of the image file hold metadata, so that nothing else is ever written over them, whatever
// a damaged or hostile image says. Any thread.
//
// What it knows, and looks for, is what QEMU's option overlap-check names; without the L2 tables of snapshots unless
// these are asked for.
#pragma once

#include "block/qcow2/format.h"

#include <cstdint>
#include <mutex>
#include <string_view>
#include <unordered_map>

namespace ashlar::qcow2 {

enum class MetadataKind : uint8_t {
    Header,
    L1,
    L2,
    Reftable,
    Refblock,
    Snapshots,
    BitmapDirectory,
    InactiveL1,
    InactiveL2
};
using MetadataKinds = uint32_t;  // a bit for each
constexpr MetadataKinds metadata_bit(MetadataKind kind) {
    return 1u << static_cast<unsigned>(kind);
}
constexpr MetadataKinds kAllMetadata = (metadata_bit(MetadataKind::InactiveL2) << 1) - 1;
std::string_view metadata_name(MetadataKind kind);  // "active L2 table"

class MetadataMap {
public:
    explicit MetadataMap(const Geometry& geometry) : geometry_(geometry) {}

    // Which kinds overlaps() looks for (the option overlap-check). When nobody else is using it.
    void set_checks(MetadataKinds kinds) { checks_ = kinds; }
    bool checks(MetadataKind kind) const { return checks_ & metadata_bit(kind); }

    // False if a cluster of the byte range is something already.
    bool add(MetadataKind kind, uint64_t offset, uint64_t bytes);
    void remove(uint64_t offset, uint64_t bytes);
    void clear();
    // What a write to the byte range would destroy, if anything.
    bool overlaps(uint64_t offset, uint64_t bytes, MetadataKind& what) const;

private:
    const Geometry geometry_;
    MetadataKinds checks_ = kAllMetadata & ~metadata_bit(MetadataKind::InactiveL2);
    mutable std::mutex lock_;
    std::unordered_map<uint64_t, MetadataKind> clusters_;  // by index
};

}  // namespace ashlar::qcow2
