// Checking and repairing: every reference in the image is counted, and compared with what the refcount blocks say.
//
// In the main context, with no request that writes in the node. What is in memory only has been written before; what a
// repair has changed is read again afterwards (WriteState::co_reload()). Everything is read from the file itself, which
// may be hostile: memory is bounded by the size of the file, and what is in two places is looked at once.
#pragma once

#include "block/image_format.h"
#include "block/qcow2/cluster_counts.h"
#include "block/qcow2/image.h"

#include <optional>
#include <unordered_map>
#include <vector>

namespace ashlar::qcow2 {

// Checks, and repairs what `fix` says, for which the image must be writable. The order of what a repair writes is such
// that the image is at no time worse than it was before. When nothing is wrong any more, the dirty and the corrupt bit
// go.
[[nodiscard]] Task<Result<ImageCheck>> co_check(Image& image, CheckFix fix, CheckReporter report);

// --- the parts of it ---

struct Check {
    Check(Image& image_, CheckFix fix_, const CheckReporter& report_, uint64_t length)
        : image(image_),
          fix(fix_),
          report(report_),
          file_length(length),
          clusters(image_.geometry().clusters(length)) {}

    Image& image;
    const CheckFix fix;
    const CheckReporter& report;
    const uint64_t file_length;  // bytes
    const uint64_t clusters;     // of the file
    ImageCheck result;
    ImageCheck::Clusters statistics;
    ClusterCounts references;                       // geometry.max_refcount() at most
    std::unordered_map<uint64_t, uint64_t> beyond;  // by cluster, those that there is no room for in `references`
    std::vector<uint64_t> reftable;                 // as it is in the file; 0 where a block is of no use
    std::vector<uint64_t> counted_blocks;           // offsets of all those that were counted as references
    struct Dangling {
        uint64_t first, end;  // clusters
        uint64_t times;
    };
    std::vector<Dangling> dangling;     // references to what is behind the end of the file, for a rebuild
    int64_t structure_corruptions = 0;  // what a rebuild puts right of the others
    std::vector<uint64_t> tables;       // offsets of L2 tables, each once
    bool must_rebuild = false;          // the refcount structures cannot be repaired where they are
    bool incomplete = false;            // something that refers to clusters could not be followed
    // What the snapshot table is to say, `repairs` of which are counted as done; written when all else is right.
    struct NewSnapshots {
        std::vector<Snapshot> snapshots;
        uint64_t old_bytes = 0;
        int64_t repairs = 0;
    };
    std::optional<NewSnapshots> new_snapshots;
    ClusterCounts counted_wrongly;  // what the file says, plus one, where that is not the number of references

    template <class... Args>
    void say(fmt::format_string<Args...> format, Args&&... args) {
        report(fmt::format(format, std::forward<Args>(args)...));
    }
    // `format` goes on behind "ERROR".
    template <class... Args>
    void corruption(fmt::format_string<Args...> format, Args&&... args) {
        report("ERROR" + fmt::format(format, std::forward<Args>(args)...));
        result.corruptions++;
    }
    // The same for one that is going to be repaired, if it may be: true.
    template <class... Args>
    bool repairs(bool repair, fmt::format_string<Args...> format, Args&&... args) {
        report((repair ? "Repairing" : "ERROR") + fmt::format(format, std::forward<Args>(args)...));
        (repair ? result.corruptions_fixed : result.corruptions)++;
        return repair;
    }
    bool fixes_all() const { return fix == CheckFix::All; }
    void error(int ret, std::string_view what);

    // So many more references to what is there.
    void count(uint64_t offset, uint64_t bytes, uint64_t times = 1);
    // One less.
    void uncount(uint64_t cluster);
    uint64_t times_counted(uint64_t cluster) const {
        auto more = beyond.find(cluster);
        return references.get(cluster) + (more != beyond.end() ? more->second : 0);
    }
    // What the file says, or is going to when the repair is done.
    uint64_t refcount(uint64_t cluster) const {
        uint64_t wrong = counted_wrongly.get(cluster);
        return wrong != 0 ? wrong - 1 : references.get(cluster);
    }

    // Reads what may be partly behind the end of the file, which is zeroes there. -EIO: all of it is.
    [[nodiscard]] Task<int> co_read(uint64_t offset, std::span<std::byte> out) const;
    [[nodiscard]] Task<int> co_write(uint64_t offset, std::span<const std::byte> data) const;
    // A table of 64-bit numbers. False: it cannot be read, which has been reported; what it refers to is not known.
    [[nodiscard]] Task<bool> co_read_table(uint64_t offset, uint64_t entries, std::string_view what,
                                           std::vector<uint64_t>& table);
};

// check_references.cc: fills in `references`, `reftable` and `statistics`, and repairs entries that need not refer to
// anything.
[[nodiscard]] Task<int> co_count_references(Check& check);
// check_snapshots.cc: the snapshot table; says where the L1 tables are, which it does not count.
struct L1Place {
    uint64_t offset;
    uint64_t entries;
};
[[nodiscard]] Task<int> co_count_snapshots(Check& check, std::vector<L1Place>& l1_tables);
// check_bitmaps.cc: the bitmap directory and what it refers to.
[[nodiscard]] Task<int> co_count_bitmaps(Check& check);
// check_refcounts.cc: compares with the refcount blocks, and, for a `fix`, repairs them where they are.
[[nodiscard]] Task<int> co_compare_refcounts(Check& check, CheckFix fix);
// check_copied.cc: the flags of the active tables that say that a refcount is one.
[[nodiscard]] Task<int> co_check_copied(Check& check);
// check.cc: takes the refcount table and its blocks out of what has been counted.
void forget_refcount_structures(Check& check);
// refcount_rebuild.cc: behind which cluster the new structures would end that begin with cluster `first`.
Result<uint64_t> end_of_rebuilt(const ClusterCounts& references, const Geometry& geometry, uint64_t first);
// Writes a new refcount table with new blocks, whose counts have 2^order bits, from cluster
// `first` on, behind which nothing is used, and makes it the image's. `references` is without the old ones. `header` is
// written with it.
[[nodiscard]] Task<Result<void>> co_rebuild_refcounts(Image& image, const ClusterCounts& references, uint64_t first,
                                                      Header header);

}  // namespace ashlar::qcow2
