#include "nbd/uri.h"
#include "tests/unit/assert_str.h"

using namespace ashlar;
using namespace ashlar::nbd;

namespace {

void same(std::string_view text, SocketAddress address, std::string name) {
    auto uri = parse_uri(text);
    if (!uri)
        g_error("%s", uri.error().message.c_str());
    assert_str(uri->export_name, name);
    assert_str(ashlar::to_string(uri->address), ashlar::to_string(address));
    g_assert_true(uri->address == address);
    g_assert_true(parse_uri(nbd::to_string(*uri)) == *uri);  // and back
}

void test_forms() {
    InetAddress example{"example.com", "10809", {}, {}};
    same("nbd://example.com", example, "");
    same("nbd://example.com/", example, "");
    same("nbd://example.com:10809/export", example, "export");
    same("nbd://example.com//disk", example, "/disk");
    same("nbd://example.com/hello%20world", example, "hello world");
    same("nbd://[::1]:5/x", InetAddress{"::1", "5", {}, {}}, "x");
    same("nbd://[fe80::1%25eth0]:5/x", InetAddress{"fe80::1%eth0", "5", {}, {}}, "x");
    same("nbd://a%3Ab:5/x", InetAddress{"a:b", "5", {}, {}}, "x");
    same("nbd://a%2541/x", InetAddress{"a%41", "10809", {}, {}}, "x");
    same("nbd://127.0.0.1:5/gr%C3%B6%C3%9Fe", InetAddress{"127.0.0.1", "5", {}, {}}, "größe");
    same("nbd:///x", InetAddress{"", "10809", {}, {}}, "x");
    same("nbd+unix:///disk?socket=sock", UnixAddress{.path = "sock"}, "disk");
    same("nbd+unix://?socket=/tmp/a%20b%26", UnixAddress{.path = "/tmp/a b&"}, "");
    same("nbd+unix:///?socket=%00/abstract", UnixAddress{.path = "/abstract", .abstract = true}, "");
    same("nbd+vsock://3:9/x", VsockAddress{"3", "9"}, "x");
    same("nbd+vsock:///x", VsockAddress{"2", "10809"}, "x");
    same("nbd://example.com/x?x-extra=1", example, "x");
    same("nbd://example.com/a?", example, "a");
}

void refused(std::string_view text, std::string_view why) {
    auto uri = parse_uri(text);
    g_assert_false(uri.has_value());
    if (!uri.error().message.contains(why))
        g_error("'%s' does not say '%s'", uri.error().message.c_str(), std::string(why).c_str());
}

void test_refusals() {
    refused("http://example.com", "is not an NBD URI");
    refused("nbd:unix:/x", "is not an NBD URI");
    refused("nbds://example.com/", "TLS is not supported yet");
    refused("nbds+unix:///?socket=x", "TLS is not supported yet");
    refused("nbd+unix:///x", "'socket' is missing");
    refused("nbd+unix:///x?socket=", "'socket' is missing");
    refused("nbd+unix://host/x?socket=a", "has no host");
    refused("nbd+unix:///x?socket=a&socket=b", "given twice");
    refused("nbd://host/x?socket=a", "needs the scheme nbd+unix");
    refused("nbd://host/x?colour=red", "unknown parameter 'colour'");
    refused("nbd://host/%00", "without NUL");
    refused("nbd://host/%ff", "UTF-8");
    refused("nbd://host/%zz", "");
    refused("nbd://a%zz/", "");
    refused("nbd://[a%3Ab]/", "Invalid IPv6 address");
    refused("nbd://[fe80::1%25\xff]/", "the host must be UTF-8");
    refused("nbd://[fe80::1%25%00]/", "lacks the zone");
    refused("nbd+vsock://host/x", "a number");
    refused("nbd+vsock://65;13=%4003x.", "a number");
    refused("nbd://host:99999/", "");
    refused("nbd://host/x#part", "fragment");
    refused("nbd://host/" + std::string(4097, 'x'), "at most 4096");
}

void test_recognised() {
    g_assert_true(is_uri("nbd://"));
    g_assert_true(is_uri("nbds+unix:///?socket=x"));
    g_assert_false(is_uri("nbd:localhost:10809"));
    g_assert_false(is_uri("file.img"));
    g_assert_false(is_uri("nbdx://"));
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/nbd/uri/forms-there-and-back", test_forms);
    g_test_add_func("/nbd/uri/bad-ones-are-refused-with-the-reason", test_refusals);
    g_test_add_func("/nbd/uri/recognised-by-scheme", test_recognised);
    return g_test_run();
}
