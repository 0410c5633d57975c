#include "block/qcow2/check.h"
#include "util/buffer_pool.h"

#include <algorithm>
#include <cerrno>

namespace ashlar::qcow2 {

namespace {

// One pass over all counts that are not 0, or should not be.
struct Comparison {
    Check& check;
    const CheckFix fix;
    std::optional<uint64_t> highest = {};  // cluster in use

    void note_use(uint64_t cluster, uint64_t count) {
        if (count != 0)
            highest = std::max(highest.value_or(0), cluster);
    }

    // Of one cluster: true if the count in the file is to become that of the references.
    bool compare(uint64_t cluster, uint64_t counted, bool in_block) {
        uint64_t referred = check.references.get(cluster);
        if (counted == referred) {
            note_use(cluster, referred);
            return false;
        }
        bool leak = counted > referred;
        // What could not be followed may be what these are for.
        bool repair = in_block && (leak ? fix != CheckFix::None && !check.incomplete : fix == CheckFix::All);
        note_use(cluster, repair ? referred : std::max(counted, referred));
        check.say("{} cluster {} refcount={} reference={}",
                  repair ? "Repairing"
                  : leak ? "Leaked"
                         : "ERROR",
                  cluster, counted, referred);
        if (repair) {
            check.counted_wrongly.set(cluster, 0);
            (leak ? check.result.leaks : check.result.corruptions)--;
            (leak ? check.result.leaks_fixed : check.result.corruptions_fixed)++;
        } else if (fix == CheckFix::None) {
            (leak ? check.result.leaks : check.result.corruptions)++;
            check.counted_wrongly.set(cluster, std::min(counted, ~uint64_t{1}) + 1);
            // A cluster that might be given away at any moment, for all that the counts say.
            check.must_rebuild |= !leak && counted == 0;
        }
        return repair;
    }

    // Those of [first, end) that no block counts.
    void compare_uncounted(uint64_t first, uint64_t end) {
        for (uint64_t at = first; at < end; at++)
            compare(at, 0, false);
    }

    Task<int> co_compare_block(uint64_t offset, uint64_t first, uint64_t end, Buffer& block) {
        unsigned order = check.image.geometry().refcount_order;
        if (int ret = co_await check.co_read(offset, block.span()); ret < 0) {
            check.error(ret, fmt::format("the refcount block at {:#x} cannot be read", offset));
            co_return 0;
        }
        bool changed = false;
        for (uint64_t at = first; at < end; at++)
            if (compare(at, get_refcount(block.data(), at - first, order), true)) {
                set_refcount(block.data(), at - first, order, check.references.get(at));
                changed = true;
            }
        co_return changed ? co_await check.co_write(offset, block.span()) : 0;
    }
};

// The refcount blocks, by what they count, that there are or ought to be.
std::vector<uint64_t> blocks_to_compare(const Check& check) {
    unsigned bits = check.image.geometry().refblock_bits();
    std::vector<uint64_t> blocks;
    for (size_t i = 0; i < check.reftable.size() && i << bits < check.clusters; i++)
        if (check.reftable[i] != 0)
            blocks.push_back(i);
    for (uint64_t page : check.references.pages()) {
        uint64_t first = page * ClusterCounts::kPage, last = first + ClusterCounts::kPage - 1;
        for (uint64_t block = first >> bits; block <= last >> bits; block++)
            blocks.push_back(block);
    }
    std::ranges::sort(blocks);
    auto rest = std::ranges::unique(blocks);
    blocks.erase(rest.begin(), rest.end());
    return blocks;
}

}  // namespace

Task<int> co_compare_refcounts(Check& check, CheckFix fix) {
    const Geometry& geometry = check.image.geometry();
    Comparison comparison{check, fix};
    Buffer buffer = Buffer::try_alloc(geometry.cluster_size());
    if (!buffer)
        co_return -ENOMEM;
    for (uint64_t block : blocks_to_compare(check)) {
        uint64_t first = block << geometry.refblock_bits();
        uint64_t end = std::min(first + geometry.refblock_entries(), check.clusters);
        uint64_t offset = block < check.reftable.size() ? check.reftable[block] : 0;
        if (offset == 0)
            comparison.compare_uncounted(first, end);
        else if (int ret = co_await comparison.co_compare_block(offset, first, end, buffer); ret < 0)
            co_return ret;
    }
    check.result.image_end_offset =
        static_cast<int64_t>((comparison.highest ? *comparison.highest + 1 : 0) << geometry.cluster_bits);
    co_return 0;
}

}  // namespace ashlar::qcow2
