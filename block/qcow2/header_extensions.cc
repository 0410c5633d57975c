#include "block/qcow2/header_extensions.h"

#include "util/byte_order.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace ashlar::qcow2 {

namespace {

enum Type : uint32_t {
    kEnd = 0,
    kBackingFormat = 0xe2792aca,
    kFeatureTable = 0x6803f857,
    kBitmapsType = 0x23852875,
    kCryptoHeader = 0x0537be77,
    kDataFileType = 0x44415441,
};
constexpr size_t kFeatureEntry = 48;
constexpr size_t kFeatureName = 46;
constexpr size_t kBitmapsBytes = 24;

std::string text(std::span<const std::byte> data) {
    return {reinterpret_cast<const char*>(data.data()), data.size()};
}

Result<void> read_name(std::span<const std::byte> data, std::string_view field, size_t limit,
                       std::optional<std::string>& out) {
    if (out)
        return fail("{}: there are two of this header extension", field);
    if (data.size() > limit)
        return fail("{}: {} bytes exceed the limit of {}", field, data.size(), limit);
    out = text(data);
    if (out->contains('\0'))
        return fail("{}: the name contains a NUL byte", field);
    return {};
}

void read_feature_table(std::span<const std::byte> data, Header& header) {
    for (; data.size() >= kFeatureEntry; data = data.subspan(kFeatureEntry)) {
        auto kind = std::to_integer<uint8_t>(data[0]);
        auto bit = std::to_integer<uint8_t>(data[1]);
        if (kind > 2 || bit > 63)
            continue;  // only names: nothing depends on them
        std::string name = text(data.subspan(2, kFeatureName));
        name.resize(std::min(name.find('\0'), name.size()));
        header.feature_names.push_back({static_cast<FeatureKind>(kind), bit, std::move(name)});
    }
}

Result<void> read_bitmaps(std::span<const std::byte> data, Header& header) {
    if (!(header.autoclear & kBitmaps))
        return {};  // inconsistent: written by who does not know bitmaps
    if (header.bitmaps)
        return fail("bitmaps: there are two of this header extension");
    if (data.size() != kBitmapsBytes)
        return fail("bitmaps: the header extension has {} bytes instead of {}", data.size(), kBitmapsBytes);
    BitmapsExtension bitmaps{load_be<uint32_t>(data.data()), load_be<uint64_t>(data.data() + 8),
                             load_be<uint64_t>(data.data() + 16)};
    if (load_be<uint32_t>(data.data() + 4) != 0)
        return fail("bitmaps: the reserved field is not zero");
    if (bitmaps.bitmaps == 0 || bitmaps.bitmaps > kMaxBitmaps)
        return fail("nb_bitmaps: {} is not between 1 and {}", bitmaps.bitmaps, kMaxBitmaps);
    // An entry has 24 bytes and a name of at most 1023.
    constexpr uint64_t kMaxDirectory = uint64_t{kMaxBitmaps} * (24 + 1024);
    if (bitmaps.directory_bytes == 0 || bitmaps.directory_bytes > kMaxDirectory)
        return fail("bitmap_directory_size: {} is not between 1 and {}", bitmaps.directory_bytes, kMaxDirectory);
    if (bitmaps.directory_offset == 0 || header.geometry().in_cluster(bitmaps.directory_offset) != 0)
        return fail("bitmap_directory_offset: {:#x} is not at the start of a cluster", bitmaps.directory_offset);
    header.bitmaps = bitmaps;
    return {};
}

Result<void> read_one(uint32_t type, std::span<const std::byte> data, Header& header) {
    switch (type) {
        case kBackingFormat:
            return read_name(data, "backing_format", kMaxBackingFormat, header.backing_format);
        case kDataFileType:
            return read_name(data, "data_file", kMaxDataFileName, header.data_file);
        case kFeatureTable:
            read_feature_table(data, header);
            return {};
        case kBitmapsType:
            return read_bitmaps(data, header);
        case kCryptoHeader:
            return fail("header extension: full disk encryption header: encrypted images are not supported");
        default:
            header.unknown_extensions.push_back({type, {data.begin(), data.end()}});
            return {};
    }
}

void append(std::vector<std::byte>& out, uint32_t type, std::span<const std::byte> data) {
    size_t at = out.size();
    out.resize(at + 8 + (data.size() + 7) / 8 * 8);
    store_be<uint32_t>(out.data() + at, type);
    store_be<uint32_t>(out.data() + at + 4, static_cast<uint32_t>(data.size()));
    std::ranges::copy(data, out.begin() + static_cast<ptrdiff_t>(at) + 8);
}

void append_feature_table(const Header& header, std::vector<std::byte>& out) {
    std::vector<std::byte> table(header.feature_names.size() * kFeatureEntry);
    std::byte* entry = table.data();
    for (const FeatureName& feature : header.feature_names) {
        entry[0] = static_cast<std::byte>(feature.kind);
        entry[1] = static_cast<std::byte>(feature.bit);
        std::memcpy(entry + 2, feature.name.data(), std::min(feature.name.size(), kFeatureName));
        entry += kFeatureEntry;
    }
    append(out, kFeatureTable, table);
}

void append_bitmaps(const BitmapsExtension& bitmaps, std::vector<std::byte>& out) {
    std::array<std::byte, kBitmapsBytes> data{};
    store_be<uint32_t>(data.data(), bitmaps.bitmaps);
    store_be<uint64_t>(data.data() + 8, bitmaps.directory_bytes);
    store_be<uint64_t>(data.data() + 16, bitmaps.directory_offset);
    append(out, kBitmapsType, data);
}

}  // namespace

std::span<const FeatureName> known_feature_names() {
    using enum FeatureKind;
    static const std::array<FeatureName, 8> names{{
        {Incompatible, 0, "dirty bit"},
        {Incompatible, 1, "corrupt bit"},
        {Incompatible, 2, "external data file"},
        {Incompatible, 3, "compression type"},
        {Incompatible, 4, "extended L2 entries"},
        {Compatible, 0, "lazy refcounts"},
        {Autoclear, 0, "bitmaps"},
        {Autoclear, 1, "raw external data"},
    }};
    return names;
}

Result<void> read_extensions(std::span<const std::byte> area, Header& header) {
    while (area.size() >= 8) {
        auto type = load_be<uint32_t>(area.data());
        auto length = load_be<uint32_t>(area.data() + 4);
        if (type == kEnd)
            break;
        area = area.subspan(8);
        if (length > area.size())
            return fail("header extension {:#010x}: {} bytes reach beyond the end of the header area", type, length);
        if (auto one = read_one(type, area.first(length), header); !one)
            return one;
        area = area.subspan(std::min<size_t>((size_t{length} + 7) / 8 * 8, area.size()));
    }
    return {};
}

void append_extensions(const Header& header, std::vector<std::byte>& out) {
    if (header.backing_format)
        append(out, kBackingFormat, std::as_bytes(std::span(*header.backing_format)));
    if (header.data_file)
        append(out, kDataFileType, std::as_bytes(std::span(*header.data_file)));
    if (!header.feature_names.empty())
        append_feature_table(header, out);
    if (header.bitmaps)
        append_bitmaps(*header.bitmaps, out);
    for (const UnknownExtension& extension : header.unknown_extensions)
        append(out, extension.type, extension.data);
    append(out, kEnd, {});
}

}  // namespace ashlar::qcow2
