#include "block/qcow2/bitmap_directory.h"

#include "util/byte_order.h"

#include <algorithm>
#include <unordered_set>

namespace ashlar::qcow2 {

namespace {

constexpr size_t kFixedBytes = 24;
constexpr uint8_t kDirtyTrackingType = 1;

// Of the entry at the beginning of `in`; cuts it off.
Result<BitmapEntry> read_one(std::span<const std::byte>& in, const Geometry& geometry, uint32_t index) {
    if (in.size() < kFixedBytes)
        return fail("bitmap directory: it ends inside of entry {}", index);
    BitmapEntry entry;
    entry.table_offset = load_be<uint64_t>(in.data());
    entry.table_entries = load_be<uint32_t>(in.data() + 8);
    entry.flags = load_be<uint32_t>(in.data() + 12);
    auto type = load_be<uint8_t>(in.data() + 16);
    entry.granularity_bits = load_be<uint8_t>(in.data() + 17);
    size_t name_bytes = load_be<uint16_t>(in.data() + 18);
    size_t extra_bytes = load_be<uint32_t>(in.data() + 20);
    if (entry.flags & ~kKnownBitmapFlags)
        return fail("bitmap directory: entry {}: flags {:#x} are not known", index, entry.flags & ~kKnownBitmapFlags);
    if (extra_bytes > kMaxBitmapExtraBytes)
        return fail("bitmap directory: entry {}: extra_data_size: {} exceeds the limit of {}", index, extra_bytes,
                    kMaxBitmapExtraBytes);
    if (type != kDirtyTrackingType)
        return fail("bitmap directory: entry {}: type {} is not known", index, type);
    if (entry.granularity_bits < kMinBitmapGranularityBits || entry.granularity_bits > kMaxBitmapGranularityBits)
        return fail("bitmap directory: entry {}: granularity_bits: {} is not between {} and {}", index,
                    entry.granularity_bits, kMinBitmapGranularityBits, kMaxBitmapGranularityBits);
    if (name_bytes == 0 || name_bytes > kMaxBitmapName)
        return fail("bitmap directory: entry {}: a name of {} bytes is not between 1 and {}", index, name_bytes,
                    kMaxBitmapName);
    if (in.size() - kFixedBytes < extra_bytes || in.size() - kFixedBytes - extra_bytes < name_bytes)
        return fail("bitmap directory: it ends inside of entry {}", index);
    if (geometry.in_cluster(entry.table_offset) != 0 || entry.table_offset < geometry.cluster_size() ||
        entry.table_offset > kMaxHostOffset)
        return fail("bitmap directory: entry {}: {:#x} is not the offset of a cluster", index, entry.table_offset);
    if (uint64_t{entry.table_entries} * 8 > kMaxL1Bytes)
        return fail("bitmap directory: entry {}: {} table entries exceed the limit of {}", index, entry.table_entries,
                    kMaxL1Bytes / 8);
    auto extra = in.subspan(kFixedBytes, extra_bytes);
    entry.extra_data.assign(extra.begin(), extra.end());
    entry.name.assign(reinterpret_cast<const char*>(in.data() + kFixedBytes + extra_bytes), name_bytes);
    size_t bytes = bitmap_entry_bytes(name_bytes, extra_bytes);
    in = in.subspan(std::min(bytes, in.size()));
    return entry;
}

}  // namespace

size_t bitmap_entry_bytes(size_t name_bytes, size_t extra_bytes) {
    return (kFixedBytes + extra_bytes + name_bytes + 7) / 8 * 8;
}

std::vector<std::byte> write_bitmap_directory(std::span<const BitmapEntry> entries) {
    std::vector<std::byte> out;
    for (const BitmapEntry& entry : entries) {
        const size_t start = out.size();
        out.resize(start + bitmap_entry_bytes(entry.name.size(), entry.extra_data.size()));
        std::byte* at = out.data() + start;
        store_be<uint64_t>(at, entry.table_offset);
        store_be<uint32_t>(at + 8, entry.table_entries);
        store_be<uint32_t>(at + 12, entry.flags);
        store_be<uint8_t>(at + 16, kDirtyTrackingType);
        store_be<uint8_t>(at + 17, entry.granularity_bits);
        store_be<uint16_t>(at + 18, static_cast<uint16_t>(entry.name.size()));
        store_be<uint32_t>(at + 20, static_cast<uint32_t>(entry.extra_data.size()));
        std::ranges::copy(entry.extra_data, at + kFixedBytes);
        std::ranges::copy(std::as_bytes(std::span(entry.name)), at + kFixedBytes + entry.extra_data.size());
    }
    return out;
}

Result<std::vector<BitmapEntry>> read_bitmap_directory(std::span<const std::byte> directory, const Header& header) {
    std::vector<BitmapEntry> entries;
    std::unordered_set<std::string> names;
    for (uint32_t i = 0; i < header.bitmaps->bitmaps; i++) {
        auto one = read_one(directory, header.geometry(), i);
        if (!one)
            return std::unexpected(std::move(one.error()));
        if (!names.insert(one->name).second)
            return fail("bitmap directory: entry {}: there is a bitmap '{}' already", i, one->name);
        entries.push_back(std::move(*one));
    }
    if (!directory.empty())
        return fail("bitmap directory: {} bytes are left behind its last entry", directory.size());
    return entries;
}

}  // namespace ashlar::qcow2
