// Checking and repairing: every reference in the image is counted, and compared with what the refcount blocks say.
//
// In the main context, with no request in the node. What is in memory only has been written before, and nothing that
// was changed by a repair is in memory afterwards but through WriteState::reload().
#pragma once

#include "block/image_format.h"
#include "block/qcow2/image.h"
#include "block/qcow2/reference_map.h"

#include <unordered_map>
#include <vector>

namespace ashlar::qcow2 {

// Checks, and repairs what `fix` says, for which the image must be writable.
[[nodiscard]] Task<Result<ImageCheck>> co_check(Image& image, CheckFix fix, const CheckReporter& report);

// --- the parts of it ---

struct Check {
    Check(Image& image_, CheckFix fix_, const CheckReporter& report_, uint64_t file_length)
        : image(image_), fix(fix_), report(report_), references(image_.geometry(), file_length) {}

    Image& image;
    const CheckFix fix;
    const CheckReporter& report;
    ImageCheck result;
    ImageCheck::Clusters clusters;
    ReferenceMap references;
    std::vector<uint64_t> reftable;         // as it is in the file; 0 where a block is of no use
    std::vector<uint64_t> refcount_blocks;  // all that `references` includes
    bool must_rebuild = false;              // the refcount structures cannot be repaired where they are
    bool incomplete = false;                // something that refers to clusters could not be followed
    // Of clusters that are referred to: what the file says of them if that is something else.
    std::unordered_map<uint64_t, uint64_t> counted_wrongly;

    template <class... Args>
    void say(fmt::format_string<Args...> format, Args&&... args) {
        report(fmt::format(format, std::forward<Args>(args)...));
    }
    template <class... Args>
    void corruption(fmt::format_string<Args...> format, Args&&... args) {
        report("ERROR " + fmt::format(format, std::forward<Args>(args)...));
        result.corruptions++;
    }
    // The same for one that is going to be repaired, if it may be: true.
    template <class... Args>
    bool repairs(fmt::format_string<Args...> format, Args&&... args) {
        bool repair = fix == CheckFix::All;
        report((repair ? "Repairing " : "ERROR ") + fmt::format(format, std::forward<Args>(args)...));
        (repair ? result.corruptions_fixed : result.corruptions)++;
        return repair;
    }
    void error(int ret, std::string_view what);
    // One more reference to what is there.
    void count(uint64_t offset, uint64_t bytes);
    uint64_t refcount(uint64_t cluster) const {
        auto found = counted_wrongly.find(cluster);
        return found == counted_wrongly.end() ? references.get(cluster) : found->second;
    }
};

// check_references.cc: fills in `references`, `reftable` and `clusters`.
[[nodiscard]] Task<Result<void>> co_count_references(Check& check);
// check_refcounts.cc: compares with the refcount blocks, and repairs them where they are.
[[nodiscard]] Task<int> co_compare_refcounts(Check& check, CheckFix fix);
// check_copied.cc: the flags of the active tables that say that a refcount is one.
[[nodiscard]] Task<int> co_check_copied(Check& check);
// refcount_rebuild.cc: writes a new refcount table with new blocks, with counts of 2^order bits, behind everything that
// `references` knows, and makes it the image's; `references` is without the old ones. Clears what is in `clear` of the
// incompatible features.
[[nodiscard]] Task<Result<void>> co_rebuild_refcounts(Image& image, const ReferenceMap& references, unsigned order,
                                                      uint64_t clear);

}  // namespace ashlar::qcow2
