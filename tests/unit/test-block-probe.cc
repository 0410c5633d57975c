#include "block/file_name.h"
#include "block/format_signatures.h"
#include "tests/unit/block_fixture.h"

#include <glib/gstdio.h>

#include <fstream>

using namespace ashlar;

namespace {

struct TempImage {
    std::string path;

    explicit TempImage(std::string_view head, size_t size = 4096) {
        char name[] = "/tmp/ashlar-probe-XXXXXX";
        int fd = g_mkstemp(name);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(ftruncate(fd, static_cast<off_t>(size)), ==, 0);
        g_assert_cmpint(pwrite(fd, head.data(), head.size(), 0), ==, static_cast<int>(head.size()));
        close(fd);
        path = name;
    }
    ~TempImage() { g_unlink(path.c_str()); }
};

using namespace std::string_view_literals;

std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text));
}

void headers_are_known() {
    assert_text(format_of_header(bytes_of("QFI\xfb\0\0\0\3"sv)), "qcow2");
    assert_text(format_of_header(bytes_of("QFI\xfb\0\0\0\1"sv)), "qcow");
    assert_text(format_of_header(bytes_of("LUKS\xba\xbe"sv)), "luks");
    assert_text(format_of_header(bytes_of("KDMV"sv)), "vmdk");
    assert_text(format_of_header(bytes_of("QFI"sv)), "");
    assert_text(format_of_header({}), "");
    std::string vdi(512, '\0');
    vdi.replace(64, 4, "\x7f\x10\xda\xbe");
    assert_text(format_of_header(bytes_of(vdi)), "vdi");
}

BlockDriverState* open(BlockFixture& f, Json options) {
    return BlockFixture::check(f.run(f.graph->co_open(std::move(options), Typing::Lenient)));
}

void guessing_raw_warns() {
    if (g_test_subprocess()) {
        BlockFixture f;
        TempImage image("no header");
        BlockDriverState* node = open(f, {{"filename", image.path}});
        g_assert_true(node->is_probed_raw());
        assert_text(node->type().name, "raw");
        BlockFixture::check(f.run(f.graph->co_unref(*node)));
        return;
    }
    g_test_trap_subprocess(nullptr, 0, G_TEST_SUBPROCESS_DEFAULT);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr(
        "*Image format was not specified for '/tmp/ashlar-probe-*' and probing guessed raw.\n"
        "*Specify the 'raw' format explicitly to remove the restrictions.\n");
}

void a_format_without_a_driver_is_not_taken_for_raw() {
    BlockFixture f;
    TempImage image("KDMV");
    auto opened = f.run(f.graph->co_open({{"filename", image.path}}, Typing::Lenient));
    assert_text(opened.error().message, image.path + ": image format 'vmdk' is not supported");
    BlockDriverState* node = open(f, {{"filename", image.path}, {"driver", "raw"}});
    g_assert_false(node->is_probed_raw());
    BlockFixture::check(f.run(f.graph->co_unref(*node)));
}

void write_header(BlockBackend& backend, int64_t offset, std::string_view text, int expected) {
    g_assert_cmpint(backend.pwrite(offset, static_cast<int64_t>(text.size()), text.data()), ==, expected);
}

void a_guessed_raw_image_does_not_become_another_format() {
    if (g_test_subprocess()) {
        BlockFixture f;
        TempImage image("");
        BlockDriverState* node = open(f, {{"filename", image.path}});
        auto backend = f.attach(*node);
        BlockFixture::check(f.run(f.graph->co_unref(*node)));
        const std::string sector = std::string("QFI\xfb\0\0\0\3"sv) + std::string(504, '\0');
        write_header(*backend, 0, sector, -EPERM);
        write_header(*backend, 0, sector + sector, -EPERM);
        write_header(*backend, 512, sector, 0);
        write_header(*backend, 0, std::string(512, 'x'), 0);
        // Nor in parts.
        write_header(*backend, 2, "I\xfb"sv, 0);
        write_header(*backend, 0, "QF", -EPERM);
        write_header(*backend, 1, "F", 0);
        write_header(*backend, 0, "Q", -EPERM);
        g_assert_cmpint(backend->pwrite_zeroes(0, 512), ==, 0);
        write_header(*backend, 0, "QF", 0);
        write_header(*backend, 2, "I\xfb"sv, -EPERM);
        g_assert_cmpint(backend->pwrite_zeroes(1, 1), ==, 0);
        f.detach(backend);
        return;
    }
    g_test_trap_subprocess(nullptr, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
    g_test_trap_assert_passed();
}

void zeroes_do_not_complete_a_header() {
    if (g_test_subprocess()) {
        BlockFixture f;
        TempImage image("QED\1");
        BlockDriverState* node = open(f, {{"filename", image.path}});
        auto backend = f.attach(*node);
        BlockFixture::check(f.run(f.graph->co_unref(*node)));
        g_assert_cmpint(backend->pwrite_zeroes(3, 1), ==, -EPERM);
        g_assert_cmpint(backend->pwrite_zeroes(3, 4000), ==, -EPERM);
        g_assert_cmpint(backend->pwrite_zeroes(0, 4000), ==, 0);
        f.detach(backend);
        return;
    }
    g_test_trap_subprocess(nullptr, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
    g_test_trap_assert_passed();
}

void with_the_format_given_anything_goes() {
    BlockFixture f;
    TempImage image("");
    BlockDriverState* node = open(f, {{"filename", image.path}, {"driver", "raw"}});
    auto backend = f.attach(*node);
    BlockFixture::check(f.run(f.graph->co_unref(*node)));
    write_header(*backend, 0, "QFI\xfb\0\0\0\3"sv, 0);
    f.detach(backend);
}

void protocols_are_before_a_colon() {
    assert_text(protocol_prefix("nbd:host:1").value_or("none"), "nbd");
    assert_text(protocol_prefix("nbd+unix:///x?socket=y").value_or("none"), "nbd+unix");
    g_assert_false(protocol_prefix("./a:b").has_value());
    g_assert_false(protocol_prefix("/a:b").has_value());
    g_assert_false(protocol_prefix("a.img").has_value());
    g_assert_false(protocol_prefix(":a").has_value());
    g_assert_false(protocol_prefix("json:{}").has_value());
}

void relative_names_are_next_to_the_image() {
    assert_text(combine_names("a.img", "b.img"), "b.img");
    assert_text(combine_names("dir/a.img", "b.img"), "dir/b.img");
    assert_text(combine_names("/dir/a.img", "sub/b.img"), "/dir/sub/b.img");
    assert_text(combine_names("dir/a.img", "/b.img"), "/b.img");
    assert_text(combine_names("dir/a.img", "nbd://h/b"), "nbd://h/b");
    assert_text(combine_names("nbd://host/a/b", "c"), "nbd://host/a/c");
    assert_text(combine_names("nbd://host", "c"), "nbd://host/c");
    assert_text(combine_names("file:dir/a.img", "b.img"), "file:dir/b.img");
    assert_text(combine_names("file:a.img", "b.img"), "file:b.img");
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/block-probe/headers-are-known", headers_are_known);
    g_test_add_func("/block-probe/guessing-raw-warns", guessing_raw_warns);
    g_test_add_func("/block-probe/a-format-without-a-driver-is-not-taken-for-raw",
                    a_format_without_a_driver_is_not_taken_for_raw);
    g_test_add_func("/block-probe/a-guessed-raw-image-does-not-become-another-format",
                    a_guessed_raw_image_does_not_become_another_format);
    g_test_add_func("/block-probe/zeroes-do-not-complete-a-header", zeroes_do_not_complete_a_header);
    g_test_add_func("/block-probe/with-the-format-given-anything-goes", with_the_format_given_anything_goes);
    g_test_add_func("/block-probe/protocols-are-before-a-colon", protocols_are_before_a_colon);
    g_test_add_func("/block-probe/relative-names-are-next-to-the-image", relative_names_are_next_to_the_image);
    return g_test_run();
}
