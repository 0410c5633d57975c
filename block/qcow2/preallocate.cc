#include "block/qcow2/preallocate.h"

#include "block/qcow2/write_state.h"

#include <algorithm>
#include <cerrno>

namespace ashlar::qcow2 {

namespace {

enum class Room : uint8_t { New, ZeroedInPlace, WrittenInPlace };

// Free clusters of a file that cannot become longer: what they hold is unknown. -ENOSPC: it has none any more.
Task<int> co_allocate_in_place(Image& image, Room room, uint64_t want, uint64_t& host, uint64_t& got) {
    if (int ret = co_await image.writing->refcounts.co_allocate(want, false, host, got); ret < 0)
        co_return ret;
    const auto offset = static_cast<int64_t>(host);
    const auto bytes = static_cast<int64_t>(got << image.geometry().cluster_bits);
    if (offset + bytes > image.file.length())
        co_return -ENOSPC;
    co_return co_await image.file.co_pwrite_zeroes(
        offset, bytes, room == Room::ZeroedInPlace ? RequestFlags::MayUnmap : RequestFlags::None);
}

// From the cluster at `guest` on, as many as go in one step; `done` is their end. With the lock held.
Task<int> co_preallocate_some(Image& image, Room room, uint64_t guest, uint64_t end, uint64_t& done) {
    WriteState& state = *image.writing;
    const Geometry& geometry = image.geometry();
    if (int ret = co_await state.co_own_l2_table(guest); ret < 0)
        co_return ret;
    uint64_t limit = std::min((end - guest) >> geometry.cluster_bits, state.entries_in_piece(guest));
    uint64_t taken = 0, empty = 0;  // in a row, at the beginning
    bool there = image.l2_cache.read(image.l2_entry_offset(guest), [&](std::span<const std::byte> entries) {
        auto is_empty = [&](uint64_t i) {
            return load_l2_entry(entries.data() + i * geometry.l2_entry_bytes(), geometry) == L2Entry{};
        };
        while (taken < limit && !is_empty(taken))
            taken++;
        while (taken == 0 && empty < limit && is_empty(empty))
            empty++;
    });
    done = guest + (taken << geometry.cluster_bits);
    if (!there || empty == 0)
        co_return 0;
    uint64_t host = guest, got = empty;
    int ret = 0;
    if (!image.format.data_file && room == Room::New)
        ret = co_await state.refcounts.co_allocate_fresh(empty, host, got);
    else if (!image.format.data_file)
        ret = co_await co_allocate_in_place(image, room, empty, host, got);
    if (ret < 0)
        co_return ret;
    // Subclusters stay unallocated: they read as before.
    auto link = [&](uint64_t i, const L2Entry&) { return L2Entry{(host + (i << geometry.cluster_bits)) | kCopied, 0}; };
    while (!state.change_entries(guest, got, link))
        if (ret = co_await image.l2_cache.co_load(image.l2_entry_offset(guest)); ret < 0)
            co_return ret;
    done = guest + (got << geometry.cluster_bits);
    co_return 0;
}

// Where the file ends at most when so many clusters are put behind everything that is there, with their tables.
int64_t longest_file(const Image& image, uint64_t clusters) {
    const Geometry& geometry = image.geometry();
    uint64_t tables = (clusters >> geometry.l2_bits()) + 2;
    uint64_t blocks = ((clusters + tables) >> geometry.refblock_bits()) + 2;
    return static_cast<int64_t>(image.writing->refcounts.fresh_from() +
                                ((clusters + tables + blocks) << geometry.cluster_bits));
}

}  // namespace

Task<Result<void>> co_preallocate(Image& image, uint64_t begin, uint64_t end, PreallocMode mode) {
    WriteState& state = *image.writing;
    const Geometry& geometry = image.geometry();
    if (mode == PreallocMode::Off)
        co_return {};
    if (!image.header.backing_file.empty() && !geometry.extended_l2)
        co_return fail_errno(ENOTSUP,
                             "Backing file and preallocation can only be used at the same time if "
                             "extended_l2 is on");
    uint64_t guest = geometry.cluster_start(begin);
    end = geometry.cluster_end(end);
    const bool has_data_file = &image.data != &image.file, needs_room = !has_data_file && mode_below(mode) == mode;
    Room room = Room::New;
    Result<void> grown;
    if (!has_data_file && guest < end) {
        grown = co_await image.file.co_truncate(longest_file(image, (end - guest) >> geometry.cluster_bits), false,
                                                needs_room ? mode : PreallocMode::Off);
        // A device, or an export: there may be room in it.
        if (!grown) {
            grown = std::unexpected(std::move(grown.error()).prefixed("Could not resize underlying file"));
            if (grown.error().code != EINVAL && grown.error().code != ENOTSUP)
                co_return grown;
            room = mode == PreallocMode::Metadata ? Room::ZeroedInPlace : Room::WrittenInPlace;
        }
    }
    while (guest < end) {
        auto guard = co_await state.allocation_lock.co_lock();
        uint64_t limit = end;
        if (!co_await state.co_may_change(guard, guest, limit))
            continue;
        const int ret = co_await co_preallocate_some(image, room, guest, limit, guest);
        if (ret == -ENOSPC && !grown)
            co_return grown;
        if (ret < 0)
            co_return fail_errno(-ret, "Could not preallocate clusters");
    }
    if (has_data_file || room != Room::New)
        co_return {};
    auto cut =
        co_await image.file.co_truncate(static_cast<int64_t>(state.refcounts.fresh_from()), false, PreallocMode::Off);
    if (!cut)
        co_return std::unexpected(std::move(cut.error()).prefixed("Could not resize underlying file"));
    co_return {};
}

}  // namespace ashlar::qcow2
