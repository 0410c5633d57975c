// ClusterCounts: a number for each cluster of the image file, as a check counts references. Memory is taken for the
// parts of the file whose numbers are not 0, and as many bytes a number as the largest of its part needs.
#pragma once

#include "block/qcow2/refcount_entry.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

namespace ashlar::qcow2 {

class ClusterCounts {
public:
    static constexpr uint64_t kPage = 1024;  // clusters

    uint64_t get(uint64_t cluster) const {
        const Page* page = find(cluster / kPage);
        return page ? get_refcount(page->bytes.get(), cluster % kPage, page->order) : 0;
    }
    void set(uint64_t cluster, uint64_t count);
    // The pages that there are, in order: clusters [page * kPage, (page + 1) * kPage).
    std::vector<uint64_t> pages() const;
    uint64_t end() const;                                       // behind the last cluster whose number is not 0
    std::optional<uint64_t> first_above(uint64_t limit) const;  // the first cluster whose number is larger

private:
    struct Page {
        unsigned order = 3;  // of the width of a number, in bits
        std::unique_ptr<std::byte[]> bytes;
    };
    static void widen(Page& page, unsigned order);
    const Page* find(uint64_t index) const {
        if (index != last_index_ || !last_) {
            auto found = pages_.find(index);
            if (found == pages_.end())
                return nullptr;
            last_ = &found->second;
            last_index_ = index;
        }
        return last_;
    }

    std::unordered_map<uint64_t, Page> pages_;
    mutable const Page* last_ = nullptr;  // the one looked at last
    mutable uint64_t last_index_ = 0;
};

}  // namespace ashlar::qcow2
