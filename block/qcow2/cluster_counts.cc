#include "block/qcow2/cluster_counts.h"

#include <algorithm>
#include <bit>

namespace ashlar::qcow2 {

void ClusterCounts::widen(Page& page, unsigned order) {
    Page wider{order, std::make_unique<std::byte[]>((kPage << order) / 8)};
    for (uint64_t i = 0; page.bytes && i < kPage; i++)
        set_refcount(wider.bytes.get(), i, order, get_refcount(page.bytes.get(), i, page.order));
    page = std::move(wider);
}

void ClusterCounts::set(uint64_t cluster, uint64_t count) {
    Page* page = const_cast<Page*>(find(cluster / kPage));
    if (!page) {
        if (count == 0)
            return;
        page = &pages_[cluster / kPage];
    }
    unsigned order = std::max(3u, std::bit_width(static_cast<unsigned>(std::bit_width(count)) - (count != 0)));
    if (!page->bytes || order > page->order)
        widen(*page, std::max(order, page->order));
    set_refcount(page->bytes.get(), cluster % kPage, page->order, count);
}

std::vector<uint64_t> ClusterCounts::pages() const {
    std::vector<uint64_t> indices;
    indices.reserve(pages_.size());
    for (const auto& [index, page] : pages_)
        indices.push_back(index);
    std::ranges::sort(indices);
    return indices;
}

std::optional<uint64_t> ClusterCounts::first_above(uint64_t limit) const {
    for (uint64_t page : pages())
        for (uint64_t at = page * kPage; at < (page + 1) * kPage; at++)
            if (get(at) > limit)
                return at;
    return std::nullopt;
}

uint64_t ClusterCounts::end() const {
    auto indices = pages();
    for (; !indices.empty(); indices.pop_back())
        for (uint64_t i = kPage; i > 0; i--)
            if (get(indices.back() * kPage + i - 1) != 0)
                return indices.back() * kPage + i;
    return 0;
}

}  // namespace ashlar::qcow2
