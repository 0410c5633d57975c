// The directory of persistent dirty bitmaps: bytes to entries and back. Pure functions; input is hostile.
// Specification: "Bitmaps".
#pragma once

#include "block/qcow2/header.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ashlar::qcow2 {

constexpr uint64_t kMaxBitmapDirectoryBytes = uint64_t{kMaxBitmaps} * 1024;
constexpr uint32_t kMaxBitmapName = 1023;
constexpr uint32_t kMaxBitmapExtraBytes = 1024;
constexpr unsigned kMinBitmapGranularityBits = 9;
constexpr unsigned kMaxBitmapGranularityBits = 31;

enum BitmapFlags : uint32_t {
    kBitmapInUse = 1 << 0,
    kBitmapAuto = 1 << 1,
    kBitmapExtraDataCompatible = 1 << 2,
    kKnownBitmapFlags = (1 << 3) - 1,
};

// Of a bitmap table's entries: where a cluster of bits is, or, if it is nowhere, whether all of them are set.
constexpr uint64_t kBitmapAllOnes = 1;
constexpr uint64_t kBitmapEntryReserved = ~(kOffsetMask | kBitmapAllOnes);

struct BitmapEntry {
    uint64_t table_offset = 0;
    uint32_t table_entries = 0;
    uint32_t flags = 0;
    uint8_t granularity_bits = 16;
    std::vector<std::byte> extra_data;
    std::string name;
};

// `directory`: header.bitmaps->directory_bytes of the file.
Result<std::vector<BitmapEntry>> read_bitmap_directory(std::span<const std::byte> directory, const Header& header);

std::vector<std::byte> write_bitmap_directory(std::span<const BitmapEntry> entries);
size_t bitmap_entry_bytes(size_t name_bytes, size_t extra_bytes);

}  // namespace ashlar::qcow2
