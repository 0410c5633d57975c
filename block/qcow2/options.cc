#include "block/qcow2/options.h"

#include <algorithm>
#include <bit>

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
                      "seconds after which unused entries of the caches are freed (0: never)");
    return set;
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
