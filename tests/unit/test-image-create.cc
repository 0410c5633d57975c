#include "block/image_create.h"
#include "tests/unit/block_fixture.h"
#include "tests/unit/temp_dir.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>

using namespace ashlar;

namespace {

struct Fixture : BlockFixture {
    TempDir dir;

    Result<void> create(const std::string& format, const std::string& filename, Json options) {
        return run(co_create_image(*graph, *check(registry.get(format)), filename, std::move(options)));
    }
    std::string create_error(const std::string& format, const std::string& filename, Json options) {
        auto done = create(format, filename, std::move(options));
        g_assert_false(done.has_value());
        return done.error().message;
    }
};

void test_whole_sectors() {
    Fixture f;
    f.check(f.create("raw", f.dir.file("a"), {{"size", "1000"}}));
    g_assert_cmpint(std::filesystem::file_size(f.dir.file("a")), ==, 1024);
}

void test_what_was_there_is_gone() {
    Fixture f;
    std::ofstream(f.dir.file("a")) << std::string(8192, 'x');
    f.check(f.create("raw", "file:" + f.dir.file("a"), {{"size", "4k"}}));
    std::ifstream in(f.dir.file("a"));
    std::string contents(std::istreambuf_iterator<char>(in), {});
    g_assert_true(contents == std::string(4096, '\0'));
}

void test_preallocation() {
    Fixture f;
    f.check(f.create("raw", f.dir.file("a"), {{"size", "1M"}, {"preallocation", "full"}}));
    struct stat st;
    g_assert_cmpint(stat(f.dir.file("a").c_str(), &st), ==, 0);
    g_assert_cmpint(st.st_blocks * 512, >=, 1 << 20);
    assert_text(f.create_error("raw", f.dir.file("b"), {{"size", "1M"}, {"preallocation", "metadata"}}),
                "Unsupported preallocation mode: metadata");
    g_assert_false(std::filesystem::exists(f.dir.file("b")));
}

void test_refusals_leave_nothing() {
    Fixture f;
    const std::string name = f.dir.file("a");
    f.create_error("raw", name, {{"size", "1M"}, {"cluster_size", "64k"}});
    f.create_error("raw", name, Json::object());
    assert_text(f.create_error("raw", name, {{"size", "8E"}}), "The image size is too large for file format 'raw'");
    assert_text(f.create_error("throttle", name, {{"size", "1M"}}),
                "Format driver 'throttle' does not support image creation");
    g_assert_false(std::filesystem::exists(name));
    assert_text(f.create_error("raw", f.dir.file("none/a"), {{"size", "1M"}}),
                "Could not create '" + f.dir.file("none/a") + "': No such file or directory");
}

void test_an_image_in_use_is_left_alone() {
    Fixture f;
    std::ofstream(f.dir.file("a")) << std::string(4096, 'x');
    BlockDriverState& node = f.add("{'driver':'file','node-name':'n','filename':'" + f.dir.file("a") + "'}");
    auto user = f.attach(node);
    f.create_error("raw", f.dir.file("a"), {{"size", "1M"}});
    g_assert_cmpint(std::filesystem::file_size(f.dir.file("a")), ==, 4096);
    f.detach(user);
    f.del("n");
}

void test_protocols_that_make_no_files() {
    Fixture f;
    assert_text(f.create_error("raw", "host_device:" + f.dir.file("none"), {{"size", "1M"}}),
                "Protocol driver 'host_device' does not support image creation, and opening the image failed: Could "
                "not open '" +
                    f.dir.file("none") + "': No such file or directory");
}

void test_measure() {
    Fixture f;
    const DriverType& raw = *f.check(f.registry.get("raw"));
    auto size = f.check(f.run(co_measure_image(*f.graph, nullptr, raw, {{"size", 10000}, {"preallocation", "off"}})));
    g_assert_cmpuint(size.required, ==, 10240);
    g_assert_cmpuint(size.fully_allocated, ==, 10240);
    g_assert_false(size.bitmaps.has_value());
    auto unknown = f.run(co_measure_image(*f.graph, nullptr, raw, {{"size", 10000}, {"foo", "1"}}));
    assert_text(unknown.error().message, "Invalid parameter 'foo'");

    BlockDriverState& node = f.add("{'driver':'null-co','node-name':'n','size':5120}");
    auto source = f.attach(node, BlockFixture::kReadOnly);
    size = f.check(f.run(co_measure_image(*f.graph, source.get(), raw, Json::object())));
    g_assert_cmpuint(size.required, ==, 5120);
    f.detach(source);
    f.del("n");
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/image-create/whole-sectors", test_whole_sectors);
    g_test_add_func("/image-create/what-was-there-is-gone", test_what_was_there_is_gone);
    g_test_add_func("/image-create/preallocation", test_preallocation);
    g_test_add_func("/image-create/refusals-leave-nothing", test_refusals_leave_nothing);
    g_test_add_func("/image-create/an-image-in-use-is-left-alone", test_an_image_in_use_is_left_alone);
    g_test_add_func("/image-create/protocols-that-make-no-files", test_protocols_that_make_no_files);
    g_test_add_func("/image-create/measure", test_measure);
    return g_test_run();
}
