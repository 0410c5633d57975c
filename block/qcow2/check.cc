#include "block/qcow2/check.h"

#include "block/qcow2/write_state.h"

#include <cerrno>

namespace ashlar::qcow2 {

namespace {

// The counts are all wrong, or there is no place for the right ones: new blocks for all of them.
Task<Result<void>> co_rebuild(Check& check) {
    Image& image = check.image;
    const Geometry& geometry = image.geometry();
    check.report("Rebuilding refcount structure");
    check.references.remove(image.header.reftable_offset,
                            uint64_t{image.header.reftable_clusters} << geometry.cluster_bits);
    for (uint64_t offset : check.refcount_blocks)
        check.references.remove(offset, geometry.cluster_size());
    auto rebuilt = co_await co_rebuild_refcounts(image, check.references, geometry.refcount_order, 0);
    if (!rebuilt)
        co_return rebuilt;
    ImageCheck& result = check.result;
    int64_t wrong = static_cast<int64_t>(check.counted_wrongly.size());
    check.counted_wrongly.clear();
    result.corruptions -= std::min(wrong, result.corruptions);
    result.corruptions_fixed += wrong;
    if (!check.incomplete)
        result.leaks_fixed += std::exchange(result.leaks, 0);
    int64_t length = image.file.length();
    if (length > 0)
        result.image_end_offset = static_cast<int64_t>(geometry.cluster_end(static_cast<uint64_t>(length)));
    co_return {};
}

Task<Result<void>> co_check_all(Check& check) {
    if (auto counted = co_await co_count_references(check); !counted)
        co_return counted;
    if (int ret = co_await co_compare_refcounts(check, CheckFix::None); ret < 0)
        co_return fail_errno(-ret, "Check failed");
    if (check.fix == CheckFix::All && check.must_rebuild && !check.incomplete) {
        if (auto rebuilt = co_await co_rebuild(check); !rebuilt)
            co_return rebuilt;
    } else if (check.fix != CheckFix::None && (check.result.corruptions > 0 || check.result.leaks > 0)) {
        if (int ret = co_await co_compare_refcounts(check, check.fix); ret < 0)
            co_return fail_errno(-ret, "Check failed");
    }
    if (int ret = co_await co_check_copied(check); ret < 0)
        co_return fail_errno(-ret, "Check failed");
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

}  // namespace

Task<Result<ImageCheck>> co_check(Image& image, CheckFix fix, const CheckReporter& report) {
    if (fix != CheckFix::None && !image.writing)
        co_return fail_errno(EACCES, "{}: the image is open read-only and cannot be repaired", image.name);
    if (image.writing && !image.is_corrupt())
        if (int ret = co_await image.writing->co_settle(); ret < 0)
            co_return fail_errno(-ret, "{}: could not write what has been changed", image.name);
    int64_t length = image.file.length();
    if (length < 0)
        co_return fail_errno(static_cast<int>(-length), "Could not get image size");
    if (image.geometry().clusters(static_cast<uint64_t>(length)) > ReferenceMap::kMaxClusters)
        co_return fail_errno(EFBIG, "Check failed");

    Check check(image, fix, report, static_cast<uint64_t>(length));
    auto checked = co_await co_check_all(check);
    if (!checked)
        co_return std::unexpected(std::move(checked.error()));
    check.clusters.total = static_cast<int64_t>(image.geometry().clusters(image.header.size));
    check.result.clusters = check.clusters;
    if (fix != CheckFix::None) {
        bool healthy = check.result.corruptions == 0 && check.result.errors == 0;
        if (healthy)
            if (auto declared = co_await co_declare_healthy(image); !declared)
                co_return std::unexpected(std::move(declared.error()));
        if (auto reloaded = co_await image.writing->co_reload(); !reloaded && healthy)
            co_return std::unexpected(std::move(reloaded.error()));
    }
    co_return check.result;
}

}  // namespace ashlar::qcow2
