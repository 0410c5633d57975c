#include "block/qcow2/write_state.h"
#include "util/byte_order.h"
#include "util/task_scope.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <map>

namespace ashlar::qcow2 {

namespace {

constexpr unsigned kParallelWrites = 16;
constexpr uint64_t kSectorEntries = kSectorSize / 8;

struct PartsWriter {
    BdrvChild& file;
    const std::vector<DirtyPart>& parts;
    size_t next = 0;
    int ret = 0;
    TaskScope scope;
};

Task<void> co_write_some(PartsWriter& writer) {
    while (writer.ret == 0 && writer.next < writer.parts.size()) {
        const DirtyPart& part = writer.parts[writer.next++];
        int ret = co_await writer.file.co_pwrite(static_cast<int64_t>(part.offset),
                                                 static_cast<int64_t>(part.data.size()), part.data.data());
        if (ret < 0)
            writer.ret = ret;
    }
}

}  // namespace

Task<int> WriteState::co_barrier() {
    if (&image.data != &image.file)
        if (int ret = co_await image.data.co_flush(); ret < 0)
            co_return ret;
    co_return co_await image.file.co_flush();
}

Task<int> WriteState::co_write_parts(const std::vector<DirtyPart>& parts) {
    PartsWriter writer{image.file, parts, 0, 0, {}};
    for (size_t i = 1; i < std::min<size_t>(kParallelWrites, parts.size()); i++)
        writer.scope.spawn(co_write_some(writer));
    co_await co_write_some(writer);
    co_await writer.scope.join();
    co_return writer.ret;
}

// A block may be counted by another one that is as new as it is, whose entry must be on the disk before.
Task<int> WriteState::co_write_table(const Refcounts::TableEntries& table) {
    const Geometry& geometry = image.geometry();
    // Entries in a row in a sector are one write, which is there as a whole or not at all. By the first one's index.
    std::map<uint64_t, std::vector<std::byte>> runs;
    for (const auto& [index, offset] : table.entries) {
        auto last = runs.empty() ? runs.end() : std::prev(runs.end());
        if (last == runs.end() || last->first + last->second.size() / 8 != index || index % kSectorEntries == 0)
            last = runs.try_emplace(index).first;
        last->second.resize(last->second.size() + 8);
        store_be<uint64_t>(last->second.data() + last->second.size() - 8, offset);
    }
    auto is_counted_by_another = [&](uint64_t first, const std::vector<std::byte>& run) {
        for (size_t at = 0; at < run.size(); at += 8) {
            uint64_t index = load_be<uint64_t>(run.data() + at) >> geometry.cluster_bits >> geometry.refblock_bits();
            auto other = runs.upper_bound(index);
            if (other != runs.begin() && (--other)->first != first && index < other->first + other->second.size() / 8)
                return true;
        }
        return false;
    };
    while (!runs.empty()) {
        std::vector<uint64_t> next;
        for (const auto& [first, run] : runs)
            if (!is_counted_by_another(first, run))
                next.push_back(first);
        if (next.empty())  // each by another one: there is no order that would do
            for (const auto& [first, run] : runs)
                next.push_back(first);
        for (uint64_t first : next) {
            const std::vector<std::byte>& run = runs[first];
            if (int ret = co_await image.file.co_pwrite(static_cast<int64_t>(table.table_offset + first * 8),
                                                        static_cast<int64_t>(run.size()), run.data());
                ret < 0)
                co_return ret;
            runs.erase(first);
        }
        if (!runs.empty())
            if (int ret = co_await co_barrier(); ret < 0)
                co_return ret;
    }
    co_return 0;
}

Task<int> WriteState::co_writeback() {
    auto guard = co_await writeback_lock_.co_lock();
    if (image.is_corrupt())
        co_return -EIO;
    co_return co_await co_writeback_locked(false, true);
}

Task<int> WriteState::co_flush_all() {
    auto guard = co_await writeback_lock_.co_lock();
    if (image.is_corrupt())
        co_return -EIO;
    co_return co_await co_writeback_locked(true, true);
}

Task<int> WriteState::co_flush() {
    auto guard = co_await writeback_lock_.co_lock();
    if (image.is_corrupt())
        co_return -EIO;
    co_return co_await co_writeback_locked(true, !lazy_refcounts);
}

// What is written is captured first, as a whole, and each stage is on the disk before the next begins:
//  1. refcount blocks, and new entries of the refcount table that refer to blocks written when they were made;
//  2. L2 tables: all that they refer to is counted;
//  3. L1 entries: the tables they refer to are written;
//  4. frees: nothing refers to these clusters any more.
// The capture goes the other way round, so that whatever a stage refers to was captured with the stages before it: an
// L2 entry is made after its cluster was counted, an L1 entry after its table was written.
// Without `counts` the first stage is left out: the dirty bit says so.
Task<int> WriteState::co_writeback_locked(bool flush, bool counts_too) {
    auto frees = refcounts.take_frees();
    std::vector<DirtyPart> l1_parts;
    std::vector<uint64_t> l1_indices;
    {
        std::lock_guard guard(dirty_lock_);
        l1_indices.swap(dirty_l1_);
    }
    std::ranges::sort(l1_indices);
    for (uint64_t index : l1_indices) {
        uint64_t first = index / kSectorEntries * kSectorEntries;
        uint64_t offset = image.l1_offset + first * 8;
        if (!l1_parts.empty() && l1_parts.back().offset == offset)
            continue;
        DirtyPart part{offset, std::vector<std::byte>(std::min(kSectorEntries, image.l1.size() - first) * 8)};
        for (uint64_t i = 0; i < part.data.size() / 8; i++)
            store_be<uint64_t>(part.data.data() + i * 8, image.l1.get(first + i));
        l1_parts.push_back(std::move(part));
    }
    auto l2_parts = image.l2_cache.take_dirty();
    Refcounts::TableEntries table;
    std::vector<DirtyPart> counts;
    if (counts_too) {
        table = refcounts.take_dirty_table();
        counts = refcounts.blocks().take_dirty();
    }

    int ret = co_await co_write_parts(counts);
    if (ret == 0 && !table.entries.empty()) {
        ret = co_await co_barrier();
        if (ret == 0)
            ret = co_await co_write_table(table);
    }
    refcounts.blocks().finish_write(ret == 0);
    if (ret < 0)
        refcounts.put_back(std::move(table));
    if (ret == 0 && !(l2_parts.empty() && l1_parts.empty())) {
        ret = co_await co_barrier();
        if (ret == 0)
            ret = co_await co_write_parts(l2_parts);
    }
    image.l2_cache.finish_write(ret == 0);
    if (ret == 0 && !l1_parts.empty()) {
        ret = co_await co_barrier();
        if (ret == 0)
            ret = co_await co_write_parts(l1_parts);
    }
    if (ret == 0 && (flush || !frees.empty()))
        ret = co_await co_barrier();
    if (ret < 0) {
        std::lock_guard guard(dirty_lock_);
        dirty_l1_.insert(dirty_l1_.end(), l1_indices.begin(), l1_indices.end());
        refcounts.put_back(std::move(frees));
    } else {
        refcounts.make_safe(std::move(frees));
    }
    co_return ret;
}

}  // namespace ashlar::qcow2
