#include "block/qcow2/downgrade.h"

#include "block/qcow2/check.h"
#include "block/qcow2/open.h"
#include "block/qcow2/write.h"
#include "block/qcow2/write_state.h"
#include "util/buffer_pool.h"
#include "util/progress.h"

#include <algorithm>
#include <cerrno>
#include <map>

namespace ashlar::qcow2 {

namespace {

constexpr uint64_t kZeroBytes = 1 << 20;

Task<int> co_write_out_zeroes(Image& image, BdrvChild* backing, uint64_t begin, uint64_t end) {
    Buffer zeroes(std::min(end - begin, kZeroBytes));
    std::ranges::fill(zeroes.span(), std::byte{0});
    for (; begin < end; begin += zeroes.size()) {
        iovec element{zeroes.data(), std::min<size_t>(zeroes.size(), end - begin)};
        if (int ret = co_await co_write(image, backing, static_cast<int64_t>(begin),
                                        static_cast<int64_t>(element.iov_len), IoVector(element));
            ret < 0)
            co_return ret;
    }
    co_return 0;
}

// Of the disk: without a backing file there is nothing to be hidden.
Task<int> co_expand_disk(Image& image, BdrvChild* backing, Progress& progress) {
    auto length = static_cast<uint64_t>(image.length.get());
    progress.add_work(length);
    for (uint64_t at = 0; at < length;) {
        Run run;
        if (int ret = co_await image.co_map(at, length - at, run); ret < 0)
            co_return ret;
        uint64_t end = at + run.bytes;
        int ret = 0;
        if (is_zero(run.kind))
            ret = image.header.backing_file.empty()
                      ? co_await co_forget(image, static_cast<int64_t>(at), static_cast<int64_t>(end))
                      : co_await co_write_out_zeroes(image, backing, at, end);
        if (ret < 0)
            co_return ret;
        progress.add_done(run.bytes);
        at = end;
    }
    co_return 0;
}

// One table, which `times` entries of L1 tables refer to. Clusters that its entries no longer refer to are leaked.
Task<int> co_expand_table(Image& image, uint64_t offset, uint64_t times, Buffer& table, bool& leaked) {
    WriteState& state = *image.writing;
    const Geometry& geometry = image.geometry();
    if (int ret = co_await image.co_copy_table(offset, table.span()); ret < 0)
        co_return ret;
    auto guard = co_await state.allocation_lock.co_lock();
    bool changed = false;
    for (uint64_t i = 0; i < geometry.l2_entries(); i++) {
        std::byte* at = table.data() + i * geometry.l2_entry_bytes();
        L2Entry entry = load_l2_entry(at, geometry);
        if (!is_zero(subcluster_kind(entry, 0, image.format)))
            continue;
        uint64_t host = 0, got;
        if (!image.header.backing_file.empty()) {
            if (int ret = co_await state.refcounts.co_allocate(1, true, host, got); ret < 0)
                co_return ret;
            for (uint64_t more = 1; more < times; more++)
                if (int ret = co_await state.refcounts.co_reference({host >> geometry.cluster_bits, 1}); ret < 0)
                    co_return ret;
            if (int ret = co_await image.file.co_pwrite_zeroes(static_cast<int64_t>(host),
                                                               static_cast<int64_t>(geometry.cluster_size()));
                ret < 0)
                co_return ret;
        }
        leaked |= entry.host_offset() != 0;
        store_l2_entry(at, geometry, {host, 0});
        changed = true;
    }
    if (!changed)
        co_return 0;
    if (int ret = co_await state.co_flush_all(); ret < 0)
        co_return ret;
    int ret =
        co_await image.file.co_pwrite(static_cast<int64_t>(offset), static_cast<int64_t>(table.size()), table.data());
    image.l2_cache.drop(offset, table.size());
    co_return ret;
}

Task<Result<void>> co_expand_snapshots(Image& image, bool& leaked) {
    std::map<uint64_t, uint64_t> tables;  // how often each is referred to
    for (const Snapshot& snapshot : image.snapshots) {
        auto l1 = co_await co_load_table(image.file, "a snapshot's L1 table", snapshot.l1_offset, snapshot.l1_size);
        if (!l1)
            co_return std::unexpected(std::move(l1.error()));
        for (uint64_t entry : *l1)
            if (uint64_t offset = entry & kOffsetMask)
                tables[offset]++;
    }
    for (uint64_t i = 0; i < image.l1.size(); i++)
        if (auto found = tables.find(image.l1.get(i) & kOffsetMask); found != tables.end())
            found->second++;
    Buffer table = Buffer::try_alloc(image.geometry().cluster_size());
    if (!table)
        co_return fail_errno(ENOMEM, "L2 table");
    for (auto [offset, times] : tables)
        if (int ret = co_await co_expand_table(image, offset, times, table, leaked); ret < 0)
            co_return fail_errno(-ret, "{}: could not expand the zero clusters of snapshots", image.name);
    co_return {};
}

}  // namespace

Result<void> check_snapshots_for_downgrade(const Image& image) {
    for (const Snapshot& snapshot : image.snapshots)
        if (snapshot.vm_state_bytes > UINT32_MAX || snapshot.disk_bytes != image.header.size)
            return fail("Internal snapshots prevent downgrade of image");
    return {};
}

Task<Result<void>> co_expand_zero_clusters(Image& image, BdrvChild* backing, Progress& progress) {
    if (int ret = co_await co_expand_disk(image, backing, progress); ret < 0)
        co_return fail_errno(-ret, "{}: could not expand the zero clusters", image.name);
    if (int ret = co_await image.writing->co_settle(); ret < 0)
        co_return fail_errno(-ret, "{}: could not write what has been changed", image.name);
    bool leaked = false;
    if (auto expanded = co_await co_expand_snapshots(image, leaked); !expanded)
        co_return expanded;
    if (leaked)
        if (auto freed = co_await co_check(image, CheckFix::Leaks, [](const std::string&) {}); !freed)
            co_return std::unexpected(std::move(freed.error()));
    co_return {};
}

}  // namespace ashlar::qcow2
