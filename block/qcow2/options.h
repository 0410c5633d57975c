// What a qcow2 node can be told when it is opened, and what follows from that for its caches.
#pragma once

#include "block/qcow2/format.h"
#include "block/qcow2/metadata_map.h"
#include "util/error.h"
#include "util/options.h"

#include <optional>

namespace ashlar::qcow2 {

struct Qcow2Options {
    BlockdevRef file;
    BlockdevRefOrNull backing;
    BlockdevRef data_file;
    std::optional<Size> cache_size;
    std::optional<Size> l2_cache_size;
    std::optional<Size> l2_cache_entry_size;
    std::optional<Size> refcount_cache_size;
    std::optional<bool> lazy_refcounts;
    unsigned cache_clean_interval = 600;  // seconds; 0: never
    std::optional<bool> pass_discard_request;
    bool pass_discard_snapshot = true;
    bool pass_discard_other = false;
    bool discard_no_unref = false;
    JsonBox overlap_check;

    static const OptionSet<Qcow2Options>& options();
};

struct CacheSizes {
    size_t l2_piece_bytes;
    size_t l2_pieces;
    size_t refcount_pieces;  // of a cluster each
};

// What the option overlap-check says.
Result<MetadataKinds> overlap_checks(const Qcow2Options& options);

Result<CacheSizes> cache_sizes(const Qcow2Options& options, const Geometry& geometry, uint64_t disk_size);

}  // namespace ashlar::qcow2
