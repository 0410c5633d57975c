#include "block/block_node.h"
#include "block/qcow2/write.h"
#include "block/qcow2/write_state.h"

#include <algorithm>
#include <cerrno>
#include <optional>

namespace ashlar::qcow2 {

namespace {

constexpr uint64_t kAllZero = uint64_t{0xffff'ffff} << kSubclusters;

// How entries are changed; std::nullopt: it cannot be done this way.
struct Zeroing {
    const L2Format& format;
    bool has_backing;
    bool discard;
    bool may_unmap;
    bool keeps_place = false;  // discard-no-unref
    bool forget = false;       // it is not part of the disk any more

    bool reads_as_zero(const L2Entry& entry) const {
        if (entry.descriptor & kCompressed)
            return false;
        if (format.geometry.extended_l2)
            return (entry.bitmap & 0xffff'ffff) == 0 && (!has_backing || entry.bitmap == kAllZero);
        Kind kind = subcluster_kind(entry, 0, format);
        return is_zero(kind) || (is_unallocated(kind) && !has_backing);
    }

    // The entry says itself that there are zeroes, whatever is below, or comes to be.
    bool is_marked(const L2Entry& entry) const {
        if (entry.descriptor & kCompressed)
            return false;
        return format.geometry.extended_l2 ? entry.bitmap == kAllZero : is_zero(subcluster_kind(entry, 0, format));
    }
    // Nothing is below, and what comes to be there may show.
    bool need_not_say() const { return !has_backing && (discard || format.version < 3); }

    bool is_owned(const L2Entry& entry) const {
        return !(entry.descriptor & kCompressed) && entry.copied() && (entry.host_offset() != 0 || format.data_file);
    }

    // A whole cluster.
    std::optional<L2Entry> zero(const L2Entry& entry) const {
        if (forget)
            return L2Entry{};
        bool keeps = is_owned(entry) && (!may_unmap || (keeps_place && format.version >= 3));
        bool nothing_to_free = !(entry.descriptor & kCompressed) && entry.host_offset() == 0 && !entry.copied();
        if ((is_marked(entry) || (need_not_say() && reads_as_zero(entry))) && (keeps || nothing_to_free))
            return entry;
        if (format.version < 3)
            return has_backing ? std::nullopt : std::optional(L2Entry{});
        L2Entry result{keeps ? entry.descriptor & (kOffsetMask | kCopied) : 0, 0};
        if (format.geometry.extended_l2)
            result.bitmap = kAllZero;
        else
            result.descriptor |= kZero;
        return result;
    }

    // Some subclusters.
    std::optional<L2Entry> zero_some(const L2Entry& entry, uint64_t mask) const {
        if (entry.descriptor & kCompressed)
            return std::nullopt;
        return L2Entry{entry.descriptor, (entry.bitmap & ~mask) | mask << kSubclusters};
    }
};

bool refers_elsewhere(const L2Entry& before, const L2Entry& after) {
    return ((before.descriptor ^ after.descriptor) & (kOffsetMask | kCompressed)) != 0;
}

// What zeroed clusters have kept of the file need not hold anything.
Task<int> co_discard_kept(Image& image, uint64_t guest, uint64_t count) {
    const Geometry& geometry = image.geometry();
    std::vector<ClusterRange> ranges;
    image.l2_cache.read(image.l2_entry_offset(guest), [&](std::span<const std::byte> entries) {
        for (uint64_t i = 0; i < count; i++) {
            L2Entry entry = load_l2_entry(entries.data() + i * geometry.l2_entry_bytes(), geometry);
            if ((entry.descriptor & kCompressed) || entry.host_offset() == 0 || !entry.copied())
                continue;
            uint64_t cluster = entry.host_offset() >> geometry.cluster_bits;
            if (!ranges.empty() && ranges.back().first + ranges.back().count == cluster)
                ranges.back().count++;
            else
                ranges.push_back({cluster, 1});
        }
    });
    for (ClusterRange range : ranges)
        co_await image.data.co_pdiscard(static_cast<int64_t>(range.first << geometry.cluster_bits),
                                        static_cast<int64_t>(range.count << geometry.cluster_bits));  // advice
    co_return 0;
}

// Changes the entries from that of `guest` on, of clusters that end at or before `end`, or of subclusters of one
// cluster; gives the end of what was done. With the lock held.
Task<int> co_zero_some(Image& image, const Zeroing& zeroing, uint64_t guest, uint64_t end, uint64_t& done) {
    WriteState& state = *image.writing;
    const Geometry& geometry = image.geometry();
    uint64_t start = geometry.cluster_start(guest);
    if (!(image.l1.get(geometry.l1_index(guest)) & kOffsetMask) && zeroing.need_not_say()) {
        done = std::min(end, (geometry.l1_index(guest) + 1) << (geometry.cluster_bits + geometry.l2_bits()));
        co_return 0;  // no table, nothing to be seen
    }
    if (int ret = co_await state.co_own_l2_table(guest); ret < 0)
        co_return ret;
    bool part = start != guest || end - start < geometry.cluster_size();
    uint64_t count = part ? 1 : std::min((end - start) >> geometry.cluster_bits, state.entries_in_piece(guest));
    uint64_t part_end = std::min(end, start + geometry.cluster_size());
    uint64_t mask = 0;
    if (part)
        for (uint64_t at = guest; at < part_end; at += geometry.subcluster_size())
            mask |= uint64_t{1} << geometry.subcluster_index(at);

    std::vector<L2Entry> replaced;
    bool impossible = false;
    auto change = [&](uint64_t, const L2Entry& entry) {
        auto changed = impossible ? std::nullopt : part ? zeroing.zero_some(entry, mask) : zeroing.zero(entry);
        if (!changed) {
            impossible = true;
            return entry;
        }
        if (refers_elsewhere(entry, *changed))
            replaced.push_back(entry);
        return *changed;
    };
    // All or nothing: whoever is told that it cannot be done writes the whole range.
    bool invalid = false;
    bool there = image.l2_cache.read(image.l2_entry_offset(guest), [&](std::span<const std::byte> entries) {
        for (uint64_t i = 0; i < count; i++) {
            L2Entry entry = load_l2_entry(entries.data() + i * geometry.l2_entry_bytes(), geometry);
            invalid |= subcluster_kind(entry, 0, image.format) == Kind::Invalid;
            change(i, entry);
        }
    });
    if (there && invalid)
        co_return image.report_corruption(fmt::format("invalid L2 entry for guest offset {:#x} or behind it", start));
    if (there && impossible)
        co_return -ENOTSUP;
    replaced.clear();
    if (!there || !state.change_entries(guest, count, change)) {
        done = guest;  // once more
        co_return 0;
    }
    for (const L2Entry& entry : replaced)
        state.free_cluster(entry, FreedBy::Request);
    if (zeroing.keeps_place && zeroing.may_unmap && !part && state.passes_discard(FreedBy::Request))
        if (int ret = co_await co_discard_kept(image, guest, count); ret < 0)
            co_return ret;
    done = part ? part_end : start + (count << geometry.cluster_bits);
    co_return 0;
}

// Cuts `end` down to what can be changed at once; false: something has changed meanwhile, look again. With the lock.
Task<bool> co_may_zero(WriteState& state, CoMutex::Guard& guard, uint64_t guest, uint64_t& end, int& ret) {
    const Geometry& geometry = state.image.geometry();
    uint64_t limit = geometry.cluster_end(end);
    if (!co_await state.co_may_change(guard, geometry.cluster_start(guest), limit))
        co_return false;
    end = std::min(end, limit);
    ret = state.refcounts.has_many_frees() ? co_await state.co_writeback() : 0;
    co_return true;
}

Task<int> co_zero_range(Image& image, Zeroing zeroing, uint64_t guest, uint64_t end) {
    WriteState& state = *image.writing;
    while (guest < end) {
        auto guard = co_await state.allocation_lock.co_lock();
        uint64_t limit = end;
        int ret = 0;
        if (!co_await co_may_zero(state, guard, guest, limit, ret))
            continue;
        if (ret == 0)
            ret = co_await co_zero_some(image, zeroing, guest, limit, guest);
        if (ret < 0)
            co_return ret;
    }
    co_return 0;
}

// Whether what is below reads as zeroes.
Task<bool> co_is_zero_below(BdrvChild* backing, uint64_t begin, uint64_t end) {
    while (backing && begin < end) {
        BlockStatus status = co_await backing->node().co_block_status_above(true, static_cast<int64_t>(begin),
                                                                            static_cast<int64_t>(end - begin));
        if (status.ret < 0 || (status.bytes > 0 && !status.has(BlockStatus::Zero)))
            co_return false;
        if (status.bytes == 0)
            break;  // behind its end
        begin += static_cast<uint64_t>(status.bytes);
    }
    co_return true;
}

// A part of a subcluster whose rest reads as zeroes: all of it. -ENOTSUP: that is not so.
Task<int> co_zero_part(Image& image, const Zeroing& zeroing, BdrvChild* backing, uint64_t guest, uint64_t end) {
    WriteState& state = *image.writing;
    const Geometry& geometry = image.geometry();
    const uint64_t mask = geometry.subcluster_size() - 1;
    const uint64_t whole = guest & ~mask, whole_end = (end + mask) & ~mask;
    if (whole_end - whole > geometry.subcluster_size())
        co_return -ENOTSUP;
    const bool zero_below =
        co_await co_is_zero_below(backing, whole, guest) && co_await co_is_zero_below(backing, end, whole_end);
    for (uint64_t at = whole; at < whole_end;) {
        auto guard = co_await state.allocation_lock.co_lock();
        uint64_t limit = whole_end;
        int ret = 0;
        if (!co_await co_may_zero(state, guard, whole, limit, ret))
            continue;
        // What holds no data is not given any without the lock.
        Run run;
        if (ret == 0)
            ret = co_await image.co_map(guest, 1, run);
        if (ret == 0 && !is_zero(run.kind) && !(is_unallocated(run.kind) && zero_below))
            ret = -ENOTSUP;
        if (ret == 0)
            ret = co_await co_zero_some(image, zeroing, whole, whole_end, at);
        if (ret < 0)
            co_return ret;
    }
    co_return 0;
}

// Whole clusters, as far as the disk reaches into the last one.
uint64_t rounded_end(const Image& image, uint64_t end) {
    return end == static_cast<uint64_t>(image.length.get()) ? image.geometry().cluster_end(end) : end;
}

// A raw data file, which is to read as the disk does, first.
Task<int> co_zero_raw_data(Image& image, uint64_t guest, uint64_t end, RequestFlags flags) {
    end = std::min(end, static_cast<uint64_t>(image.length.get()));
    if (!image.data_file_raw || guest >= end)
        co_return 0;
    co_return co_await image.data.co_pwrite_zeroes(static_cast<int64_t>(guest), static_cast<int64_t>(end - guest),
                                                   flags);
}

}  // namespace

Task<int> co_write_zeroes(Image& image, BdrvChild* backing, int64_t offset, int64_t bytes, RequestFlags flags) {
    auto guest = static_cast<uint64_t>(offset);
    uint64_t end = rounded_end(image, guest + static_cast<uint64_t>(bytes));
    const bool whole = ((guest | end) & (image.geometry().subcluster_size() - 1)) == 0;
    if ((image.data_file_raw && !whole) || (image.format.version < 3 && backing))
        co_return -ENOTSUP;
    Zeroing zeroing{image.format, backing != nullptr, false, has(flags, RequestFlags::MayUnmap),
                    image.writing->discard_no_unref};
    if (!whole)
        co_return co_await co_zero_part(image, zeroing, backing, guest, end);
    if (int ret = co_await co_zero_raw_data(image, guest, end, flags); ret < 0)
        co_return ret;
    co_return co_await co_zero_range(image, zeroing, guest, end);
}

Task<int> co_discard(Image& image, BdrvChild* backing, int64_t offset, int64_t bytes) {
    auto guest = image.geometry().cluster_end(static_cast<uint64_t>(offset));
    uint64_t end = image.geometry().cluster_start(rounded_end(image, static_cast<uint64_t>(offset + bytes)));
    if (image.format.version < 3 && backing)
        co_return -ENOTSUP;
    if (int ret = co_await co_zero_raw_data(image, guest, end, RequestFlags::MayUnmap | RequestFlags::NoFallback);
        ret < 0)
        co_return ret;
    co_return co_await co_zero_range(
        image, {image.format, backing != nullptr, true, true, image.writing->discard_no_unref}, guest, end);
}

Task<int> co_forget(Image& image, int64_t begin, int64_t end) {
    const Geometry& geometry = image.geometry();
    co_return co_await co_zero_range(
        image, {.format = image.format, .has_backing = false, .discard = true, .may_unmap = true, .forget = true},
        geometry.cluster_end(static_cast<uint64_t>(begin)), geometry.cluster_end(static_cast<uint64_t>(end)));
}

}  // namespace ashlar::qcow2
