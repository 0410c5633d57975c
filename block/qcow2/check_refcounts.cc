#include "block/qcow2/check.h"
#include "block/qcow2/refcount_entry.h"
#include "util/buffer_pool.h"

#include <algorithm>
#include <cerrno>

namespace ashlar::qcow2 {

namespace {

// One pass over all counts.
struct Comparison {
    Check& check;
    const CheckFix fix;
    uint64_t highest = 0;  // cluster in use

    // Of one cluster: true if the count in the file is to become that of the references.
    bool compare(uint64_t cluster, uint64_t counted, bool in_block) {
        uint64_t referred = check.references.get(cluster);
        if (counted != 0 || referred != 0)
            highest = std::max(highest, cluster);
        if (counted == referred)
            return false;
        bool leak = counted > referred;
        bool repair = in_block && referred <= check.image.geometry().max_refcount() &&
                      (leak ? fix != CheckFix::None && !check.incomplete : fix == CheckFix::All);
        check.say("{} cluster {} refcount={} reference={}",
                  repair ? "Repairing"
                  : leak ? "Leaked"
                         : "ERROR",
                  cluster, counted, referred);
        if (repair) {
            check.counted_wrongly.erase(cluster);
            (leak ? check.result.leaks : check.result.corruptions)--;
            (leak ? check.result.leaks_fixed : check.result.corruptions_fixed)++;
        } else if (fix == CheckFix::None) {
            (leak ? check.result.leaks : check.result.corruptions)++;
            if (referred != 0)
                check.counted_wrongly[cluster] = counted;
            check.must_rebuild |= !in_block;
        }
        return repair;
    }

    // Those that no block counts.
    void compare_uncounted(uint64_t first, uint64_t end) {
        for (uint64_t at = check.references.skip_unused(first); at < end; at = check.references.skip_unused(at + 1))
            compare(at, 0, false);
    }

    Task<int> co_compare_block(uint64_t offset, uint64_t first, uint64_t end, Buffer& block) {
        BdrvChild& file = check.image.file;
        unsigned order = check.image.geometry().refcount_order;
        int ret =
            co_await file.co_pread(static_cast<int64_t>(offset), static_cast<int64_t>(block.size()), block.data());
        if (ret < 0) {
            check.error(ret, "a refcount block cannot be read");
            co_return 0;
        }
        bool changed = false;
        for (uint64_t at = first; at < end; at++)
            if (compare(at, get_refcount(block.data(), at - first, order), true)) {
                set_refcount(block.data(), at - first, order, check.references.get(at));
                changed = true;
            }
        if (changed)
            co_return co_await file.co_pwrite(static_cast<int64_t>(offset), static_cast<int64_t>(block.size()),
                                              block.data());
        co_return 0;
    }
};

}  // namespace

Task<int> co_compare_refcounts(Check& check, CheckFix fix) {
    const Geometry& geometry = check.image.geometry();
    Comparison comparison{check, fix};
    Buffer block = Buffer::try_alloc(geometry.cluster_size());
    if (!block)
        co_return -ENOMEM;
    uint64_t end = check.references.clusters();
    uint64_t counted_end = uint64_t{check.reftable.size()} << geometry.refblock_bits();
    for (uint64_t i = 0; i < check.reftable.size() && i << geometry.refblock_bits() < end; i++) {
        uint64_t first = i << geometry.refblock_bits();
        uint64_t behind = std::min(first + geometry.refblock_entries(), end);
        if (check.reftable[i] == 0)
            comparison.compare_uncounted(first, behind);
        else if (int ret = co_await comparison.co_compare_block(check.reftable[i], first, behind, block); ret < 0)
            co_return ret;
    }
    comparison.compare_uncounted(counted_end, end);
    check.result.image_end_offset = static_cast<int64_t>((comparison.highest + 1) << geometry.cluster_bits);
    co_return 0;
}

}  // namespace ashlar::qcow2
