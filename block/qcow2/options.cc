#include "block/qcow2/options.h"

#include "util/enum_names.h"
#include "util/json.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

namespace ashlar::qcow2 {

namespace {

constexpr uint64_t kMaxDefaultL2Bytes = 32 << 20;
constexpr uint64_t kMinRefcountPieces = 4;
constexpr uint64_t kMinL2Pieces = 2;
constexpr uint64_t kMaxDefaultL2Piece = 64 << 10;

}  // namespace

const OptionSet<Qcow2Options>& Qcow2Options::options() {
    static const auto set =
        OptionSet<Qcow2Options>("qcow2")
            .required("file", &Qcow2Options::file, "the image file")
            .optional("backing", &Qcow2Options::backing, "the backing file (default: the one that the image names)")
            .optional("data-file", &Qcow2Options::data_file,
                      "the external data file (default: the one that the image names)")
            .optional("cache-size", &Qcow2Options::cache_size, "largest size of both metadata caches together")
            .optional("l2-cache-size", &Qcow2Options::l2_cache_size,
                      "largest size of the L2 table cache (default: what the disk needs, at most 32M)")
            .optional("l2-cache-entry-size", &Qcow2Options::l2_cache_entry_size,
                      "size of an entry of the L2 table cache (default: the cluster size, at most 64k)")
            .optional("refcount-cache-size", &Qcow2Options::refcount_cache_size,
                      "largest size of the refcount block cache (default: 4 clusters)")
            .optional("lazy-refcounts", &Qcow2Options::lazy_refcounts,
                      "postpone refcount updates (default: what the image says)")
            .optional("cache-clean-interval", &Qcow2Options::cache_clean_interval,
                      "seconds after which unused entries of the caches are freed (0: never)")
            .optional("pass-discard-request", &Qcow2Options::pass_discard_request,
                      "pass the guest's discards on to the file (default: if discard=unmap)")
            .optional("pass-discard-snapshot", &Qcow2Options::pass_discard_snapshot,
                      "discard in the file what snapshot operations free")
            .optional("pass-discard-other", &Qcow2Options::pass_discard_other,
                      "discard in the file what is freed otherwise")
            .optional("discard-no-unref", &Qcow2Options::discard_no_unref,
                      "discarded clusters keep their place in the file")
            .optional("overlap-check", &Qcow2Options::overlap_check,
                      "which metadata are checked for before each write: none, constant, cached, all; or an object "
                      "with `template` and a switch for each kind");
    return set;
}

namespace {

using enum MetadataKind;

constexpr MetadataKinds kConstantTime = metadata_bit(Header) | metadata_bit(L1) | metadata_bit(Reftable) |
                                        metadata_bit(Snapshots) | metadata_bit(BitmapDirectory);
constexpr MetadataKinds kCached = kConstantTime | metadata_bit(L2) | metadata_bit(Refblock) | metadata_bit(InactiveL1);

enum class OverlapTemplate : uint8_t { None, Constant, Cached, All };
constexpr auto enum_names(OverlapTemplate) {
    return std::to_array<EnumName<OverlapTemplate>>({{OverlapTemplate::None, "none"},
                                                     {OverlapTemplate::Constant, "constant"},
                                                     {OverlapTemplate::Cached, "cached"},
                                                     {OverlapTemplate::All, "all"}});
}

struct OverlapChecks {
    OverlapTemplate base = OverlapTemplate::Cached;
    std::optional<bool> main_header, active_l1, active_l2, refcount_table, refcount_block, snapshot_table, inactive_l1,
        inactive_l2, bitmap_directory;

    static const OptionSet<OverlapChecks>& options() {
        static const auto set =
            OptionSet<OverlapChecks>("overlap-check")
                .optional("template", &OverlapChecks::base, "what is checked for unless said otherwise")
                .optional("main-header", &OverlapChecks::main_header, "the header")
                .optional("active-l1", &OverlapChecks::active_l1, "the active L1 table")
                .optional("active-l2", &OverlapChecks::active_l2, "active L2 tables")
                .optional("refcount-table", &OverlapChecks::refcount_table, "the refcount table")
                .optional("refcount-block", &OverlapChecks::refcount_block, "refcount blocks")
                .optional("snapshot-table", &OverlapChecks::snapshot_table, "the snapshot table")
                .optional("inactive-l1", &OverlapChecks::inactive_l1, "L1 tables of snapshots")
                .optional("inactive-l2", &OverlapChecks::inactive_l2, "L2 tables of snapshots")
                .optional("bitmap-directory", &OverlapChecks::bitmap_directory, "the bitmap directory");
        return set;
    }
};

MetadataKinds kinds_of(OverlapTemplate base) {
    switch (base) {
        case OverlapTemplate::None:
            return 0;
        case OverlapTemplate::Constant:
            return kConstantTime;
        case OverlapTemplate::Cached:
            return kCached;
        case OverlapTemplate::All:
            return kAllMetadata;
    }
    return kAllMetadata;
}

}  // namespace

Result<MetadataKinds> overlap_checks(const Qcow2Options& options) {
    if (!options.overlap_check.has_value())
        return kCached;
    const Json& given = *options.overlap_check;
    auto checks =
        OverlapChecks::options().parse(given.is_object() ? given : Json{{"template", given}}, Typing::Lenient);
    if (!checks)
        return std::unexpected(std::move(checks.error()).prefixed("overlap-check"));
    MetadataKinds kinds = kinds_of(checks->base);
    for (auto [wanted, kind] : {std::pair{checks->main_header, Header},
                                {checks->active_l1, L1},
                                {checks->active_l2, L2},
                                {checks->refcount_table, Reftable},
                                {checks->refcount_block, Refblock},
                                {checks->snapshot_table, Snapshots},
                                {checks->inactive_l1, InactiveL1},
                                {checks->inactive_l2, InactiveL2},
                                {checks->bitmap_directory, BitmapDirectory}})
        if (wanted)
            kinds = *wanted ? kinds | metadata_bit(kind) : kinds & ~metadata_bit(kind);
    return kinds;
}

Result<CacheSizes> cache_sizes(const Qcow2Options& options, const Geometry& geometry, uint64_t disk_size) {
    uint64_t cluster = geometry.cluster_size();
    uint64_t piece = options.l2_cache_entry_size.value_or(Size{std::min(cluster, kMaxDefaultL2Piece)});
    if (!std::has_single_bit(piece) || piece < 512 || piece > cluster)
        return fail("L2 cache entry size must be a power of two between 512 and the cluster size ({})", cluster);

    uint64_t whole_disk = geometry.clusters(disk_size) * geometry.l2_entry_bytes();
    uint64_t l2 = 0, refcount = kMinRefcountPieces * cluster;
    if (options.cache_size) {
        uint64_t both = *options.cache_size;
        if (options.l2_cache_size && options.refcount_cache_size)
            return fail("cache-size, l2-cache-size and refcount-cache-size may not be set at the same time");
        if (options.l2_cache_size && *options.l2_cache_size > both)
            return fail("l2-cache-size may not exceed cache-size");
        if (options.refcount_cache_size && *options.refcount_cache_size > both)
            return fail("refcount-cache-size may not exceed cache-size");
        if (options.l2_cache_size) {
            l2 = *options.l2_cache_size;
            refcount = both - l2;
        } else if (options.refcount_cache_size) {
            refcount = *options.refcount_cache_size;
            l2 = both - refcount;
        } else {  // all for the L2 tables that they can use
            l2 = std::min(whole_disk, both - std::min(both, refcount));
            refcount = both - l2;
        }
    } else {
        l2 = options.l2_cache_size.value_or(Size{kMaxDefaultL2Bytes});
        refcount = options.refcount_cache_size.value_or(Size{refcount});
    }
    // More than the whole disk's would never be used.
    l2 = std::min(l2, whole_disk + cluster);
    uint64_t l2_pieces = std::max((l2 + piece - 1) / piece, kMinL2Pieces);
    uint64_t refcount_pieces = std::max((refcount + cluster - 1) / cluster, kMinRefcountPieces);
    if (l2_pieces > INT32_MAX)
        return fail("L2 cache size too big");
    if (refcount_pieces > INT32_MAX)
        return fail("Refcount cache size too big");
    return CacheSizes{piece, l2_pieces, refcount_pieces};
}

}  // namespace ashlar::qcow2
