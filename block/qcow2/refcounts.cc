#include "block/qcow2/refcounts.h"

#include "block/qcow2/image.h"
#include "block/qcow2/refcount_entry.h"
#include "block/qcow2/write_state.h"

#include <algorithm>
#include <cerrno>

namespace ashlar::qcow2 {

namespace {

constexpr size_t kMaxPiece = 64 << 10;
constexpr size_t kManyFrees = 4096;

}  // namespace

Refcounts::Refcounts(Image& image, MetadataCache::Owner& owner, std::vector<uint64_t> table, size_t cache_bytes)
    : image_(image),
      geometry_(image.geometry()),
      blocks_(image.file, owner, std::min<size_t>(geometry_.cluster_size(), kMaxPiece),
              std::max<size_t>(cache_bytes / std::min<size_t>(geometry_.cluster_size(), kMaxPiece), 4)),
      table_(std::move(table)),
      fresh_from_(geometry_.cluster_end(static_cast<uint64_t>(std::max<int64_t>(image.file.length(), 0)))),
      table_offset_(image.header.reftable_offset) {}

Result<void> Refcounts::find_metadata(MetadataMap& map) const {
    for (size_t i = 0; i < table_.size(); i++)
        if (table_[i] != 0 && !map.add(MetadataKind::Refblock, table_[i], geometry_.cluster_size()))
            return fail("refcount table entry {}: the refcount block at {:#x} overlaps other metadata", i, table_[i]);
    return {};
}

uint64_t Refcounts::block_of(uint64_t cluster) const {
    uint64_t index = cluster >> geometry_.refblock_bits();
    return index < table_.size() ? table_[index] & kReftableOffsetMask : 0;
}

Refcounts::Place Refcounts::place_of(uint64_t cluster) const {
    uint64_t per_piece = (uint64_t{blocks_.piece_bytes()} * 8) >> geometry_.refcount_order;
    uint64_t in_block = cluster & (geometry_.refblock_entries() - 1);
    uint64_t index = in_block & (per_piece - 1);
    return {block_of(cluster) + in_block / per_piece * blocks_.piece_bytes(), index, per_piece - index};
}

Task<int> Refcounts::co_get(uint64_t cluster, uint64_t& count) {
    count = 0;
    if (block_of(cluster) == 0)
        co_return 0;
    Place place = place_of(cluster);
    while (!blocks_.read(place.piece_offset, [&](std::span<const std::byte> piece) {
        count = get_refcount(piece.data(), place.index, geometry_.refcount_order);
    }))
        if (int ret = co_await blocks_.co_load(place.piece_offset); ret < 0)
            co_return ret;
    co_return 0;
}

// The first free clusters, from free_hint_ on; `only_counted`: among those that a refcount block describes, else
// -ENOSPC.
Task<int> Refcounts::co_find(uint64_t want, bool exactly, bool only_counted, ClusterRange& found) {
    const uint64_t end = kMaxHostOffset >> geometry_.cluster_bits;
    uint64_t at = free_hint_, first_free = end;
    ClusterRange run{at, 0};
    bool done = false;
    while (!done && run.count < want) {
        if (at >= end)
            co_return -EFBIG;
        if (block_of(at) == 0) {
            if (only_counted) {
                if (run.count > 0 && !exactly)
                    break;
                co_return -ENOSPC;
            }
            uint64_t n =
                std::min(want - run.count, geometry_.refblock_entries() - (at & (geometry_.refblock_entries() - 1)));
            run.count += n;
            at += n;
            continue;
        }
        Place place = place_of(at);
        bool read = blocks_.read(place.piece_offset, [&](std::span<const std::byte> piece) {
            for (uint64_t i = 0; i < place.left && run.count < want; i++, at++) {
                if (get_refcount(piece.data(), place.index + i, geometry_.refcount_order) == 0) {
                    run.count++;
                } else {
                    if (run.count > 0) {
                        first_free = std::min(first_free, run.first);
                        if (!exactly) {
                            done = true;
                            return;
                        }
                    }
                    run = {at + 1, 0};
                }
            }
        });
        if (!read)
            if (int ret = co_await blocks_.co_load(place.piece_offset); ret < 0)
                co_return ret;
    }
    free_hint_ = std::min(first_free, run.first);  // everything before it is in use
    found = run;
    co_return 0;
}

int Refcounts::check_unused(ClusterRange range) const {
    MetadataKind what;
    uint64_t offset = range.first << geometry_.cluster_bits;
    if (!image_.writing->metadata.overlaps(offset, range.count << geometry_.cluster_bits, what))
        return 0;
    return image_.report_corruption(fmt::format(
        "the refcount of a cluster at or behind {:#x}, which belongs to the {}, is 0", offset, metadata_name(what)));
}

void Refcounts::use(ClusterRange range) {
    if (range.first == free_hint_)
        free_hint_ += range.count;
    fresh_from_ = std::max(fresh_from_, (range.first + range.count) << geometry_.cluster_bits);
}

Task<int> Refcounts::co_allocate(uint64_t want, bool exactly, uint64_t& offset, uint64_t& got) {
    if (int ret = co_await co_apply_frees(); ret < 0)
        co_return ret;
    co_return co_await co_take(want, exactly, offset, got);
}

Task<int> Refcounts::co_take(uint64_t want, bool exactly, uint64_t& offset, uint64_t& got) {
    for (;;) {
        ClusterRange found;
        if (int ret = co_await co_find(want, exactly, false, found); ret < 0)
            co_return ret;
        if (int ret = check_unused(found); ret < 0)
            co_return ret;
        bool made = false;
        for (uint64_t i = found.first >> geometry_.refblock_bits();
             !made && i <= (found.first + found.count - 1) >> geometry_.refblock_bits(); i++)
            if (int ret = co_await co_ensure_block(i, made); ret < 0)
                co_return ret;
        if (made)
            continue;  // which may have taken some of these
        if (int ret = co_await co_change(found, 1); ret < 0)
            co_return ret;
        offset = found.first << geometry_.cluster_bits;
        got = found.count;
        use(found);
        co_return 0;
    }
}

Task<int> Refcounts::co_allocate_fresh(uint64_t want, uint64_t& offset, uint64_t& got) {
    uint64_t hint = std::exchange(free_hint_, std::max(free_hint_, fresh_from_ >> geometry_.cluster_bits));
    int ret = co_await co_take(want, false, offset, got);
    free_hint_ = hint;
    co_return ret;
}

Task<int> Refcounts::co_allocate_bytes(uint64_t bytes, uint64_t& offset) {
    if (int ret = co_await co_apply_frees(); ret < 0)
        co_return ret;
    const ClusterRange shared{byte_hint_ >> geometry_.cluster_bits, 1};
    uint64_t left = 0;
    if (byte_hint_ != 0) {
        uint64_t count;
        if (int ret = co_await co_get(shared.first, count); ret < 0)
            co_return ret;
        if (count > 0 && count < geometry_.max_refcount())
            left = geometry_.cluster_size() - geometry_.in_cluster(byte_hint_);
    }
    offset = byte_hint_;
    if (left < bytes) {
        uint64_t taken, got;
        if (int ret = co_await co_take(1, true, taken, got); ret < 0)
            co_return ret;
        if (left == 0 || taken != byte_hint_ + left) {
            offset = taken;
            left = 0;
        }
    }
    if (left > 0)
        if (int ret = co_await co_reference(shared); ret < 0)
            co_return ret;
    byte_hint_ = geometry_.in_cluster(offset + bytes) == 0 ? 0 : offset + bytes;
    co_return 0;
}

Task<int> Refcounts::co_reference(ClusterRange range) {
    for (uint64_t at = range.first; at < range.first + range.count;) {
        uint64_t n = std::min(range.first + range.count - at,
                              geometry_.refblock_entries() - (at & (geometry_.refblock_entries() - 1)));
        uint64_t done = 0;
        int ret = block_of(at) ? co_await co_change({at, n}, 1, &done)
                               : image_.report_corruption(fmt::format("a cluster in use at {:#x} has no refcount",
                                                                      at << geometry_.cluster_bits));
        if (ret < 0) {
            (void)co_await co_unreference({range.first, at - range.first + done});
            co_return ret;
        }
        at += n;
    }
    co_return 0;
}

Task<int> Refcounts::co_unreference(ClusterRange range) {
    for (uint64_t at = range.first; at < range.first + range.count;) {
        uint64_t n = std::min(range.first + range.count - at,
                              geometry_.refblock_entries() - (at & (geometry_.refblock_entries() - 1)));
        if (int ret = co_await co_change({at, n}, -1); ret < 0)
            co_return ret;
        at += n;
    }
    co_return 0;
}

void Refcounts::reset(std::vector<uint64_t> table) {
    geometry_ = image_.geometry();
    table_ = std::move(table);
    blocks_.drop(0, ~uint64_t{0});
    free_hint_ = 0;
    byte_hint_ = 0;
    fresh_from_ =
        std::max(fresh_from_, geometry_.cluster_end(static_cast<uint64_t>(std::max<int64_t>(image_.file.length(), 0))));
    std::lock_guard guard(lock_);
    dirty_entries_.clear();
    table_offset_ = image_.header.reftable_offset;
    frees_.clear();
    safe_frees_.clear();
    leaving_frees_.clear();
}

// A new block is written as a whole before the table refers to it.
Task<int> Refcounts::co_ensure_block(uint64_t index, bool& made) {
    if (index < table_.size() && (table_[index] & kReftableOffsetMask))
        co_return 0;
    made = true;
    if (index >= table_.size())
        co_return co_await co_grow_table(index + 1);
    ClusterRange where;
    int ret = co_await co_find(1, true, true, where);
    bool counts_itself = ret == -ENOSPC;
    if (ret < 0 && !counts_itself)
        co_return ret;
    if (counts_itself)  // all that it describes is free: it takes the first for itself
        where = {index << geometry_.refblock_bits(), 1};
    if (ret = check_unused(where); ret < 0)
        co_return ret;
    Buffer block(geometry_.cluster_size());
    std::ranges::fill(block.span(), std::byte{0});
    if (counts_itself)
        set_refcount(block.data(), 0, geometry_.refcount_order, 1);
    uint64_t offset = where.first << geometry_.cluster_bits;
    ret =
        co_await image_.file.co_pwrite(static_cast<int64_t>(offset), static_cast<int64_t>(block.size()), block.data());
    if (ret < 0)
        co_return ret;
    if (!counts_itself)
        if (ret = co_await co_change(where, 1); ret < 0)
            co_return ret;
    use(where);
    table_[index] = offset;
    image_.writing->metadata.add(MetadataKind::Refblock, offset, geometry_.cluster_size());
    std::lock_guard guard(lock_);
    dirty_entries_[index] = offset;
    co_return 0;
}

// Puts a larger table behind everything that the old one can describe, with the blocks that count it and themselves.
Task<int> Refcounts::co_grow_table(uint64_t needed_entries) {
    // The new table names all blocks: what they count them with must be on the disk before it is.
    if (int ret = co_await image_.writing->co_flush_all(); ret < 0)
        co_return ret;
    uint64_t cluster = geometry_.cluster_size();
    uint64_t base = uint64_t{table_.size()} << geometry_.refblock_bits();
    uint64_t limit = kMaxReftableBytes >> geometry_.cluster_bits;
    uint64_t blocks = 1, clusters = 0;
    for (;;) {
        uint64_t entries = std::max(needed_entries, table_.size() + blocks);
        uint64_t least = geometry_.clusters(entries * 8);
        if (least > limit)
            co_return -EFBIG;
        clusters = std::min(std::max(least, 2 * geometry_.clusters(table_.size() * 8)), limit);
        uint64_t need = (blocks + clusters + geometry_.refblock_entries() - 1) >> geometry_.refblock_bits();
        if (need <= blocks)
            break;
        blocks = need;
    }
    if ((base + blocks + clusters) > kMaxHostOffset >> geometry_.cluster_bits)
        co_return -EFBIG;
    if (int ret = check_unused({base, blocks + clusters}); ret < 0)
        co_return ret;

    std::vector<uint64_t> table(clusters * cluster / 8);
    std::ranges::copy(table_, table.begin());
    for (uint64_t i = 0; i < blocks; i++)
        table[table_.size() + i] = (base + i) << geometry_.cluster_bits;
    std::vector<std::byte> bytes((blocks + clusters) * cluster);
    for (uint64_t i = 0; i < blocks + clusters; i++)
        set_refcount(bytes.data(), i, geometry_.refcount_order, 1);
    for (size_t i = 0; i < table.size(); i++)
        store_be<uint64_t>(bytes.data() + blocks * cluster + i * 8, table[i]);
    int ret = co_await image_.file.co_pwrite(static_cast<int64_t>(base << geometry_.cluster_bits),
                                             static_cast<int64_t>(bytes.size()), bytes.data());
    if (ret < 0)
        co_return ret;
    if (ret = co_await image_.file.co_flush(); ret < 0)
        co_return ret;
    Header header = image_.header;
    header.reftable_offset = (base + blocks) << geometry_.cluster_bits;
    header.reftable_clusters = static_cast<uint32_t>(clusters);
    if (ret = co_await image_.co_write_header(header); ret < 0)
        co_return ret;
    use({base, blocks + clusters});
    uint64_t old_bytes = geometry_.cluster_end(table_.size() * 8);
    uint64_t old_offset = table_offset_;
    table_ = std::move(table);
    MetadataMap& metadata = image_.writing->metadata;
    metadata.remove(old_offset, old_bytes);
    metadata.add(MetadataKind::Refblock, base << geometry_.cluster_bits, blocks * cluster);
    metadata.add(MetadataKind::Reftable, header.reftable_offset, clusters * cluster);
    {
        std::lock_guard guard(lock_);
        table_offset_ = header.reftable_offset;
        dirty_entries_.clear();  // they were written with it
    }
    free_later(old_offset, old_bytes);
    co_return 0;
}

// There are blocks for all of the range.
Task<int> Refcounts::co_change(ClusterRange range, int delta, uint64_t* done) {
    uint64_t at = range.first, end = range.first + range.count;
    while (at < end) {
        Place place = place_of(at);
        uint64_t n = std::min(place.left, end - at);
        bool bad = false, full = false;
        unsigned order = geometry_.refcount_order;
        uint64_t begin = (place.index << order) / 8, behind = (((place.index + n) << order) + 7) / 8;
        bool there = blocks_.modify(place.piece_offset + begin, behind - begin, [&](std::span<std::byte> bytes) {
            std::byte* piece = bytes.data() - begin;
            for (uint64_t i = 0; done && i < n; i++) {
                uint64_t count = get_refcount(piece, place.index + i, order);
                full |= count == geometry_.max_refcount();
                bad |= count == 0;
            }
            if (full || bad)
                return;
            for (uint64_t i = 0; i < n; i++) {
                uint64_t count = get_refcount(piece, place.index + i, order);
                if (delta < 0 ? count == 0 : count == geometry_.max_refcount()) {
                    bad = true;
                    continue;
                }
                count += static_cast<uint64_t>(delta);
                set_refcount(piece, place.index + i, order, count);
                if (count == 0) {
                    free_hint_ = std::min(free_hint_, at + i);
                    if (byte_hint_ >> geometry_.cluster_bits == at + i)
                        byte_hint_ = 0;  // it may be anything next
                }
            }
        });
        if (!there) {
            if (int ret = co_await blocks_.co_load(place.piece_offset); ret < 0)
                co_return ret;
            continue;
        }
        if (full)
            co_return -ERANGE;
        if (bad)
            co_return image_.report_corruption(fmt::format("refcount of a cluster at {:#x} cannot be changed by {}",
                                                           at << geometry_.cluster_bits, delta));
        at += n;
        if (done)
            *done += n;
    }
    co_return 0;
}

void Refcounts::free_later(uint64_t offset, uint64_t bytes, FreedBy by) {
    ClusterRange range{offset >> geometry_.cluster_bits, 0, by};
    range.count = geometry_.clusters(offset + bytes) - range.first;
    std::lock_guard guard(lock_);
    if (!frees_.empty() && frees_.back().first + frees_.back().count == range.first && frees_.back().by == by)
        frees_.back().count += range.count;
    else
        frees_.push_back(range);
}

bool Refcounts::has_many_frees() const {
    std::lock_guard guard(lock_);
    return frees_.size() >= kManyFrees;
}

Task<int> Refcounts::co_find_end(uint64_t& end) {
    for (uint64_t i = table_.size(); i-- > 0;) {
        if (block_of(i << geometry_.refblock_bits()) == 0)
            continue;
        for (uint64_t at = (i + 1) << geometry_.refblock_bits(); at-- > i << geometry_.refblock_bits();) {
            uint64_t count;
            if (int ret = co_await co_get(at, count); ret < 0)
                co_return ret;
            if (count > 0) {
                end = (at + 1) << geometry_.cluster_bits;
                co_return 0;
            }
        }
    }
    end = 0;
    co_return 0;
}

bool Refcounts::has_settled() const {
    std::lock_guard guard(lock_);
    return frees_.empty() && safe_frees_.empty() && leaving_frees_.empty();
}

Task<int> Refcounts::co_apply_frees() {
    for (;;) {
        std::vector<ClusterRange> frees;
        {
            std::lock_guard guard(lock_);
            if ((safe_frees_.empty() && leaving_frees_.empty()) || !image_.writing->writers.try_advance())
                co_return 0;
            frees = std::exchange(leaving_frees_, std::exchange(safe_frees_, {}));
        }
        if (int ret = co_await co_free(frees); ret < 0)
            co_return ret;
    }
}

Task<int> Refcounts::co_free(const std::vector<ClusterRange>& frees) {
    for (ClusterRange range : frees) {
        // A hostile image may have entries that point to where nothing is counted.
        for (uint64_t at = range.first; at < range.first + range.count;) {
            uint64_t n = std::min(range.first + range.count - at,
                                  geometry_.refblock_entries() - (at & (geometry_.refblock_entries() - 1)));
            int ret = block_of(at) ? co_await co_change({at, n}, -1)
                                   : image_.report_corruption(fmt::format("a cluster in use at {:#x} has no refcount",
                                                                          at << geometry_.cluster_bits));
            if (ret < 0)
                co_return ret;
            at += n;
        }
    }
    for (ClusterRange range : frees)
        if (image_.writing->passes_discard(range.by))
            if (int ret = co_await co_discard_unused(range); ret < 0)
                co_return ret;
    co_return 0;
}

// In the file, which may or may not do it.
Task<int> Refcounts::co_discard_unused(ClusterRange range) {
    uint64_t run = 0;  // of unused clusters before `at`
    for (uint64_t at = range.first;; at++) {
        bool unused = false;
        if (at < range.first + range.count && at << geometry_.cluster_bits < fresh_from_) {
            uint64_t count;
            if (int ret = co_await co_get(at, count); ret < 0)
                co_return ret;
            unused = count == 0;
        }
        if (unused) {
            run++;
            continue;
        }
        if (run > 0)
            co_await image_.file.co_pdiscard(static_cast<int64_t>((at - run) << geometry_.cluster_bits),
                                             static_cast<int64_t>(run << geometry_.cluster_bits));
        run = 0;
        if (at >= range.first + range.count)
            co_return 0;
    }
}

void Refcounts::resize_cache(size_t bytes) {
    blocks_.resize(blocks_.piece_bytes(), std::max<size_t>(bytes / blocks_.piece_bytes(), 4));
}

Refcounts::TableEntries Refcounts::take_dirty_table() {
    std::lock_guard guard(lock_);
    return {table_offset_, std::exchange(dirty_entries_, {})};
}

void Refcounts::put_back(TableEntries entries) {
    std::lock_guard guard(lock_);
    if (entries.table_offset == table_offset_)
        dirty_entries_.merge(entries.entries);
}

std::vector<ClusterRange> Refcounts::take_frees() {
    std::lock_guard guard(lock_);
    return std::exchange(frees_, {});
}

void Refcounts::put_back(std::vector<ClusterRange> frees) {
    std::lock_guard guard(lock_);
    frees_.insert(frees_.end(), frees.begin(), frees.end());
}

void Refcounts::make_safe(std::vector<ClusterRange> frees) {
    std::lock_guard guard(lock_);
    safe_frees_.insert(safe_frees_.end(), frees.begin(), frees.end());
}

}  // namespace ashlar::qcow2
