// ReferenceMap: how often each cluster of the image file is referred to, as a check counts it. Clusters behind the end
// of the file have no counter. Memory is taken for the parts of the file that are referred to.
#pragma once

#include "block/qcow2/format.h"

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace ashlar::qcow2 {

class ReferenceMap {
public:
    // More clusters than that are not counted: -EFBIG is for the caller to say.
    static constexpr uint64_t kMaxClusters = uint64_t{1} << 31;

    ReferenceMap(const Geometry& geometry, uint64_t file_length);

    uint64_t clusters() const { return clusters_; }  // of the file
    // One more reference to each cluster that the byte range touches. False: some are behind the end.
    bool add(uint64_t offset, uint64_t bytes) { return change(offset, bytes, 1); }
    void remove(uint64_t offset, uint64_t bytes) { change(offset, bytes, -1); }
    uint64_t get(uint64_t cluster) const {
        const Page* page = cluster < clusters_ ? pages_[cluster / kPage].get() : nullptr;
        return page ? (*page)[cluster % kPage] : 0;
    }
    // The first cluster from `cluster` on that may have references; clusters() if there is none.
    uint64_t skip_unused(uint64_t cluster) const;
    uint64_t largest() const;  // count

private:
    static constexpr uint64_t kPage = 1024;
    using Page = std::array<uint32_t, kPage>;

    bool change(uint64_t offset, uint64_t bytes, int delta);

    const Geometry geometry_;
    const uint64_t clusters_;
    std::vector<std::unique_ptr<Page>> pages_;
};

}  // namespace ashlar::qcow2
