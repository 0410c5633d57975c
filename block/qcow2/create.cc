#include "block/qcow2/create.h"

#include "block/block_types.h"
#include "block/qcow2/refcount_entry.h"
#include "util/byte_order.h"

#include <bit>

namespace ashlar::qcow2 {

const OptionSet<CreateOptions>& CreateOptions::options() {
    static const auto set =
        OptionSet<CreateOptions>("qcow2")
            .required("size", &CreateOptions::size, "Virtual disk size")
            .optional("compat", &CreateOptions::version, "Compatibility level (v2 [0.10] or v3 [1.1])")
            .alias("version")
            .optional("backing_file", &CreateOptions::backing_file, "File name of a base image")
            .alias("backing-file")
            .optional("backing_fmt", &CreateOptions::backing_format, "Image format of the base image")
            .alias("backing-fmt")
            .optional("cluster_size", &CreateOptions::cluster_size, "qcow2 cluster size")
            .alias("cluster-size")
            .optional("lazy_refcounts", &CreateOptions::lazy_refcounts, "Postpone refcount updates")
            .alias("lazy-refcounts")
            .optional("refcount_bits", &CreateOptions::refcount_bits, "Width of a reference count entry in bits")
            .alias("refcount-bits")
            .optional("data_file", &CreateOptions::data_file, "File name of an external data file")
            .alias("data-file")
            .optional("data_file_raw", &CreateOptions::data_file_raw,
                      "The external data file must stay valid as a raw image")
            .alias("data-file-raw")
            .optional("extended_l2", &CreateOptions::extended_l2, "Extended L2 tables")
            .alias("extended-l2")
            .optional("compression_type", &CreateOptions::compression,
                      "Compression method used for image cluster compression")
            .alias("compression-type")
            .optional("preallocation", &CreateOptions::preallocation,
                      "Preallocation mode (allowed values: off, metadata, falloc, full)")
            .optional("encryption", &CreateOptions::encryption, "Encrypt the image (not supported yet)")
            .optional("encrypt.format", &CreateOptions::encrypt_format, "Encrypt the image (not supported yet)")
            .optional("encrypt.key-secret", &CreateOptions::encrypt_secret,
                      "ID of secret providing the passphrase (not supported yet)");
    return set;
}

namespace {

Result<void> check(const CreateOptions& options) {
    if (options.encryption.value_or(false) || options.encrypt_format || options.encrypt_secret)
        return fail("Encrypted images are not supported yet");
    uint64_t cluster = options.cluster_size;
    if (!std::has_single_bit(cluster) || cluster < 1 << kMinClusterBits || cluster > 1 << kMaxClusterBits)
        return fail("Cluster size must be a power of two between {} and {}k", 1 << kMinClusterBits,
                    1 << (kMaxClusterBits - 10));
    if (options.size % 512 != 0)
        return fail("The image size must be a multiple of 512 bytes");
    if (options.size > static_cast<uint64_t>(kMaxLength))
        return fail("size: {} bytes exceed the limit of {}", options.size.bytes, kMaxLength);
    if (!std::has_single_bit(options.refcount_bits) || options.refcount_bits > 64)
        return fail("Refcount width must be a power of two and may not exceed 64 bits");
    if (options.version == Version::V2) {
        if (options.refcount_bits != 16)
            return fail(
                "Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 "
                "or greater)");
        if (options.lazy_refcounts)
            return fail(
                "Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or "
                "greater)");
        if (options.data_file)
            return fail(
                "External data files are only supported with compatibility level 1.1 and above (use version=v3 "
                "or greater)");
        if (options.extended_l2)
            return fail(
                "Extended L2 entries are only supported with compatibility level 1.1 and above (use version=v3 "
                "or greater)");
        if (options.compression != Compression::Zlib)
            return fail(
                "Non-zlib compression type is only supported with compatibility level 1.1 and above (use "
                "version=v3 or greater)");
    }
    if (options.extended_l2 && cluster < 1 << kMinExtendedL2ClusterBits)
        return fail("Extended L2 entries are only supported with cluster sizes of at least {} bytes",
                    1 << kMinExtendedL2ClusterBits);
    if (options.backing_format && !options.backing_file)
        return fail("Backing format cannot be used without backing file");
    if (options.backing_file && options.backing_file->size() > kMaxBackingName)
        return fail("backing_file: a name of {} bytes exceeds the limit of {}", options.backing_file->size(),
                    kMaxBackingName);
    if (options.backing_format && options.backing_format->size() > kMaxBackingFormat)
        return fail("backing_fmt: {} bytes exceed the limit of {}", options.backing_format->size(), kMaxBackingFormat);
    if (options.data_file_raw && !options.data_file)
        return fail("data-file-raw requires data-file");
    if (options.data_file_raw && options.backing_file)
        return fail("Backing file and data-file-raw cannot be used at the same time");
    if (options.backing_file && options.preallocation != PreallocMode::Off && !options.extended_l2)
        return fail("Backing file and preallocation can only be used at the same time if extended_l2 is on");
    return {};
}

Result<Header> make_header(const CreateOptions& options) {
    Header header;
    header.version = static_cast<uint32_t>(options.version);
    header.size = options.size;
    header.cluster_bits = static_cast<uint32_t>(std::countr_zero(options.cluster_size.bytes));
    header.refcount_order = static_cast<uint32_t>(std::countr_zero(options.refcount_bits));
    header.compression = options.compression;
    header.incompatible = (options.data_file ? kDataFile : 0) | (options.extended_l2 ? kExtendedL2 : 0) |
                          (options.compression != Compression::Zlib ? kCompressionType : 0);
    header.compatible = options.lazy_refcounts ? kLazyRefcounts : 0;
    header.autoclear = options.data_file_raw ? kDataFileRaw : 0;
    header.backing_file = options.backing_file.value_or("");
    header.backing_format = options.backing_format;
    header.data_file = options.data_file;
    uint64_t l1_entries = header.geometry().l1_entries_for(header.size);
    if (l1_entries > kMaxL1Bytes / 8)
        return fail("The image size is too large for file format 'qcow2' (try using a larger cluster size)");
    header.l1_size = static_cast<uint32_t>(l1_entries);
    if (header.version >= 3) {
        header.feature_names.assign(known_feature_names().begin(), known_feature_names().end());
        if (!write_header(header))
            header.feature_names.clear();  // only where there is room for them
    }
    return header;
}

// Header, refcount table, refcount blocks and L1 table, in this order; the blocks count all of these.
Result<uint64_t> place_tables(Header& header) {
    Geometry geometry = header.geometry();
    uint64_t l1_clusters = geometry.clusters(uint64_t{header.l1_size} * 8);
    uint64_t blocks = 1, table = 1;
    for (;;) {
        uint64_t total = 1 + table + blocks + l1_clusters;
        uint64_t need_blocks = (total + geometry.refblock_entries() - 1) >> geometry.refblock_bits();
        uint64_t need_table = geometry.clusters(need_blocks * 8);
        if (need_blocks == blocks && need_table == table)
            break;
        blocks = need_blocks;
        table = need_table;
    }
    if (table << header.cluster_bits > kMaxReftableBytes)
        return fail("refcount_bits: the refcount table would exceed 8 MiB (try using a larger cluster size)");
    header.reftable_offset = geometry.cluster_size();
    header.reftable_clusters = static_cast<uint32_t>(table);
    header.l1_offset = (1 + table + blocks) << header.cluster_bits;
    return blocks;
}

}  // namespace

Result<ImagePlan> plan_image(const CreateOptions& options) {
    if (auto ok = check(options); !ok)
        return std::unexpected(std::move(ok.error()));
    auto header = make_header(options);
    if (!header)
        return std::unexpected(std::move(header.error()));
    auto blocks = place_tables(*header);
    if (!blocks)
        return std::unexpected(std::move(blocks.error()));
    auto head = write_header(*header);
    if (!head)
        return std::unexpected(std::move(head.error()));

    Geometry geometry = header->geometry();
    uint64_t cluster = geometry.cluster_size();
    uint64_t blocks_offset = header->reftable_offset + header->reftable_clusters * cluster;
    uint64_t l1_bytes = geometry.cluster_end(uint64_t{header->l1_size} * 8);
    uint64_t end = header->l1_offset + l1_bytes;

    ImagePart tables{header->reftable_offset, std::vector<std::byte>(header->l1_offset - header->reftable_offset),
                     l1_bytes};
    for (uint64_t i = 0; i < *blocks; i++)
        store_be<uint64_t>(tables.data.data() + i * 8, blocks_offset + i * cluster);
    std::byte* counts = tables.data.data() + (blocks_offset - header->reftable_offset);
    for (uint64_t i = 0; i < end >> header->cluster_bits; i++)
        set_refcount(counts, i, header->refcount_order, 1);  // the blocks follow each other without gaps

    uint64_t rest = cluster - head->size();
    ImagePlan plan{std::move(*header), {}, end};
    plan.parts.push_back(std::move(tables));
    plan.parts.push_back({0, std::move(*head), rest});
    return plan;
}

}  // namespace ashlar::qcow2
