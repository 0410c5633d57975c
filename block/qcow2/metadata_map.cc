#include "block/qcow2/metadata_map.h"

namespace ashlar::qcow2 {

std::string_view metadata_name(MetadataKind kind) {
    switch (kind) {
        case MetadataKind::Header:
            return "qcow2_header";
        case MetadataKind::L1:
            return "active L1 table";
        case MetadataKind::L2:
            return "active L2 table";
        case MetadataKind::Reftable:
            return "refcount table";
        case MetadataKind::Refblock:
            return "refcount block";
        case MetadataKind::Snapshots:
            return "snapshot table";
        case MetadataKind::BitmapDirectory:
            return "bitmap directory";
        case MetadataKind::InactiveL1:
            return "inactive L1 table";
        case MetadataKind::InactiveL2:
            return "inactive L2 table";
    }
    return "?";
}

bool MetadataMap::add(MetadataKind kind, uint64_t offset, uint64_t bytes) {
    std::lock_guard guard(lock_);
    bool free = true;
    for (uint64_t at = offset >> geometry_.cluster_bits; at < geometry_.clusters(offset + bytes); at++)
        free &= clusters_.try_emplace(at, kind).second;
    return free;
}

void MetadataMap::remove(uint64_t offset, uint64_t bytes) {
    std::lock_guard guard(lock_);
    for (uint64_t at = offset >> geometry_.cluster_bits; at < geometry_.clusters(offset + bytes); at++)
        clusters_.erase(at);
}

void MetadataMap::clear() {
    std::lock_guard guard(lock_);
    clusters_.clear();
}

bool MetadataMap::overlaps(uint64_t offset, uint64_t bytes, MetadataKind& what) const {
    std::lock_guard guard(lock_);
    for (uint64_t at = offset >> geometry_.cluster_bits; at < geometry_.clusters(offset + bytes); at++)
        if (auto found = clusters_.find(at); found != clusters_.end() && checks(found->second)) {
            what = found->second;
            return true;
        }
    return false;
}

}  // namespace ashlar::qcow2
