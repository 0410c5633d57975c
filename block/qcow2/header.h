// The header of a qcow2 image with its extensions: bytes to Header, Header to bytes, and what must hold between its
// fields. Pure functions.
//
// Input is hostile: every field is bounded before it is used, and an error names the field and its value. Reading does
// not look at what the fields point to; check_layout() says whether that can be inside the file and without overlaps.
// Specification: "Header", "Header extensions", "Feature name table", "Bitmaps extension".
#pragma once

#include "block/qcow2/format.h"
#include "util/error.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ashlar::qcow2 {

enum class FeatureKind : uint8_t { Incompatible = 0, Compatible = 1, Autoclear = 2 };

struct FeatureName {
    FeatureKind kind;
    uint8_t bit;
    std::string name;
};

struct BitmapsExtension {
    uint32_t bitmaps;
    uint64_t directory_bytes;
    uint64_t directory_offset;
};

struct UnknownExtension {  // kept as it is when the header is written again
    uint32_t type;
    std::vector<std::byte> data;
};

struct Header {
    uint32_t version = 3;
    uint64_t size = 0;
    uint32_t cluster_bits = 16;
    uint32_t l1_size = 0;  // entries
    uint64_t l1_offset = 0;
    uint64_t reftable_offset = 0;
    uint32_t reftable_clusters = 0;
    uint32_t snapshots = 0;
    uint64_t snapshots_offset = 0;
    uint64_t incompatible = 0;
    uint64_t compatible = 0;
    uint64_t autoclear = 0;
    uint32_t refcount_order = 4;
    Compression compression = Compression::Zlib;
    std::vector<std::byte> unknown_fields;  // behind the compression type's padding

    std::string backing_file;  // "": none
    std::optional<std::string> backing_format;
    std::optional<std::string> data_file;
    std::vector<FeatureName> feature_names;
    std::optional<BitmapsExtension> bitmaps;
    std::vector<UnknownExtension> unknown_extensions;

    bool has(Incompatible feature) const { return incompatible & feature; }
    bool data_file_raw() const { return autoclear & kDataFileRaw; }
    Geometry geometry() const { return {cluster_bits, refcount_order, has(kExtendedL2)}; }
};

// How many bytes from the start of the file read_header() wants: the first cluster. `head` is the first 512 bytes, or
// fewer if the file is shorter.
Result<uint64_t> header_area_size(std::span<const std::byte> head);

// From the first cluster, or what there is of it.
Result<Header> read_header(std::span<const std::byte> area);

// Succeeds when the header, its extensions and the backing file's name fit into the first cluster: the bytes, which may
// be fewer than a cluster; the rest of it is zeroes.
Result<std::vector<std::byte>> write_header(const Header& header);

// The tables that the header names, in a file of that length: inside of it, aligned, neither over the header nor over
// each other, and large enough.
Result<void> check_layout(const Header& header, uint64_t file_length);
// Of these the L1 table only: that it is inside, aligned, and not over the header.
Result<void> check_l1_place(const Header& header, uint64_t file_length);

// What is written into new images where there is room.
std::span<const FeatureName> known_feature_names();

// Score as DriverType::probe: 100 for the magic number with a version that is known.
int probe_header(std::span<const std::byte> head);

}  // namespace ashlar::qcow2
