#include "block/qcow2/write.h"

#include "block/io_vector.h"
#include "block/qcow2/read.h"
#include "block/qcow2/write_state.h"
#include "util/buffer_pool.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace ashlar::qcow2 {

namespace {

constexpr uint64_t kMaxMergedGap = 16 << 10;  // of new data between head and tail that one read of the old ones spans

// A write to clusters that need new host clusters, or whose host clusters do not hold anything yet.
struct Plan {
    WriteState::Allocation allocation{};
    uint64_t guest = 0;  // what is written
    uint64_t bytes = 0;  // 0: nothing yet, look at the mapping again
    uint64_t host = 0;   // of the first cluster
    uint64_t clusters = 0;
    L2Entry first = {}, last = {};  // what they are now
    bool reuses = false;            // the host clusters are theirs already
    uint64_t end = ~uint64_t{0};    // of what may be written, if subclusters behind it hold data
    bool fresh = false;             // the host clusters read as zeroes
};

bool has_data(const L2Entry& entry, const L2Format& format) {
    if (entry.descriptor & kCompressed)
        return true;
    if (format.geometry.extended_l2)
        return (entry.bitmap & 0xffff'ffff) != 0;
    return subcluster_kind(entry, 0, format) == Kind::Normal;
}

// A cluster that keeps its host cluster when it is written to.
bool owns_host(const L2Entry& entry, const L2Format& format) {
    return !(entry.descriptor & kCompressed) && entry.copied() && (entry.host_offset() != 0 || format.data_file);
}

uint64_t low_bits(uint64_t n) {
    return n >= 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1;
}

// The allocation bits of a cluster's subclusters in [begin, end), bytes within it.
uint64_t subcluster_mask(const Geometry& geometry, uint64_t begin, uint64_t end) {
    return low_bits(end >> geometry.subcluster_bits()) & ~low_bits(begin >> geometry.subcluster_bits());
}

// Takes clusters for as much of the write as can be done at once. With the lock held.
Task<int> co_plan(Image& image, CoMutex::Guard& guard, uint64_t guest, uint64_t bytes, Plan& plan) {
    WriteState& state = *image.writing;
    const Geometry& geometry = image.geometry();
    uint64_t start = geometry.cluster_start(guest);
    uint64_t end = geometry.cluster_end(guest + bytes);
    if (!co_await state.co_may_change(guard, start, end))
        co_return 0;
    if (state.refcounts.has_many_frees())
        if (int ret = co_await state.co_writeback(); ret < 0)
            co_return ret;
    if (int ret = co_await state.co_own_l2_table(start); ret < 0)
        co_return ret;
    uint64_t limit = std::min((end - start) >> geometry.cluster_bits, state.entries_in_piece(start));

    bool invalid = false;
    bool read = image.l2_cache.read(image.l2_entry_offset(start), [&](std::span<const std::byte> entries) {
        for (; plan.clusters < limit; plan.clusters++) {
            L2Entry entry = load_l2_entry(entries.data() + plan.clusters * geometry.l2_entry_bytes(), geometry);
            uint64_t at = start + (plan.clusters << geometry.cluster_bits);
            Kind kind = subcluster_kind(entry, geometry.subcluster_index(std::max(at, guest)), image.format);
            if (kind == Kind::Invalid) {
                invalid = plan.clusters == 0;
                break;
            }
            bool owns = owns_host(entry, image.format);
            if (owns && kind == Kind::Normal)
                break;  // can be written as it is
            if (plan.clusters == 0) {
                plan.reuses = owns;
                plan.host = owns ? entry.host_offset() : 0;
                plan.first = entry;
            } else if (owns != plan.reuses ||
                       (owns && entry.host_offset() != plan.host + (plan.clusters << geometry.cluster_bits))) {
                break;
            }
            plan.last = entry;
            if (owns && geometry.extended_l2) {
                // Subclusters with data may be written to at any time, so nothing around the new data is read from
                // them.
                unsigned sub = geometry.subcluster_index(std::max(at, guest));
                while (sub < kSubclusters && subcluster_kind(entry, sub, image.format) != Kind::Normal)
                    sub++;
                plan.end = at + (uint64_t{sub} << geometry.subcluster_bits());
                if (sub < kSubclusters) {
                    plan.clusters++;
                    break;
                }
            }
        }
    });
    if (!read || (plan.clusters == 0 && !invalid))
        co_return 0;
    if (invalid)
        co_return image.report_corruption(
            fmt::format("invalid L2 entry {:#x} for guest offset {:#x}", plan.first.descriptor, start));
    if (plan.reuses) {
        if (int ret = state.check_data_place(plan.host, plan.clusters << geometry.cluster_bits); ret < 0)
            co_return ret;
    } else if (image.format.data_file) {
        plan.host = start;
    } else {
        uint64_t fresh_from = state.refcounts.fresh_from(), got = 0, wanted = plan.clusters;
        if (int ret = co_await state.refcounts.co_allocate(wanted, false, plan.host, got); ret < 0)
            co_return ret;
        plan.fresh = plan.host >= fresh_from;
        plan.clusters = got;
        if (got < wanted) {
            uint64_t last = start + ((got - 1) << geometry.cluster_bits);
            plan.last = {};
            image.l2_cache.read(image.l2_entry_offset(last), [&](std::span<const std::byte> entries) {
                plan.last = load_l2_entry(entries.data(), geometry);
            });
        }
    }
    uint64_t planned_end = start + (plan.clusters << geometry.cluster_bits);
    plan.guest = guest;
    plan.bytes = std::min({guest + bytes, planned_end, plan.end}) - guest;
    plan.allocation.start = start;
    plan.allocation.end = planned_end;
    state.allocations.push_back(&plan.allocation);
    co_return 0;
}

// What has to be written around the new data: down to `begin` and up to `end`.
struct Around {
    uint64_t begin;
    uint64_t end;
};

// Where the data of an old cluster must move, all of it is written anew; else the subclusters that are touched.
Around around(const Image& image, const Plan& plan) {
    const Geometry& geometry = image.geometry();
    uint64_t sub = geometry.subcluster_size() - 1;
    uint64_t write_end = plan.guest + plan.bytes;
    Around result{plan.guest & ~sub, (write_end + sub) & ~sub};
    if (!plan.reuses && has_data(plan.first, image.format)) {
        result.begin = geometry.cluster_start(plan.guest);
        if (plan.clusters == 1)
            result.end = geometry.cluster_end(write_end);
    }
    if (!plan.reuses && has_data(plan.last, image.format))
        result.end = geometry.cluster_end(write_end);
    return result;
}

// Guest data as they are now, with zeroes behind the end of the disk.
Task<int> co_read_old(Image& image, BdrvChild* backing, uint64_t guest, std::span<std::byte> out) {
    uint64_t length = static_cast<uint64_t>(image.length.get());
    uint64_t there = std::min<uint64_t>(out.size(), guest < length ? length - guest : 0);
    std::memset(out.data() + there, 0, out.size() - there);
    if (there == 0)
        co_return 0;
    iovec element{out.data(), there};
    co_return co_await co_read(image, backing, static_cast<int64_t>(guest), static_cast<int64_t>(there),
                               IoVector(element));
}

// True if all of it reads as zeroes because the mapping says so.
Task<int> co_is_zero(Image& image, BdrvChild* backing, uint64_t begin, uint64_t end, bool& zero) {
    end = std::min(end, static_cast<uint64_t>(image.length.get()));
    int64_t backing_length = backing ? backing->length() : 0;
    zero = true;
    while (zero && begin < end) {
        Run run;
        if (int ret = co_await image.co_map(begin, end - begin, run); ret < 0)
            co_return ret;
        zero = is_zero(run.kind) || (is_unallocated(run.kind) && static_cast<int64_t>(begin) >= backing_length);
        begin += run.bytes;
    }
    co_return 0;
}

Task<int> co_write_planned(Image& image, BdrvChild* backing, const Plan& plan, IoVector iov) {
    Around all = around(image, plan);
    uint64_t write_end = plan.guest + plan.bytes;
    uint64_t head = plan.guest - all.begin, tail = all.end - write_end;
    if (image.format.data_file)  // which is as long as the disk
        tail = std::min(all.end, std::max(write_end, static_cast<uint64_t>(image.length.get()))) - write_end;
    bool head_zero = true, tail_zero = true;
    if (head > 0)
        if (int ret = co_await co_is_zero(image, backing, all.begin, plan.guest, head_zero); ret < 0)
            co_return ret;
    if (tail > 0)
        if (int ret = co_await co_is_zero(image, backing, write_end, write_end + tail, tail_zero); ret < 0)
            co_return ret;
    if (plan.fresh && head_zero)
        head = 0;
    if (plan.fresh && tail_zero)
        tail = 0;

    Buffer old;
    std::byte *head_data = nullptr, *tail_data = nullptr;
    if (head > 0 && tail > 0 && !head_zero && !tail_zero && plan.bytes <= kMaxMergedGap) {
        old = Buffer::try_alloc(head + plan.bytes + tail);
        if (!old)
            co_return -ENOMEM;
        if (image.file.wants_debug_events())
            co_await image.file.co_debug_event(BlkdebugEvent::CowRead);
        if (int ret = co_await co_read_old(image, backing, all.begin, old.span()); ret < 0)
            co_return ret;
        head_data = old.data();
        tail_data = old.data() + head + plan.bytes;
    } else if (head + tail > 0) {
        old = Buffer::try_alloc(head + tail);
        if (!old)
            co_return -ENOMEM;
        head_data = old.data();
        tail_data = old.data() + head;
        std::memset(old.data(), 0, head + tail);
        if (image.file.wants_debug_events() && (!head_zero || !tail_zero))
            co_await image.file.co_debug_event(BlkdebugEvent::CowRead);
        if (head > 0 && !head_zero)
            if (int ret = co_await co_read_old(image, backing, all.begin, {head_data, head}); ret < 0)
                co_return ret;
        if (tail > 0 && !tail_zero)
            if (int ret = co_await co_read_old(image, backing, write_end, {tail_data, tail}); ret < 0)
                co_return ret;
    }

    std::vector<iovec> whole;
    if (head > 0)
        whole.push_back({head_data, head});
    whole.insert(whole.end(), iov.elements().begin(), iov.elements().end());
    if (tail > 0)
        whole.push_back({tail_data, tail});
    uint64_t begin = plan.guest - head;
    if (image.file.wants_debug_events())
        co_await image.file.co_debug_event(BlkdebugEvent::WriteAio);
    co_return co_await image.data.co_pwritev(static_cast<int64_t>(plan.host + (begin - plan.allocation.start)),
                                             static_cast<int64_t>(head + plan.bytes + tail),
                                             IoVector(whole.data(), static_cast<unsigned>(whole.size())));
}

// Makes the clusters those of the guest. With the lock held.
Task<int> co_link(Image& image, const Plan& plan) {
    WriteState& state = *image.writing;
    const Geometry& geometry = image.geometry();
    Around all = around(image, plan);
    std::vector<L2Entry> replaced;
    auto link = [&](uint64_t i, const L2Entry& old) {
        uint64_t cluster = plan.allocation.start + (i << geometry.cluster_bits);
        L2Entry entry{(plan.host + (i << geometry.cluster_bits)) | kCopied, 0};
        if (geometry.extended_l2) {
            uint64_t begin = std::max(all.begin, cluster) - cluster;
            uint64_t end = std::min(all.end - cluster, geometry.cluster_size());
            uint64_t written = subcluster_mask(geometry, begin, end);
            uint64_t before = old.descriptor & kCompressed ? 0 : old.bitmap;
            entry.bitmap = (before & ~(written << kSubclusters)) | written;
        }
        if (!plan.reuses)
            replaced.push_back(old);
        return entry;
    };
    while (!state.change_entries(plan.allocation.start, plan.clusters, link))
        if (int ret = co_await image.l2_cache.co_load(image.l2_entry_offset(plan.allocation.start)); ret < 0)
            co_return ret;
    for (const L2Entry& entry : replaced)
        state.free_cluster(entry);
    co_return 0;
}

// Writes the beginning of the request, `done` bytes of it, into clusters of its own. 0 bytes: the mapping has changed.
Task<int> co_write_allocating(Image& image, BdrvChild* backing, uint64_t guest, uint64_t bytes, IoVector iov,
                              int64_t iov_offset, uint64_t& done) {
    WriteState& state = *image.writing;
    Plan plan;
    {
        auto guard = co_await state.allocation_lock.co_lock();
        if (int ret = co_await co_plan(image, guard, guest, bytes, plan); ret < 0)
            co_return ret;
    }
    done = plan.bytes;
    if (done == 0)
        co_return 0;
    IovSlice slice(iov, iov_offset, static_cast<int64_t>(done));
    int ret = co_await co_write_planned(image, backing, plan, slice.get());

    auto guard = co_await state.allocation_lock.co_lock();
    if (ret == 0)
        ret = co_await co_link(image, plan);
    if (ret < 0 && !plan.reuses && !image.format.data_file)
        state.refcounts.free_later(plan.host, plan.clusters << image.geometry().cluster_bits);
    std::erase(state.allocations, &plan.allocation);
    plan.allocation.ended.wake_all();
    co_return ret;
}

// Writes the beginning of the request if it is in clusters that can be written as they are; else `done` is 0.
Task<int> co_write_in_place(Image& image, uint64_t guest, uint64_t bytes, IoVector iov, int64_t iov_offset,
                            uint64_t& done) {
    GracePeriod::Inside inside(image.writing->writers);
    Run run;
    auto mapped = image.try_map(guest, bytes, run, RunFor::Writing);
    int ret = mapped ? *mapped : co_await image.co_map(guest, bytes, run, RunFor::Writing);
    done = 0;
    if (ret < 0 || run.kind != Kind::Normal || !run.entry.copied())
        co_return ret;
    if (ret = image.writing->check_data_place(run.host, run.bytes); ret < 0)
        co_return ret;
    done = run.bytes;
    IovSlice slice(iov, iov_offset, static_cast<int64_t>(done));
    if (image.file.wants_debug_events())
        co_await image.file.co_debug_event(BlkdebugEvent::WriteAio);
    co_return co_await image.data.co_pwritev(static_cast<int64_t>(run.host), static_cast<int64_t>(done), slice.get());
}

}  // namespace

Task<int> co_write(Image& image, BdrvChild* backing, int64_t offset, int64_t bytes, IoVector iov) {
    for (int64_t done = 0; done < bytes;) {
        auto guest = static_cast<uint64_t>(offset + done), left = static_cast<uint64_t>(bytes - done);
        uint64_t written;
        int ret = co_await co_write_in_place(image, guest, left, iov, done, written);
        if (ret == 0 && written == 0)
            ret = co_await co_write_allocating(image, backing, guest, left, iov, done, written);
        if (ret < 0)
            co_return ret;
        done += static_cast<int64_t>(written);
    }
    co_return 0;
}

}  // namespace ashlar::qcow2
