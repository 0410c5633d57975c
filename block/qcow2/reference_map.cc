#include "block/qcow2/reference_map.h"

#include <algorithm>

namespace ashlar::qcow2 {

ReferenceMap::ReferenceMap(const Geometry& geometry, uint64_t file_length)
    : geometry_(geometry),
      clusters_(std::min(geometry.clusters(file_length), kMaxClusters)),
      pages_((clusters_ + kPage - 1) / kPage) {}

bool ReferenceMap::change(uint64_t offset, uint64_t bytes, int delta) {
    if (bytes == 0)
        return true;
    uint64_t first = offset >> geometry_.cluster_bits, end = geometry_.clusters(offset + bytes);
    for (uint64_t at = first; at < std::min(end, clusters_); at++) {
        auto& page = pages_[at / kPage];
        if (!page)
            page = std::make_unique<Page>();
        (*page)[at % kPage] += static_cast<uint32_t>(delta);
    }
    return end <= clusters_;
}

uint64_t ReferenceMap::skip_unused(uint64_t cluster) const {
    while (cluster < clusters_ && !pages_[cluster / kPage])
        cluster = (cluster / kPage + 1) * kPage;
    return std::min(cluster, clusters_);
}

uint64_t ReferenceMap::largest() const {
    uint64_t most = 0;
    for (const auto& page : pages_)
        if (page)
            most = std::max<uint64_t>(most, *std::ranges::max_element(*page));
    return most;
}

}  // namespace ashlar::qcow2
