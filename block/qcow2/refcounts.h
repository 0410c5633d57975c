// Refcounts: which clusters of the image file are taken, and taking and freeing them.
//
// Everything that is not said to be the writeback's needs the image's allocation lock (write_state.h). Taking a cluster
// changes the refcount blocks in memory at once. Freeing one only notes it: its count goes down when the change that
// made it free is on the disk and flushed, because until then what is on the disk still refers to it. So counts in the
// file may be written at any time, and a crash leaves clusters that are counted too often, never too seldom.
#pragma once

#include "block/bdrv_child.h"
#include "block/qcow2/format.h"
#include "block/qcow2/metadata_cache.h"
#include "util/task.h"

#include <map>
#include <mutex>
#include <vector>

namespace ashlar::qcow2 {

class MetadataMap;
struct Image;

// On whose behalf clusters are given back: which of them are discarded in the file is an option each.
enum class FreedBy : uint8_t { Request, Snapshot, Other };

struct ClusterRange {
    uint64_t first;  // index
    uint64_t count;
    FreedBy by = FreedBy::Other;  // of ranges that are being given back
};

class Refcounts {
public:
    Refcounts(Image& image, MetadataCache::Owner& owner, std::vector<uint64_t> table, size_t cache_bytes);

    // Adds the blocks. Fails if they overlap what is there.
    Result<void> find_metadata(MetadataMap& map) const;

    // The count of one cluster, by index.
    [[nodiscard]] Task<int> co_get(uint64_t cluster, uint64_t& count);
    // Takes clusters in a row: `want` of them, or, unless `exactly`, the first of them. -EFBIG: the format has no room.
    [[nodiscard]] Task<int> co_allocate(uint64_t want, bool exactly, uint64_t& offset, uint64_t& got);
    // The first of `want` clusters in a row that have never been used and read as zeroes.
    [[nodiscard]] Task<int> co_allocate_fresh(uint64_t want, uint64_t& offset, uint64_t& got);
    // Takes room for `bytes` of compressed data, a cluster at most, which may share clusters with others of its kind.
    [[nodiscard]] Task<int> co_allocate_bytes(uint64_t bytes, uint64_t& offset);
    // One more reference to clusters that have some. -ERANGE, and nothing is changed: it does not fit.
    [[nodiscard]] Task<int> co_reference(ClusterRange range);
    // Takes that back: the references were never on the disk.
    [[nodiscard]] Task<int> co_unreference(ClusterRange range);
    // One reference less to each cluster of the byte range, as soon as that is safe.
    void free_later(uint64_t offset, uint64_t bytes, FreedBy by = FreedBy::Other);
    // Behind the last cluster that is in use: what comes after it in the file is of no use.
    [[nodiscard]] Task<int> co_find_end(uint64_t& end);
    // Does now what has become safe since.
    [[nodiscard]] Task<int> co_apply_frees();
    bool has_many_frees() const;
    // Whether there is nothing left to be freed.
    bool has_settled() const;
    // The structures in the file are others now, or have been changed there.
    void reset(std::vector<uint64_t> table);

    // Clusters from here on have never been used since the image was opened: they read as zeroes.
    uint64_t fresh_from() const { return fresh_from_; }

    // --- the writeback's, from any thread ---
    MetadataCache& blocks() { return blocks_; }
    void resize_cache(size_t bytes);  // no request is in the node, and nothing is left to be written
    struct TableEntries {
        uint64_t table_offset = 0;
        std::map<uint64_t, uint64_t> entries;  // by index
    };
    [[nodiscard]] TableEntries take_dirty_table();
    void put_back(TableEntries entries);
    [[nodiscard]] std::vector<ClusterRange> take_frees();
    void put_back(std::vector<ClusterRange> frees);
    void make_safe(std::vector<ClusterRange> frees);  // what they depended on is on the disk

private:
    struct Place {  // of a run of counts that lie in one piece of a block
        uint64_t piece_offset;
        uint64_t index;  // within the piece
        uint64_t left;   // to its end
    };
    uint64_t block_of(uint64_t cluster) const;  // its offset, 0 if there is none
    Place place_of(uint64_t cluster) const;     // there is a block
    Task<int> co_find(uint64_t want, bool exactly, bool only_counted, ClusterRange& found);
    Task<int> co_ensure_block(uint64_t index, bool& made);
    Task<int> co_grow_table(uint64_t needed_entries);
    Task<int> co_free(const std::vector<ClusterRange>& frees);
    Task<int> co_discard_unused(ClusterRange range);
    Task<int> co_take(uint64_t want, bool exactly, uint64_t& offset, uint64_t& got);
    // `done` (if it is not null): how many were changed; what does not fit is then no corruption, but -ERANGE.
    Task<int> co_change(ClusterRange range, int delta, uint64_t* done = nullptr);
    int check_unused(ClusterRange range) const;  // -EIO if metadata are there, which has been reported
    void use(ClusterRange range);

    Image& image_;
    Geometry geometry_;  // changes with the width of the counts, when nobody is looking
    MetadataCache blocks_;
    std::vector<uint64_t> table_;
    uint64_t free_hint_ = 0;  // no cluster below is free
    uint64_t byte_hint_ = 0;  // where the next compressed data could go, in a cluster that has some; 0: nowhere
    uint64_t fresh_from_;     // bytes

    mutable std::mutex lock_;  // of what follows
    std::map<uint64_t, uint64_t> dirty_entries_;
    uint64_t table_offset_;
    std::vector<ClusterRange> frees_;
    std::vector<ClusterRange> safe_frees_;     // nothing on the disk refers to them
    std::vector<ClusterRange> leaving_frees_;  // and only writes that began long ago may be using them
};

}  // namespace ashlar::qcow2
