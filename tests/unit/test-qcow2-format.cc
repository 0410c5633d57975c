#include <glib.h>

#include <string>
#include <vector>

#include "block/qcow2/create.h"
#include "block/qcow2/l2_entry.h"
#include "block/qcow2/refcount_entry.h"
#include "tests/unit/assert_str.h"
#include "tests/unit/qcow2_fixture.h"
#include "util/byte_order.h"
#include "util/json.h"

using namespace ashlar;
using namespace ashlar::qcow2;
using namespace ashlar::test;

namespace {

std::vector<std::byte> header_bytes(const CreateOptions& options) {
    auto plan = plan_image(options);
    g_assert_true(plan.has_value());
    return std::move(plan->parts.back().data);
}

CreateOptions one_gib() {
    CreateOptions options;
    options.size.bytes = 1 << 30;
    return options;
}

std::string error_of(const std::vector<std::byte>& bytes) {
    auto header = read_header(bytes);
    g_assert_false(header.has_value());
    return header.error().message;
}

// The message for a header in which the 32-bit or 64-bit field at `at` has been replaced.
std::string error32(size_t at, uint32_t value) {
    auto bytes = header_bytes(one_gib());
    store_be<uint32_t>(bytes.data() + at, value);
    return error_of(bytes);
}
std::string error64(size_t at, uint64_t value) {
    auto bytes = header_bytes(one_gib());
    store_be<uint64_t>(bytes.data() + at, value);
    return error_of(bytes);
}

void written_headers_are_read_back() {
    CreateOptions options = one_gib();
    options.backing_file = "base.img";
    options.backing_format = "raw";
    options.extended_l2 = true;
    options.compression = Compression::Zstd;
    options.refcount_bits = 2;
    auto header = read_header(header_bytes(options));
    g_assert_true(header.has_value());
    assert_str(header->backing_file, "base.img");
    assert_str(*header->backing_format, "raw");
    g_assert_cmpuint(header->size, ==, 1 << 30);
    g_assert_cmpuint(header->refcount_order, ==, 1);
    g_assert_cmpuint(header->incompatible, ==, kCompressionType | kExtendedL2);
    g_assert_true(header->compression == Compression::Zstd);
    g_assert_cmpuint(header->feature_names.size(), ==, 8);
    g_assert_cmpuint(header->l1_size, ==, 4);  // half as many entries in an extended L2 table
}

void unknown_extensions_and_fields_are_kept() {
    auto header = read_header(header_bytes(one_gib()));
    header->unknown_extensions.push_back({0x12345678, std::vector<std::byte>(11, std::byte{7})});
    header->unknown_fields.assign(16, std::byte{9});
    auto again = read_header(*write_header(*header));
    g_assert_cmpuint(again->unknown_extensions.at(0).type, ==, 0x12345678);
    g_assert_true(again->unknown_extensions[0].data == header->unknown_extensions[0].data);
    g_assert_true(again->unknown_fields == header->unknown_fields);
}

void bad_fields_are_named_with_their_value() {
    assert_str(error32(0, 5), "Image is not in qcow2 format");
    assert_str(error32(4, 4), "Unsupported qcow2 version 4");
    assert_str(error32(20, 22), "cluster_bits: 22 is not between 9 and 21 (Unsupported cluster size: 2^22)");
    assert_str(error32(36, 0xffffffff), "l1_size: 4294967295 entries exceed the limit of 4194304 (32 MiB)");
    assert_str(error32(36, 1),
               "l1_size: 1 entries are too few for a disk of 1073741824 bytes, which needs 2 (L1 table is "
               "too small)");
    assert_str(error32(56, 129), "refcount_table_clusters: 129 clusters exceed the limit of 128 (8 MiB)");
    assert_str(error32(32, 2), "crypt_method: 2 (LUKS): encrypted images are not supported");
    assert_str(error32(96, 7),
               "refcount_order: 7 exceeds 6 (Reference count entry width too large; may not exceed 64 "
               "bits)");
    assert_str(error32(100, 96), "header_length: 96 is less than 104 (qcow2 header too short)");
    assert_str(error32(100, 109), "header_length: 109 is not a multiple of 8");
    assert_str(error32(100, 1 << 17),
               "header_length: 131072 exceeds the cluster size (qcow2 header exceeds cluster size)");
    assert_str(error64(8, 80), "backing_file_offset: 0x50 is inside the header");
    assert_str(error64(24, ~0ull), "size: 18446744073709551615 bytes exceed the limit of 9223372035781033984");
    assert_str(error64(88, 1), "autoclear_features: bitmaps is set, but there is no bitmaps extension");
    assert_str(error64(88, 2), "autoclear_features: raw external data is set without an external data file");
    assert_str(error64(72, 8), "compression_type: the field says zlib, which the compression type bit contradicts");
}

void unknown_features_are_named_by_the_image() {
    auto header = read_header(header_bytes(one_gib()));
    header->incompatible = 1ull << 7 | 1ull << 40;
    header->feature_names.push_back({FeatureKind::Incompatible, 7, "time travel"});
    assert_str(error_of(*write_header(*header)),
               "Unsupported qcow2 feature(s): time travel, Unknown incompatible feature: 10000000000");
}

void names_must_be_inside_the_first_cluster() {
    auto bytes = header_bytes(one_gib());
    store_be<uint64_t>(bytes.data() + 8, 65530);
    store_be<uint32_t>(bytes.data() + 16, 7);
    assert_str(error_of(bytes), "backing_file_offset: 0xfffa with a name of 7 bytes is not inside the first cluster");
    store_be<uint32_t>(bytes.data() + 16, 1024);
    assert_str(error_of(bytes), "backing_file_size: 1024 bytes exceed the limit of 1023 (Backing file name too long)");
    store_be<uint32_t>(bytes.data() + 16, 6);
    assert_str(error_of(bytes), "backing_file_offset: 0xfffa: the file ends before the name does");
}

void extensions_must_end_inside_the_header_area() {
    auto bytes = header_bytes(one_gib());
    store_be<uint32_t>(bytes.data() + 112 + 4, 0xfffffff8);  // the feature table's length
    assert_str(error_of(bytes),
               "header extension 0x6803f857: 4294967288 bytes reach beyond the end of the header area");
}

void tables_must_be_apart_and_inside_the_file() {
    Header header = plan_image(one_gib())->header;
    auto error = [&](uint64_t length) {
        auto layout = check_layout(header, length);
        return layout ? std::string("ok") : layout.error().message;
    };
    assert_str(error(4 * 65536), "ok");
    assert_str(error(196624), "ok");  // the last cluster may be cut short
    assert_str(error(3 * 65536),
               "l1_table_offset: 0x30000 with 16 bytes is beyond the end of the file, which has 196608");
    header.l1_offset = header.reftable_offset;
    assert_str(error(4 * 65536), "l1_table_offset: 0x10000 with 16 bytes overlaps refcount_table_offset at 0x10000");
    header.l1_offset = 512;
    assert_str(error(4 * 65536), "l1_table_offset: 0x200 is not at the start of a cluster");
    header.l1_offset = 0;
    assert_str(error(4 * 65536), "l1_table_offset: 0x0 overlaps the header");
    header.l1_offset = 0xffff'ffff'ffff'0000;
    assert_str(error(4 * 65536),
               "l1_table_offset: 0xffffffffffff0000 with 16 bytes is beyond what the format can address");
    header.snapshots = 65537;
    assert_str(error(4 * 65536), "nb_snapshots: 65537 exceeds the limit of 65536");
}

void refcounts_of_every_width_are_what_was_set() {
    for (unsigned order = 0; order <= 6; order++) {
        std::vector<std::byte> block(512);
        uint64_t max = Geometry{9, order}.max_refcount();
        for (uint64_t i = 0; i < 64; i++)
            set_refcount(block.data(), i, order, (i * 0x123456789abcdefull) & max);
        set_refcount(block.data(), 5, order, max);
        for (uint64_t i = 0; i < 64; i++)
            g_assert_cmpuint(get_refcount(block.data(), i, order), ==, i == 5 ? max : (i * 0x123456789abcdefull) & max);
    }
}

std::vector<std::byte> entries(std::vector<uint64_t> words) {
    std::vector<std::byte> bytes(words.size() * 8);
    for (size_t i = 0; i < words.size(); i++)
        store_be<uint64_t>(bytes.data() + i * 8, words[i]);
    return bytes;
}

void adjacent_clusters_are_one_run() {
    L2Format format;
    auto table = entries({kCopied | 0x50000, 0x60000, kCopied | 0x80000, kZero, kZero, 0});
    Run run = decode_run(table, 0x1000, 1 << 30, format);
    g_assert_true(run.kind == Kind::Normal);
    g_assert_cmpuint(run.host, ==, 0x51000);
    g_assert_cmpuint(run.bytes, ==, 0x1f000);
    run = decode_run(std::span(table).subspan(24), 0x30000, 1 << 30, format);
    g_assert_true(run.kind == Kind::ZeroPlain);
    g_assert_cmpuint(run.bytes, ==, 0x20000);
}

void subclusters_have_kinds_of_their_own() {
    L2Format format;
    format.geometry.extended_l2 = true;  // of 2 KiB
    auto table = entries({kCopied | 0x50000, 0x0000'000c'0000'0003});
    Run run = decode_run(table, 1024, 1 << 20, format);
    g_assert_true(run.kind == Kind::Normal);
    g_assert_cmpuint(run.bytes, ==, 3072);
    run = decode_run(table, 4096, 1 << 20, format);
    g_assert_true(run.kind == Kind::ZeroAlloc);
    g_assert_cmpuint(run.bytes, ==, 4096);
    run = decode_run(table, 8192, 1 << 20, format);
    g_assert_true(run.kind == Kind::UnallocatedAlloc);
    g_assert_cmpuint(run.bytes, ==, 65536 - 8192);
}

void entries_that_contradict_the_format_are_invalid() {
    L2Format format;
    auto kind = [&](uint64_t a, uint64_t b = 0) { return subcluster_kind({a, b}, 0, format); };
    g_assert_true(kind(kCopied | 0x50200) == Kind::Invalid);  // not aligned
    format.version = 2;
    g_assert_true(kind(kZero) == Kind::Invalid);
    format.version = 3;
    format.data_file = true;
    g_assert_true(kind(kCompressed) == Kind::Invalid);
    g_assert_true(kind(kCopied) == Kind::Normal);  // offset 0 of the data file
    format.data_file = false;
    format.geometry.extended_l2 = true;
    g_assert_true(kind(kCopied | 0x50000, 0x1'0000'0001) == Kind::Invalid);  // allocated and zero
    g_assert_true(kind(0, 1) == Kind::Invalid);                              // allocated nowhere
}

void compressed_extents_count_sectors() {
    Geometry geometry;
    uint64_t descriptor = compressed_descriptor(0x12345, 1000, geometry);
    CompressedExtent extent = compressed_extent({descriptor}, geometry);
    g_assert_cmpuint(extent.offset, ==, 0x12345);
    g_assert_cmpuint(extent.bytes, ==, 0x12600 + 512 - 0x12345);  // to the end of the sector with the last byte
}

void creation_refuses_what_the_format_cannot_do() {
    auto error = [](auto change) {
        CreateOptions options = one_gib();
        change(options);
        auto plan = plan_image(options);
        g_assert_false(plan.has_value());
        return plan.error().message;
    };
    assert_str(error([](auto& o) { o.cluster_size.bytes = 1000; }),
               "Cluster size must be a power of two between 512 and 2048k");
    assert_str(error([](auto& o) { o.refcount_bits = 3; }),
               "Refcount width must be a power of two and may not exceed 64 bits");
    assert_str(error([](auto& o) { o.data_file_raw = true; }), "data-file-raw requires data-file");
    assert_str(error([](auto& o) { o.size.bytes = 1ull << 55, o.cluster_size.bytes = 512; }),
               "The image size is too large for file format 'qcow2' (try using a larger cluster size)");
    assert_str(error([](auto& o) { o.version = Version::V2, o.refcount_bits = 1; }),
               "Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or "
               "greater)");
}

void qemu_img_finds_nothing_wrong_with_new_images() {
    if (!have_qemu_img())
        return g_test_skip("qemu-img is not installed");
    TempDir dir;
    std::string file = dir.file("new.qcow2");
    for (uint64_t bits : {9, 12, 16, 21})
        for (unsigned refcount_bits : {1u, 8u, 16u, 64u})
            for (uint64_t size : {uint64_t{0}, uint64_t{1} << 20, uint64_t{100} << 30}) {
                CreateOptions options;
                options.size.bytes = size;
                options.cluster_size.bytes = uint64_t{1} << bits;
                options.refcount_bits = refcount_bits;
                options.extended_l2 = bits >= kMinExtendedL2ClusterBits;
                auto plan = plan_image(options);
                g_assert_true(plan.has_value());
                g_assert_true(check_layout(plan->header, plan->file_length).has_value());
                write_plan(*plan, file);
                g_assert_cmpint(run_program({"qemu-img", "check", "-q", "-f", "qcow2", file}), ==, 0);
            }
}

void options_have_the_names_of_qemu_img() {
    Json tree{{"size", "1G"},         {"compat", "0.10"},    {"cluster_size", "4k"},
              {"backing_fmt", "raw"}, {"backing_file", "b"}, {"lazy_refcounts", "off"}};
    auto options = CreateOptions::options().parse(tree, Typing::Lenient);
    g_assert_true(options.has_value());
    g_assert_true(options->version == Version::V2 && options->cluster_size == 4096 && options->size == 1 << 30);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/qcow2-format/written-headers-are-read-back", written_headers_are_read_back);
    g_test_add_func("/qcow2-format/unknown-extensions-and-fields-are-kept", unknown_extensions_and_fields_are_kept);
    g_test_add_func("/qcow2-format/bad-fields-are-named-with-their-value", bad_fields_are_named_with_their_value);
    g_test_add_func("/qcow2-format/unknown-features-are-named-by-the-image", unknown_features_are_named_by_the_image);
    g_test_add_func("/qcow2-format/names-must-be-inside-the-first-cluster", names_must_be_inside_the_first_cluster);
    g_test_add_func("/qcow2-format/extensions-must-end-inside-the-header-area",
                    extensions_must_end_inside_the_header_area);
    g_test_add_func("/qcow2-format/tables-must-be-apart-and-inside-the-file", tables_must_be_apart_and_inside_the_file);
    g_test_add_func("/qcow2-format/refcounts-of-every-width-are-what-was-set",
                    refcounts_of_every_width_are_what_was_set);
    g_test_add_func("/qcow2-format/adjacent-clusters-are-one-run", adjacent_clusters_are_one_run);
    g_test_add_func("/qcow2-format/subclusters-have-kinds-of-their-own", subclusters_have_kinds_of_their_own);
    g_test_add_func("/qcow2-format/entries-that-contradict-the-format-are-invalid",
                    entries_that_contradict_the_format_are_invalid);
    g_test_add_func("/qcow2-format/compressed-extents-count-sectors", compressed_extents_count_sectors);
    g_test_add_func("/qcow2-format/creation-refuses-what-the-format-cannot-do",
                    creation_refuses_what_the_format_cannot_do);
    g_test_add_func("/qcow2-format/qemu-img-finds-nothing-wrong-with-new-images",
                    qemu_img_finds_nothing_wrong_with_new_images);
    g_test_add_func("/qcow2-format/options-have-the-names-of-qemu-img", options_have_the_names_of_qemu_img);
    return g_test_run();
}
