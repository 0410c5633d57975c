#include "block/qcow2/check.h"

#include "block/qcow2/snapshots.h"
#include "block/qcow2/write_state.h"

#include <algorithm>
#include <cerrno>

namespace ashlar::qcow2 {

namespace {

// What could not be followed may be what clusters that are counted too often are for.
void keep_all_that_is_counted(Check& check) {
    for (uint64_t page : check.counted_wrongly.pages())
        for (uint64_t at = page * ClusterCounts::kPage; at < (page + 1) * ClusterCounts::kPage; at++) {
            uint64_t counted = check.counted_wrongly.get(at);
            if (counted > 1 && counted - 1 > check.references.get(at))
                check.references.set(at, counted - 1);
        }
}

// Where the new structures begin. The file grows by them: what refers to clusters behind its end must not refer to
// these, and is counted if it refers to what comes before them.
Result<uint64_t> find_place(Check& check, uint64_t first) {
    const Geometry& geometry = check.image.geometry();
    std::ranges::sort(check.dangling, {}, &Check::Dangling::first);
    for (auto next = check.dangling.begin();;) {
        first = std::max(first, check.references.end());
        auto end = end_of_rebuilt(check.references, geometry, first);
        if (!end || next == check.dangling.end() || next->first >= *end)
            return end ? Result<uint64_t>(first) : end;
        for (; next != check.dangling.end() && next->first < *end; ++next) {
            for (uint64_t at = next->first; at < next->end; at++)
                check.references.set(at, std::min(check.references.get(at) + next->times, geometry.max_refcount()));
            check.result.corruptions--;
            check.result.corruptions_fixed++;
        }
    }
}

// The counts are all wrong, or there is no place for the right ones: new blocks for all of them.
Task<Result<void>> co_rebuild(Check& check, int64_t wrong_counts) {
    Image& image = check.image;
    const Geometry& geometry = image.geometry();
    check.report("Rebuilding refcount structure");
    if (check.incomplete)
        keep_all_that_is_counted(check);
    const uint64_t end = check.references.end();  // the old structures stay as they are
    forget_refcount_structures(check);
    auto first = find_place(check, end);
    if (!first)
        co_return std::unexpected(std::move(first.error()));
    if (auto rebuilt = co_await co_rebuild_refcounts(image, check.references, *first, image.header); !rebuilt)
        co_return rebuilt;
    ImageCheck& result = check.result;
    check.counted_wrongly = {};
    result.corruptions -= wrong_counts;
    result.corruptions_fixed += wrong_counts;
    if (!check.incomplete)
        result.leaks_fixed += std::exchange(result.leaks, 0);
    result.image_end_offset = static_cast<int64_t>(image.header.reftable_offset +
                                                   (uint64_t{image.header.reftable_clusters} << geometry.cluster_bits));
    co_return {};
}

// The header does not count on entries that there are not.
Task<int> co_cut_snapshot_table(Check& check) {
    const auto kept = static_cast<uint32_t>(check.new_snapshots->snapshots.size());
    if (kept == check.image.header.snapshots)
        co_return 0;
    Header header = check.image.header;
    header.snapshots = kept;
    if (kept == 0) {
        header.snapshots_offset = 0;
        check.new_snapshots.reset();
    }
    co_return co_await check.image.co_write_header(std::move(header));
}

Task<Result<void>> co_check_all(Check& check) {
    auto failed = [](int ret) { return fail_errno(-ret, "Check failed"); };
    if (int ret = co_await co_count_references(check); ret < 0)
        co_return failed(ret);
    if (check.new_snapshots)
        if (int ret = co_await co_cut_snapshot_table(check); ret < 0)
            co_return failed(ret);
    int64_t before = check.result.corruptions;
    if (int ret = co_await co_compare_refcounts(check, CheckFix::None); ret < 0)
        co_return failed(ret);
    if (check.fix != CheckFix::None) {
        // Nothing on the disk refers any more to what entries have been relieved of.
        if (int ret = co_await check.image.file.co_flush(); ret < 0)
            co_return failed(ret);
        if (check.must_rebuild && check.fix == CheckFix::Leaks) {
            check.report("ERROR need to rebuild refcount structures");
            co_return failed(-EIO);
        }
        if (check.must_rebuild) {
            if (auto rebuilt =
                    co_await co_rebuild(check, check.structure_corruptions + check.result.corruptions - before);
                !rebuilt)
                co_return rebuilt;
        } else if (check.result.corruptions > before || check.result.leaks > 0) {
            if (int ret = co_await co_compare_refcounts(check, check.fix); ret < 0)
                co_return failed(ret);
            // A flag says that a count is one when it is.
            if (int ret = co_await check.image.file.co_flush(); ret < 0)
                co_return failed(ret);
        }
    }
    if (int ret = co_await co_check_copied(check); ret < 0)
        co_return failed(ret);
    co_return {};
}

// Nothing is wrong any more, and the header need not say so.
Task<Result<void>> co_declare_healthy(Image& image) {
    if (int ret = co_await image.file.co_flush(); ret < 0)
        co_return fail_errno(-ret, "Check failed");
    if (!(image.header.incompatible & (kDirty | kCorrupt)))
        co_return {};
    Header header = image.header;
    header.incompatible &= ~uint64_t{kDirty | kCorrupt};
    if (int ret = co_await image.co_write_header(std::move(header)); ret < 0)
        co_return fail_errno(-ret, "Check failed");
    co_return {};
}

Task<Result<void>> co_store_new_snapshots(Image& image, Check& check) {
    image.snapshot_table_bytes = check.new_snapshots->old_bytes;
    if (auto stored = co_await co_store_snapshots(image, std::move(check.new_snapshots->snapshots)); !stored)
        co_return stored;
    uint64_t end = 0;
    int ret = co_await image.writing->co_settle();
    if (ret == 0)
        ret = co_await image.writing->refcounts.co_find_end(end);
    if (ret < 0)
        co_return fail_errno(-ret, "could not write the snapshot table");
    check.result.image_end_offset = static_cast<int64_t>(end);
    co_return {};
}

}  // namespace

void forget_refcount_structures(Check& check) {
    const Image& image = check.image;
    const Geometry& geometry = image.geometry();
    // What Check::count() has counted for them.
    uint64_t table = image.header.reftable_offset;
    uint64_t table_bytes = uint64_t{image.header.reftable_clusters} << geometry.cluster_bits;
    uint64_t end = table_bytes != 0 && table <= kMaxHostOffset ? geometry.clusters(table + table_bytes) : 0;
    if (end <= check.clusters)
        for (uint64_t at = table >> geometry.cluster_bits; at < end; at++)
            check.uncount(at);
    for (uint64_t offset : check.counted_blocks)
        check.uncount(offset >> geometry.cluster_bits);
}

Task<Result<ImageCheck>> co_check(Image& image, CheckFix fix, CheckReporter report) {
    if (fix != CheckFix::None && !image.writing)
        co_return fail_errno(EACCES, "{}: the image is open read-only and cannot be repaired", image.name);
    if (image.writing && !image.is_corrupt())
        if (int ret = co_await image.writing->co_settle(); ret < 0)
            co_return fail_errno(-ret, "{}: could not write what has been changed", image.name);
    int64_t length = image.file.length();
    if (length < 0)
        co_return fail_errno(static_cast<int>(-length), "Could not get image size");

    Check check(image, fix, report, static_cast<uint64_t>(length));
    auto checked = co_await co_check_all(check);
    bool healthy = checked && check.result.corruptions == 0 && check.result.errors == 0;
    if (fix != CheckFix::None) {
        if (healthy)
            checked = co_await co_declare_healthy(image);
        if (auto reloaded = co_await image.writing->co_reload(); !reloaded && healthy && checked)
            checked = std::unexpected(std::move(reloaded.error()));
        if (check.new_snapshots && healthy && checked) {
            checked = co_await co_store_new_snapshots(image, check);
        } else if (check.new_snapshots) {
            check.result.corruptions += check.new_snapshots->repairs;
            check.result.corruptions_fixed -= check.new_snapshots->repairs;
        }
    }
    if (!checked)
        co_return std::unexpected(std::move(checked.error()));
    check.statistics.total = static_cast<int64_t>(image.geometry().clusters(image.header.size));
    check.result.clusters = check.statistics;
    co_return check.result;
}

}  // namespace ashlar::qcow2
