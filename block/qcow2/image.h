// Image: what the parts of the qcow2 driver share, and the way from a guest offset to where its data are.
//
// Made when opening; the data path uses it from any thread.
#pragma once

#include "block/bdrv_child.h"
#include "block/block_driver.h"
#include "block/qcow2/bitmap_directory.h"
#include "block/qcow2/header.h"
#include "block/qcow2/l1_table.h"
#include "block/qcow2/l2_entry.h"
#include "block/qcow2/metadata_cache.h"
#include "block/qcow2/options.h"
#include "block/qcow2/snapshot_table.h"

#include <atomic>
#include <string>

namespace ashlar::qcow2 {

struct WriteState;

struct Image final : private MetadataCache::Owner {
    ~Image();
    Image(BdrvChild& file_child, BdrvChild& data_child, Header head, std::vector<uint64_t> l1_entries,
          const CacheSizes& sizes, std::string display_name);

    BdrvChild& file;
    BdrvChild& data;  // `file`, if there is no external data file
    const std::string name;
    L2Format format;  // changes when the image itself is changed, with no request in the node
    const Compression compression;
    bool data_file_raw;  // as `format`
    Header header;       // changes with the allocation lock held, by co_write_header()
    std::atomic<uint64_t> l1_offset;
    ImageLength length;
    L1Table l1;
    MetadataCache l2_cache;
    std::unique_ptr<WriteState> writing;  // null: read-only
    std::vector<Snapshot> snapshots;      // the main context's
    uint64_t snapshot_table_bytes = 0;
    std::vector<BitmapEntry> bitmaps;  // persistent ones, as the directory has them; the main context's

    const Geometry& geometry() const { return format.geometry; }

    // The run of `bytes` (> 0, to the end of the image at most) from `guest` on, or of the first of them. Suspends only
    // if an L2 table has to be read. -EIO: the tables make no sense, which has been reported.
    [[nodiscard]] Task<int> co_map(uint64_t guest, uint64_t bytes, Run& run, RunFor what = RunFor::Reading);
    // The same without suspending, if it can be had so; 0 or -EIO then.
    std::optional<int> try_map(uint64_t guest, uint64_t bytes, Run& run, RunFor what = RunFor::Reading);

    // The L2 table at `offset`, a cluster, as it is now.
    [[nodiscard]] Task<int> co_copy_table(uint64_t offset, std::span<std::byte> table);

    // Whether clusters may be holes in the file although the mapping says that they hold data: more of them are in use
    // than the file has room for. Found out once.
    [[nodiscard]] Task<bool> co_has_empty_clusters();

    // Where the L2 entry of `guest` is, in a table that there is.
    uint64_t l2_entry_offset(uint64_t guest) const {
        return (l1.get(geometry().l1_index(guest)) & kOffsetMask) +
               geometry().l2_index(guest) * geometry().l2_entry_bytes();
    }

    // Writes the first cluster and flushes; only then is `header` the image's. With the allocation lock held.
    [[nodiscard]] Task<int> co_write_header(Header next);
    Header header_copy() const;  // without the lock

    // Says so once, and returns -EIO.
    int report_corruption(std::string_view what);
    MetadataCache::Owner& cache_owner() { return *this; }
    bool is_corrupt() const {
        return corrupt_.load(std::memory_order_relaxed) || untrusted_.load(std::memory_order_relaxed);
    }
    bool has_reported() const { return corrupt_.load(std::memory_order_relaxed); }
    // Nothing is to be written, although there is nothing new to report; until it has been repaired.
    void distrust() { untrusted_ = true; }
    void trust() { untrusted_ = corrupt_ = false; }

private:
    Task<int> co_make_clean() override;

    Task<bool> co_find_empty_clusters();

    enum class Known : uint8_t { NotYet, Yes, No };
    std::atomic<Known> empty_clusters_{Known::NotYet};
    mutable std::mutex header_lock_;    // of assignments to `header`
    std::atomic<bool> corrupt_{false};  // which has been reported
    std::atomic<bool> untrusted_{false};
};

}  // namespace ashlar::qcow2
