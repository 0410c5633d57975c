// Making images: with the same options they are what qemu-img makes of them, and what it refuses is refused with its
// words; and saying beforehand how large an image is going to be.
#include "block/image_create.h"
#include "tests/unit/qcow2_fixture.h"

using namespace ashlar;
using namespace ashlar::test;
using namespace ashlar::qcow2;

namespace {

bool skip_without_qemu() {
    if (have_qemu_img())
        return false;
    g_test_skip("qemu-img is not installed");
    return true;
}

// "a=b,c=d", with DIR for the directory.
Json option_object(std::string words, const TempDir& dir) {
    for (size_t at; (at = words.find("DIR/")) != std::string::npos;)
        words.replace(at, 4, dir.file(""));
    Json options = Json::object();
    g_auto(GStrv) parts = g_strsplit(words.c_str(), ",", -1);
    for (char** part = parts; *part; part++)
        if (char* equals = strchr(*part, '='))
            options[std::string(*part, equals)] = equals + 1;
    return options;
}

std::string option_text(const Json& options) {
    std::string text;
    for (const auto& [key, value] : options.items())
        text += (text.empty() ? "" : ",") + key + "=" + value.get<std::string>();
    return text;
}

Result<void> create(BlockFixture& fixture, const std::string& file, const Json& options) {
    return fixture.run(co_create_image(*fixture.graph, **fixture.registry.get("qcow2"), file, options));
}

Json qemu_json(const std::vector<std::string>& words) {
    auto parsed = parse_json(run_program_output(words).out);
    g_assert_true(parsed.has_value());
    return *parsed;
}

// What qemu-img says of it, without what two images cannot have in common.
std::string described(const std::string& file) {
    Json info = qemu_json({"qemu-img", "info", "-U", "--output=json", file});
    for (const char* key : {"filename", "actual-size", "full-backing-filename"})
        info.erase(key);
    if (info["format-specific"]["data"].contains("data-file"))
        info["format-specific"]["data"].erase("data-file");
    // (In a data file qemu-img looks for holes if the image has some, which depends on the file system.)
    bool no_map = info.contains("backing-filename") || info["format-specific"]["data"].contains("data-file-raw");
    Json map = no_map ? Json::array() : qemu_json({"qemu-img", "map", "--output=json", file});
    std::string text = canonical(info);
    for (Json& part : map) {
        part.erase("offset");
        text += "\n" + canonical(part);
    }
    return text;
}

void images_are_those_that_qemu_img_makes(gconstpointer data) {
    if (skip_without_qemu())
        return;
    TempDir dir;
    BlockFixture fixture;
    Json options = option_object(static_cast<const char*>(data), dir);
    std::string ours = dir.file("ours.qcow2"), theirs = dir.file("theirs.qcow2");
    write_file(dir.file("base.raw"), Bytes(1 << 20, std::byte{1}));
    BlockFixture::check(create(fixture, ours, options));
    std::string got = described(ours);
    if (!options.contains("backing_file") && options["size"] != "0") {
        for (const char* command : {"read -P 0 0 100k", "write -P 5 65000 5000", "read -P 0 0 65000"})
            g_assert_cmpint(run_program({"qemu-io", "-c", command, ours}), ==, 0);
    }
    g_assert_cmpint(run_program({"qemu-img", "check", "-q", ours}), ==, 0);
    g_assert_cmpint(run_program({"qemu-img", "create", "-q", "-u", "-f", "qcow2", "-o", option_text(options), theirs}),
                    ==, 0);
    assert_text(got, described(theirs));
}

void what_qemu_img_refuses_is_refused_with_its_words(gconstpointer data) {
    if (skip_without_qemu())
        return;
    TempDir dir;
    BlockFixture fixture;
    Json options = option_object(static_cast<const char*>(data), dir);
    std::string file = dir.file("image.qcow2");
    auto made = create(fixture, file, options);
    g_assert_false(made.has_value());
    g_assert_false(g_file_test(file.c_str(), G_FILE_TEST_EXISTS));
    Output theirs =
        run_program_output({"qemu-img", "create", "-q", "-u", "-f", "qcow2", "-o", option_text(options), file});
    assert_text("qemu-img: " + file + ": " + made.error().message + "\n", theirs.err);
}

void encryption_is_refused_by_name() {
    TempDir dir;
    BlockFixture fixture;
    for (const char* options : {"size=1M,encryption=on", "size=1M,encrypt.format=luks,encrypt.key-secret=s"}) {
        auto made = create(fixture, dir.file("image.qcow2"), option_object(options, dir));
        g_assert_false(made.has_value());
        assert_text(made.error().message, "Encrypted images are not supported yet");
    }
}

void sizes_are_foretold_as_by_qemu_img(gconstpointer data) {
    if (skip_without_qemu())
        return;
    TempDir dir;
    BlockFixture fixture;
    Json options = option_object(static_cast<const char*>(data), dir);
    auto measured = fixture.run(co_measure_image(*fixture.graph, nullptr, **fixture.registry.get("qcow2"), options));
    MeasuredSize size = BlockFixture::check(std::move(measured));
    Json theirs = qemu_json({"qemu-img", "measure", "--output=json", "-O", "qcow2", "-o", option_text(options),
                             "--size", options["size"].get<std::string>()});
    g_assert_cmpuint(size.required, ==, theirs["required"].get<uint64_t>());
    g_assert_cmpuint(size.fully_allocated, ==, theirs["fully-allocated"].get<uint64_t>());
}

void a_copy_of_an_image_has_the_size_that_was_foretold() {
    if (skip_without_qemu())
        return;
    TempDir dir;
    BlockFixture fixture;
    std::string file = dir.file("source.qcow2");
    g_assert_cmpint(run_program({"qemu-img", "create", "-q", "-f", "qcow2", file, "20M"}), ==, 0);
    for (const char* command : {"write 100k 300k", "write 5M 5000", "write 10M 1M", "write -z 12M 1M"})
        g_assert_cmpint(run_program({"qemu-io", "-c", command, file}), ==, 0);
    g_assert_cmpint(run_program({"qemu-img", "bitmap", "--add", file, "b0"}), ==, 0);
    g_assert_cmpint(run_program({"qemu-img", "bitmap", "--add", "-g", "512", file, "longer-name"}), ==, 0);
    for (std::string cluster : {"512", "4k", "64k", "2M"}) {
        OpenImage image(fixture, file, false);
        auto measured = fixture.run(co_measure_image(*fixture.graph, image.backend.get(),
                                                     **fixture.registry.get("qcow2"), Json{{"cluster_size", cluster}}));
        MeasuredSize size = BlockFixture::check(std::move(measured));
        Json theirs = qemu_json({"qemu-img", "measure", "--output=json", "-O", "qcow2", "-f", "qcow2", "-o",
                                 "cluster_size=" + cluster, file});
        g_assert_cmpuint(size.required, ==, theirs["required"].get<uint64_t>());
        g_assert_cmpuint(size.fully_allocated, ==, theirs["fully-allocated"].get<uint64_t>());
        g_assert_cmpuint(size.bitmaps.value(), ==, theirs["bitmaps"].get<uint64_t>());
    }
}

const char* const kMade[] = {
    "size=10M",
    "size=0",
    "size=1000000",
    "size=10M,compat=0.10",
    "size=10M,compat=v3,lazy_refcounts=on",
    "size=3G,cluster_size=2M",
    "size=10M,cluster_size=512,refcount_bits=1",
    "size=10M,refcount_bits=64",
    "size=10M,compression_type=zstd",
    "size=10M,extended_l2=on",
    "size=10M,backing_file=base.raw,backing_fmt=raw",
    "size=10M,data_file=DIR/data.raw",
    "size=10M,data_file=DIR/data.raw,data_file_raw=on",
    "size=10M,preallocation=metadata",
    "size=10M,preallocation=metadata,compat=0.10",
    "size=10M,preallocation=metadata,extended_l2=on",
    "size=10M,preallocation=metadata,extended_l2=on,backing_file=base.raw,backing_fmt=raw",
    "size=10M,preallocation=falloc",
    "size=10M,preallocation=full",
    "size=10M,preallocation=full,data_file=DIR/data.raw",
};

const char* const kRefused[] = {
    "size=1M,cluster_size=100",
    "size=1M,cluster_size=4M",
    "size=1M,refcount_bits=3",
    "size=1M,refcount_bits=128",
    "size=1M,compat=0.10,refcount_bits=1",
    "size=1M,compat=0.10,lazy_refcounts=on",
    "size=1M,compat=0.10,extended_l2=on",
    "size=1M,compat=0.10,compression_type=zstd",
    "size=1M,compat=0.10,data_file=x.raw",
    "size=1M,cluster_size=4k,extended_l2=on",
    "size=1M,backing_fmt=raw",
    "size=1M,data_file_raw=on",
    "size=1M,data_file_raw=on,data_file=x.raw,backing_file=y,backing_fmt=raw",
    "size=1M,preallocation=full,backing_file=y,backing_fmt=raw",
    "size=8000P",
    "size=7000P,cluster_size=2M",
};

const char* const kMeasured[] = {
    "size=0",
    "size=1000000",
    "size=1G",
    "size=10T",
    "size=1G,cluster_size=512",
    "size=100G,cluster_size=4k,refcount_bits=64",
    "size=3T,cluster_size=2M,refcount_bits=1",
    "size=1G,extended_l2=on",
    "size=1G,preallocation=full",
    "size=1G,preallocation=metadata",
};

void add_each(const char* path, std::span<const char* const> cases, GTestDataFunc test) {
    for (const char* options : cases) {
        std::string name = options;
        std::ranges::replace(name, '/', '-');
        g_test_add_data_func(fmt::format("/qcow2-create/{}/{}", path, name).c_str(), options, test);
    }
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    add_each("as-by-qemu-img", kMade, images_are_those_that_qemu_img_makes);
    add_each("refused-as-by-qemu-img", kRefused, what_qemu_img_refuses_is_refused_with_its_words);
    add_each("measured-as-by-qemu-img", kMeasured, sizes_are_foretold_as_by_qemu_img);
    g_test_add_func("/qcow2-create/encryption-is-refused-by-name", encryption_is_refused_by_name);
    g_test_add_func("/qcow2-create/a-copy-of-an-image-has-the-size-that-was-foretold",
                    a_copy_of_an_image_has_the_size_that_was_foretold);
    return g_test_run();
}
