#include "block/qcow2/preallocate.h"

#include "block/qcow2/write_state.h"

#include <algorithm>
#include <cerrno>

namespace ashlar::qcow2 {

namespace {

// From the cluster at `guest` on, as many as go in one step; `done` is their end. With the lock held.
Task<int> co_preallocate_some(Image& image, uint64_t guest, uint64_t end, uint64_t& done) {
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
    if (!image.format.data_file)
        if (int ret = co_await state.refcounts.co_allocate_fresh(empty, host, got); ret < 0)
            co_return ret;
    // Subclusters stay unallocated: they read as before.
    auto link = [&](uint64_t i, const L2Entry&) { return L2Entry{(host + (i << geometry.cluster_bits)) | kCopied, 0}; };
    while (!state.change_entries(guest, got, link))
        if (int ret = co_await image.l2_cache.co_load(image.l2_entry_offset(guest)); ret < 0)
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
    if (needs_room && guest < end) {
        auto grown =
            co_await image.file.co_truncate(longest_file(image, (end - guest) >> geometry.cluster_bits), false, mode);
        if (!grown)
            co_return std::unexpected(std::move(grown.error()).prefixed("Could not resize underlying file"));
    }
    while (guest < end) {
        auto guard = co_await state.allocation_lock.co_lock();
        uint64_t limit = end;
        if (!co_await state.co_may_change(guard, guest, limit))
            continue;
        if (int ret = co_await co_preallocate_some(image, guest, limit, guest); ret < 0)
            co_return fail_errno(-ret, "Could not preallocate clusters");
    }
    if (has_data_file)
        co_return {};
    auto length = static_cast<int64_t>(state.refcounts.fresh_from());
    if (needs_room || image.file.length() < length)
        if (auto grown = co_await image.file.co_truncate(length, false, PreallocMode::Off); !grown)
            co_return std::unexpected(std::move(grown.error()).prefixed("Could not resize underlying file"));
    co_return {};
}

}  // namespace ashlar::qcow2
