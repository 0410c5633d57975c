#include "tests/unit/assert_text.h"
#include "util/size.h"

#include <glib.h>

#include <cerrno>

using namespace ashlar;

namespace {

void assert_size(std::string_view text, uint64_t expected) {
    auto size = parse_size(text);
    g_assert_true(size.has_value());
    g_assert_cmpuint(*size, ==, expected);
}

void test_suffixes() {
    assert_size("0", 0);
    assert_size("512", 512);
    assert_size("010", 10);
    assert_size("512b", 512);
    assert_size("64k", 64 << 10);
    assert_size("64K", 64 << 10);
    assert_size("3M", 3 << 20);
    assert_size("1G", uint64_t{1} << 30);
    assert_size("1T", uint64_t{1} << 40);
    assert_size("1P", uint64_t{1} << 50);
    assert_size("15E", uint64_t{15} << 60);
    assert_size("0x200", 512);
    assert_size("18446744073709551615", UINT64_MAX);
    g_assert_cmpuint(*parse_size("2", 1 << 20), ==, 2 << 20);
    g_assert_cmpuint(*parse_size("2k", 1 << 20), ==, 2 << 10);
}

void test_fractions() {
    assert_size("1.5G", uint64_t{3} << 29);
    assert_size("0.1k", 102);
    assert_size("1.00000000000000000000001k", 1024);
    assert_size("0.999999999999999999E", (uint64_t{1} << 60) - 2);
}

void test_what_is_not_a_size() {
    for (const char* text :
         {"", "k", "-1", "+1", " 1", "1 ", "1KiB", "1x", "1.5", "1.5b", "1.k", ".5k", "0x", "0x1k", "1.5.5k", "abc"}) {
        auto size = parse_size(text);
        g_assert_false(size.has_value());
        g_assert_cmpint(size.error(), ==, -EINVAL);
    }
    for (const char* text : {"18446744073709551616", "16E", "15.99999999999999999999E1", "0x10000000000000000"})
        g_assert_false(parse_size(text).has_value());
    g_assert_cmpint(parse_size("16E").error(), ==, -ERANGE);
}

void test_integers() {
    g_assert_cmpint(*parse_int64("-5"), ==, -5);
    g_assert_cmpint(*parse_int64("0x10"), ==, 16);
    g_assert_cmpint(*parse_int64("010"), ==, 8);
    g_assert_cmpint(*parse_int64("0"), ==, 0);
    g_assert_cmpint(*parse_int64("9223372036854775807"), ==, INT64_MAX);
    g_assert_cmpint(*parse_int64("-9223372036854775808"), ==, INT64_MIN);
    g_assert_cmpint(parse_int64("9223372036854775808").error(), ==, -ERANGE);
    g_assert_cmpint(parse_int64("-9223372036854775809").error(), ==, -ERANGE);
    g_assert_cmpuint(*parse_uint64("0xffffffffffffffff"), ==, UINT64_MAX);
    for (const char* text : {"", "-", "--1", "1.0", "0x", "08", "1k", " 1"})
        g_assert_cmpint(parse_int64(text).error(), ==, -EINVAL);
    g_assert_cmpint(parse_uint64("-1").error(), ==, -EINVAL);
}

void test_format() {
    assert_text(format_size(0), "0 B");
    assert_text(format_size(512), "512 B");
    assert_text(format_size(999), "999 B");
    assert_text(format_size(1536), "1.5 KiB");
    assert_text(format_size(1024000), "0.977 MiB");
    assert_text(format_size(1234944), "1.18 MiB");
    assert_text(format_size(uint64_t{3} << 29), "1.5 GiB");
    assert_text(format_size(uint64_t{7} << 60), "7 EiB");
    assert_text(format_size(UINT64_MAX), "16 EiB");
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/size/suffixes-are-powers-of-1024", test_suffixes);
    g_test_add_func("/size/fractions-are-exact-and-rounded-down", test_fractions);
    g_test_add_func("/size/what-is-not-a-size-is-refused", test_what_is_not_a_size);
    g_test_add_func("/size/integers-in-all-bases-and-at-their-limits", test_integers);
    g_test_add_func("/size/format-has-three-digits-and-a-binary-unit", test_format);
    return g_test_run();
}
