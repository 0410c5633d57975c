#include "block/qcow2/header.h"

#include "block/block_types.h"
#include "block/qcow2/header_extensions.h"
#include "util/byte_order.h"

#include <algorithm>

namespace ashlar::qcow2 {

namespace {

constexpr size_t kV2Length = 72;
constexpr size_t kV3MinLength = 104;
constexpr size_t kKnownLength = 112;  // with the compression type and its padding

// Where fields are.
enum At : size_t {
    kAtMagic = 0,
    kAtVersion = 4,
    kAtBackingOffset = 8,
    kAtBackingSize = 16,
    kAtClusterBits = 20,
    kAtSize = 24,
    kAtCrypt = 32,
    kAtL1Size = 36,
    kAtL1Offset = 40,
    kAtReftableOffset = 48,
    kAtReftableClusters = 56,
    kAtSnapshots = 60,
    kAtSnapshotsOffset = 64,
    kAtIncompatible = 72,
    kAtCompatible = 80,
    kAtAutoclear = 88,
    kAtRefcountOrder = 96,
    kAtHeaderLength = 100,
    kAtCompression = 104,
};

struct Bytes {
    std::span<const std::byte> data;
    uint32_t u32(size_t at) const { return load_be<uint32_t>(data.data() + at); }
    uint64_t u64(size_t at) const { return load_be<uint64_t>(data.data() + at); }
};

Result<void> check_start(Bytes in) {
    if (in.data.size() < kV2Length)
        return fail("header: {} bytes are too few for a qcow2 image", in.data.size());
    if (in.u32(kAtMagic) != kMagic)
        return fail("Image is not in qcow2 format");
    uint32_t version = in.u32(kAtVersion);
    if (version != 2 && version != 3)
        return fail("Unsupported qcow2 version {}", version);
    uint32_t bits = in.u32(kAtClusterBits);
    if (bits < kMinClusterBits || bits > kMaxClusterBits)
        return fail("cluster_bits: {} is not between {} and {} (Unsupported cluster size: 2^{})", bits, kMinClusterBits,
                    kMaxClusterBits, bits);
    return {};
}

// The bits that are set and not known, by the names that the image gives them.
std::unexpected<Error> unknown_features(const Header& header, uint64_t unknown) {
    std::string names;
    for (unsigned bit = 0; bit < 64; bit++) {
        if (!(unknown >> bit & 1))
            continue;
        auto named = std::ranges::find_if(header.feature_names, [&](const FeatureName& f) {
            return f.kind == FeatureKind::Incompatible && f.bit == bit;
        });
        if (!names.empty())
            names += ", ";
        names += named != header.feature_names.end()
                     ? named->name
                     : fmt::format("Unknown incompatible feature: {:x}", uint64_t{1} << bit);
    }
    return fail("Unsupported qcow2 feature(s): {}", names);
}

Result<void> check_features(const Header& header) {
    if (uint64_t unknown = header.incompatible & ~uint64_t{kKnownIncompatible})
        return unknown_features(header, unknown);
    if (header.has(kExtendedL2) && header.cluster_bits < kMinExtendedL2ClusterBits)
        return fail("cluster_bits: extended L2 entries need at least {}, not {}", kMinExtendedL2ClusterBits,
                    header.cluster_bits);
    if (header.has(kCompressionType) != (header.compression != Compression::Zlib))
        return fail("compression_type: the field says {}, which the compression type bit contradicts",
                    header.compression == Compression::Zlib ? "zlib" : "zstd");
    if (header.data_file_raw() && !header.has(kDataFile))
        return fail("autoclear_features: raw external data is set without an external data file");
    if (header.data_file_raw() && !header.backing_file.empty())
        return fail("backing_file: an image with a raw external data file cannot have one");
    if ((header.autoclear & kBitmaps) && !header.bitmaps)
        return fail("autoclear_features: bitmaps is set, but there is no bitmaps extension");
    return {};
}

Result<void> check_bounds(const Header& header) {
    Geometry geometry = header.geometry();
    if (header.refcount_order > 6)
        return fail("refcount_order: {} exceeds 6 (Reference count entry width too large; may not exceed 64 bits)",
                    header.refcount_order);
    if (header.size > static_cast<uint64_t>(kMaxLength))
        return fail("size: {} bytes exceed the limit of {}", header.size, kMaxLength);
    if (header.l1_size > kMaxL1Bytes / 8)
        return fail("l1_size: {} entries exceed the limit of {} (32 MiB)", header.l1_size, kMaxL1Bytes / 8);
    uint64_t needed = geometry.l1_entries_for(header.size);
    if (needed > kMaxL1Bytes / 8)
        return fail("size: {} bytes need an L1 table of {} entries, over the limit of {} (32 MiB)", header.size, needed,
                    kMaxL1Bytes / 8);
    if (header.l1_size < needed)
        return fail("l1_size: {} entries are too few for a disk of {} bytes, which needs {} (L1 table is too small)",
                    header.l1_size, header.size, needed);
    if (header.reftable_clusters > kMaxReftableBytes >> header.cluster_bits)
        return fail("refcount_table_clusters: {} clusters exceed the limit of {} (8 MiB)", header.reftable_clusters,
                    kMaxReftableBytes >> header.cluster_bits);
    return {};
}

Result<void> read_backing_name(Bytes in, Header& header) {
    uint64_t offset = in.u64(kAtBackingOffset);
    uint32_t size = in.u32(kAtBackingSize);
    if (offset == 0)
        return {};
    if (size > kMaxBackingName)
        return fail("backing_file_size: {} bytes exceed the limit of {} (Backing file name too long)", size,
                    kMaxBackingName);
    if (offset > header.geometry().cluster_size() || size > header.geometry().cluster_size() - offset)
        return fail("backing_file_offset: {:#x} with a name of {} bytes is not inside the first cluster", offset, size);
    if (offset > in.data.size() || size > in.data.size() - offset)
        return fail("backing_file_offset: {:#x}: the file ends before the name does", offset);
    header.backing_file.assign(reinterpret_cast<const char*>(in.data.data() + offset), size);
    if (header.backing_file.contains('\0'))
        return fail("backing_file: the name contains a NUL byte");
    return {};
}

}  // namespace

Result<uint64_t> header_area_size(std::span<const std::byte> head) {
    if (auto start = check_start({head}); !start)
        return std::unexpected(std::move(start.error()));
    return uint64_t{1} << Bytes{head}.u32(kAtClusterBits);
}

Result<Header> read_header(std::span<const std::byte> area) {
    Bytes in{area};
    if (auto start = check_start(in); !start)
        return std::unexpected(std::move(start.error()));
    Header header;
    header.version = in.u32(kAtVersion);
    header.cluster_bits = in.u32(kAtClusterBits);
    header.size = in.u64(kAtSize);
    header.l1_size = in.u32(kAtL1Size);
    header.l1_offset = in.u64(kAtL1Offset);
    header.reftable_offset = in.u64(kAtReftableOffset);
    header.reftable_clusters = in.u32(kAtReftableClusters);
    header.snapshots = in.u32(kAtSnapshots);
    header.snapshots_offset = in.u64(kAtSnapshotsOffset);

    size_t length = kV2Length;
    if (header.version >= 3) {
        if (area.size() < kV3MinLength)
            return fail("header: {} bytes are too few for a version 3 image", area.size());
        header.incompatible = in.u64(kAtIncompatible);
        header.compatible = in.u64(kAtCompatible);
        header.autoclear = in.u64(kAtAutoclear);
        header.refcount_order = in.u32(kAtRefcountOrder);
        length = in.u32(kAtHeaderLength);
        if (length < kV3MinLength)
            return fail("header_length: {} is less than {} (qcow2 header too short)", length, kV3MinLength);
        if (length % 8 != 0)
            return fail("header_length: {} is not a multiple of 8", length);
        if (length > header.geometry().cluster_size())
            return fail("header_length: {} exceeds the cluster size (qcow2 header exceeds cluster size)", length);
        if (length > area.size())
            return fail("header_length: {}: the file ends before the header does", length);
        if (length > kAtCompression) {
            auto type = std::to_integer<uint8_t>(area[kAtCompression]);
            if (type > static_cast<uint8_t>(Compression::Zstd))
                return fail("compression_type: unknown compression type {}", type);
            header.compression = static_cast<Compression>(type);
        }
        if (length > kKnownLength)
            header.unknown_fields.assign(area.begin() + kKnownLength, area.begin() + static_cast<ptrdiff_t>(length));
    }

    uint64_t backing_offset = in.u64(kAtBackingOffset);
    if (backing_offset != 0 && backing_offset < length)
        return fail("backing_file_offset: {:#x} is inside the header", backing_offset);
    if (auto name = read_backing_name(in, header); !name)
        return std::unexpected(std::move(name.error()));
    size_t end = backing_offset ? static_cast<size_t>(backing_offset) : area.size();
    auto extensions = read_extensions(area.first(end).subspan(length), header);
    // An unknown feature is what the user should hear of first: it may be why the rest makes no sense.
    if (uint64_t unknown = header.incompatible & ~uint64_t{kKnownIncompatible})
        return unknown_features(header, unknown);
    if (uint32_t method = in.u32(kAtCrypt); method != 0) {
        static constexpr const char* kNames[] = {"", "AES", "LUKS"};
        if (method > 2)
            return fail("crypt_method: unknown encryption method {}", method);
        return fail("crypt_method: {} ({}): encrypted images are not supported", method, kNames[method]);
    }
    if (!extensions)
        return std::unexpected(std::move(extensions.error()));
    if (auto bounds = check_bounds(header); !bounds)
        return std::unexpected(std::move(bounds.error()));
    if (auto features = check_features(header); !features)
        return std::unexpected(std::move(features.error()));
    return header;
}

Result<std::vector<std::byte>> write_header(const Header& header) {
    size_t length = header.version >= 3 ? kKnownLength + header.unknown_fields.size() : kV2Length;
    std::vector<std::byte> out(length);
    auto put32 = [&](size_t at, uint32_t value) { store_be<uint32_t>(out.data() + at, value); };
    auto put64 = [&](size_t at, uint64_t value) { store_be<uint64_t>(out.data() + at, value); };
    put32(kAtMagic, kMagic);
    put32(kAtVersion, header.version);
    put32(kAtClusterBits, header.cluster_bits);
    put64(kAtSize, header.size);
    put32(kAtL1Size, header.l1_size);
    put64(kAtL1Offset, header.l1_offset);
    put64(kAtReftableOffset, header.reftable_offset);
    put32(kAtReftableClusters, header.reftable_clusters);
    put32(kAtSnapshots, header.snapshots);
    put64(kAtSnapshotsOffset, header.snapshots_offset);
    if (header.version >= 3) {
        put64(kAtIncompatible, header.incompatible);
        put64(kAtCompatible, header.compatible);
        put64(kAtAutoclear, header.autoclear);
        put32(kAtRefcountOrder, header.refcount_order);
        put32(kAtHeaderLength, static_cast<uint32_t>(length));
        out[kAtCompression] = static_cast<std::byte>(header.compression);
        std::ranges::copy(header.unknown_fields, out.begin() + kKnownLength);
    }
    append_extensions(header, out);
    if (!header.backing_file.empty()) {
        if (header.backing_file.size() > kMaxBackingName)
            return fail("backing_file: a name of {} bytes exceeds the limit of {}", header.backing_file.size(),
                        kMaxBackingName);
        put64(kAtBackingOffset, out.size());
        put32(kAtBackingSize, static_cast<uint32_t>(header.backing_file.size()));
        auto name = std::as_bytes(std::span(header.backing_file));
        out.insert(out.end(), name.begin(), name.end());
    }
    if (out.size() > header.geometry().cluster_size())
        return fail("header: {} bytes with extensions and backing file name do not fit into a cluster of {}",
                    out.size(), header.geometry().cluster_size());
    return out;
}

int probe_header(std::span<const std::byte> head) {
    Bytes in{head};
    if (head.size() < 8 || in.u32(kAtMagic) != kMagic)
        return 0;
    return in.u32(kAtVersion) >= 2 ? 100 : 0;
}

}  // namespace ashlar::qcow2
