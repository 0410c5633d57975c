// WriteState: what an image has besides while it can be written: the allocation lock, what is being allocated, and the
// order in which metadata reach the disk.
//
// The allocation lock guards every change of the mapping. It is held while clusters are taken and while entries are
// changed, and not while guest data are written in between: those who write to clusters that are being allocated wait
// for that allocation, everyone else goes on.
#pragma once

#include "block/qcow2/grace_period.h"
#include "block/qcow2/image.h"
#include "block/qcow2/metadata_map.h"
#include "block/qcow2/refcounts.h"
#include "util/co_mutex.h"
#include "util/co_queue.h"

#include <array>
#include <list>
#include <map>
#include <mutex>

namespace ashlar::qcow2 {

struct WriteState {
    WriteState(Image& image_, MetadataCache::Owner& owner, std::vector<uint64_t> reftable, size_t refcount_cache_bytes)
        : image(image_),
          metadata(image_.geometry()),
          refcounts(image_, owner, std::move(reftable), refcount_cache_bytes) {}
    // Fails if tables of the image are in the same place.
    Result<void> find_metadata();
    // Those of snapshots, which nobody else refers to; if they are to be checked for.
    [[nodiscard]] Task<Result<void>> co_find_inactive_tables();

    Image& image;
    std::array<bool, 3> pass_discards{};  // whether what becomes free is discarded in the file, by FreedBy
    bool passes_discard(FreedBy by) const { return pass_discards[static_cast<size_t>(by)]; }
    bool discard_no_unref = false;  // discarded clusters keep their place
    bool lazy_refcounts = false;    // counts are written late; meanwhile the dirty bit is set
    // The header says what is true while this program writes: no features that others would have to keep consistent,
    // and the dirty bit with lazy refcounts.
    std::atomic<bool> header_is_ours{false};
    uint64_t vm_state_bytes = 0;  // that are behind the disk, for the next snapshot
    CoMutex allocation_lock;
    MetadataMap metadata;
    GracePeriod writers;  // those who write to clusters that they found in the mapping
    Refcounts refcounts;

    // Guest clusters that are being given new host clusters, from [start, end).
    struct Allocation {
        uint64_t start;
        uint64_t end;
        CoQueue ended;
    };
    std::list<Allocation*> allocations;

    // Whether [start, end), whole clusters, can be changed now; if there is an allocation behind its beginning, `end`
    // is cut down to that. If not, waits until something has changed, with the lock given up meanwhile, and returns
    // false.
    [[nodiscard]] Task<bool> co_may_change(CoMutex::Guard& guard, uint64_t start, uint64_t& end);

    // With the lock held: the L2 table for `guest` is there and the image's own; and the piece with its entry in
    // memory.
    [[nodiscard]] Task<int> co_own_l2_table(uint64_t guest);
    void set_l1(uint64_t index, uint64_t entry);

    // Changes `count` L2 entries from the one of `guest` on, all in one piece, with the lock held: fn(i, entry) gives
    // the new one. False: the piece is not in memory.
    template <class Fn>
    bool change_entries(uint64_t guest, uint64_t count, Fn fn) {
        const Geometry& geometry = image.geometry();
        size_t entry_bytes = geometry.l2_entry_bytes();
        return image.l2_cache.modify(image.l2_entry_offset(guest), count * entry_bytes,
                                     [&](std::span<std::byte> bytes) {
                                         for (uint64_t i = 0; i < count; i++) {
                                             std::byte* at = bytes.data() + i * entry_bytes;
                                             store_l2_entry(at, geometry, fn(i, load_l2_entry(at, geometry)));
                                         }
                                     });
    }
    // How many entries from that of `guest` on are in one piece with it.
    uint64_t entries_in_piece(uint64_t guest) const;
    // 0, or -EIO if writing guest data there would destroy metadata, which has been reported.
    int check_data_place(uint64_t host, uint64_t bytes);
    // What `entry` no longer refers to.
    void free_cluster(const L2Entry& entry, FreedBy by = FreedBy::Other);

    // Writes all metadata that have been changed, in an order in which a crash leaves at worst leaked clusters. Without
    // the lock or with it. Nothing need be on stable storage at the end.
    [[nodiscard]] Task<int> co_writeback();
    // The same, with everything on stable storage at the end; but lazy counts.
    [[nodiscard]] Task<int> co_flush();
    // With these as well.
    [[nodiscard]] Task<int> co_flush_all();
    // The same, and what has been freed is free. No request is in the node, and the lock is not held.
    [[nodiscard]] Task<int> co_settle();
    // The dirty bit, if the image can have it. The lock is not held.
    [[nodiscard]] Task<int> co_set_dirty(bool dirty);
    // Reads again what a repair has changed in the file. No request is in the node. On failure nothing can be written.
    [[nodiscard]] Task<Result<void>> co_reload();

    // After a report of corruption: the image says so itself from now on. Gives -EIO.
    [[nodiscard]] Task<int> co_mark_corrupt();

private:
    Task<int> co_barrier();
    Task<int> co_write_parts(const std::vector<DirtyPart>& parts);
    Task<int> co_write_table(const Refcounts::TableEntries& table);
    Task<int> co_writeback_locked(bool flush, bool counts);

    CoMutex writeback_lock_;
    std::mutex dirty_lock_;
    std::vector<uint64_t> dirty_l1_;  // indices
};

}  // namespace ashlar::qcow2
