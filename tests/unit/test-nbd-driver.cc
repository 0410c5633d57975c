// The block driver `nbd`: its options and names, and what it makes of what a server says of itself.
#include "block/block_backend.h"
#include "block/nbd/options.h"
#include "tests/unit/block_fixture.h"
#include "tests/unit/nbd_script_server.h"

using namespace ashlar;
using namespace ashlar::nbd;

namespace {

std::optional<ByteVector> answer_everything(const Request& request, const Say& say) {
    if (request.type == kCmdRead)
        return say.data(request.offset, filled(request.length, 0x5a));
    return say.simple();
}

struct Fixture : BlockFixture {
    ScriptServer server{*context};

    Fixture() { server.answer = answer_everything; }
    ~Fixture() { check(run(graph->co_close_all())); }  // before the server goes
    std::string options(std::string_view more = "") const {
        return fmt::format(
            "{{'driver': 'nbd', 'node-name': 'n', 'discard': 'unmap', 'server': {{'type': 'unix', 'path': '{}'}}{}}}",
            server.path(), more);
    }
    std::string open_legacy_error(Json json) {
        auto node = run(graph->co_open(std::move(json), Typing::Lenient));
        g_assert_false(node.has_value());
        return node.error().message;
    }
};

void named(std::string_view filename, std::string_view json) {
    auto parsed = parse_nbd_filename(filename);
    if (!parsed)
        g_error("%s", parsed.error().message.c_str());
    assert_text(dump_json(*parsed), dump_json(*parse_json_object(json)));
}

void refused(std::string_view filename, std::string_view message, std::string_view hint = "") {
    auto parsed = parse_nbd_filename(filename);
    g_assert_false(parsed.has_value());
    assert_text(parsed.error().message, message);
    g_assert_true(parsed.error().hint.contains(hint));
}

void test_names() {
    named("nbd:host:1234", "{'server': {'type': 'inet', 'host': 'host', 'port': '1234'}}");
    named("nbd:[::1]:1234:exportname=a:b",
          "{'server': {'type': 'inet', 'host': '::1', 'port': '1234'}, 'export': 'a:b'}");
    named("nbd:unix:/a:b:exportname=x", "{'server': {'type': 'unix', 'path': '/a:b'}, 'export': 'x'}");
    named("nbd://host", "{'server': {'type': 'inet', 'host': 'host', 'port': '10809'}}");
    named("nbd+tcp://host:1/x%20y", "{'server': {'type': 'inet', 'host': 'host', 'port': '1'}, 'export': 'x y'}");
    named("nbd+unix:///x?socket=/s", "{'server': {'type': 'unix', 'path': '/s'}, 'export': 'x'}");
    named("nbd+vsock://3:4/x", "{'server': {'type': 'vsock', 'cid': '3', 'port': '4'}, 'export': 'x'}");
    refused("nbd:", "NBD server address missing");
    refused("nbd:host:1:exportname=", "NBD server address missing");
    refused("nbd:host", "error parsing address 'host'");
    refused("nbd:[::1]", "error parsing address '[::1]'");
    refused("nbd+unix:///x", "No valid URL specified", "'socket' is missing");
    refused("nbd://host?socket=/s", "No valid URL specified");
    refused("nbd://host:99999/", "No valid URL specified");
    refused("nbds://host/", "nbds://host/: TLS is not supported yet");
}

void test_own_name() {
    const InetAddress inet{.host = "h", .port = "1", .ipv4 = {}, .ipv6 = {}};
    const InetAddress v6{.host = "::1", .port = "1", .ipv4 = {}, .ipv6 = {}};
    assert_text(nbd_filename(inet, "a b"), "nbd://h:1/a b");
    assert_text(nbd_filename(v6, ""), "nbd://[::1]:1");
    assert_text(nbd_filename(UnixAddress{.path = "/s"}, ""), "nbd+unix://?socket=/s");
    assert_text(nbd_filename(UnixAddress{.path = "/s"}, "x"), "nbd+unix:///x?socket=/s");
    Fixture f;
    assert_text(f.add(f.options(", 'export': 'x'")).filename(), "nbd+unix:///x?socket=" + f.server.path());
}

void test_options() {
    Fixture f;
    auto flat = [&](std::string_view more) {
        Json json = *parse_json_object(more);
        json["driver"] = "nbd";
        return f.open_legacy_error(std::move(json));
    };
    assert_text(flat("{}"), "NBD server address missing");
    assert_text(flat("{'port': '1'}"), "NBD server address missing");
    assert_text(flat("{'path': '/x', 'host': 'h'}"), "path and host may not be used at the same time");
    assert_text(flat("{'server': {'type': 'unix', 'path': '/x'}, 'host': 'h'}"),
                "Cannot use 'server' and path/host/port at the same time");
    assert_text(flat("{'path': '/nonexistent/socket'}"),
                "Failed to connect to '/nonexistent/socket': No such file or directory");
    assert_text(flat("{'path': '/x', 'connections': '17'}"), "Parameter 'connections' expects a number from 1 to 16");
    assert_text(flat("{'path': '/x', 'tls-creds': 't'}"), "Parameter 'tls-creds': TLS is not supported yet");
    // QMP knows `server` only.
    assert_text(f.add_error("{'driver': 'nbd', 'node-name': 'n', 'host': 'h'}"), "Parameter 'server' is missing");
    assert_text(f.add_error("{'driver': 'nbd', 'node-name': 'n', 'server': {'type': 'inet', 'host': 'h'}}"),
                "Parameter 'server.port' is missing");
    assert_text(f.add_error(f.options(", 'x-dirty-bitmap': 'qemu:dirty-bitmap:b'")),
                "requested x-dirty-bitmap qemu:dirty-bitmap:b not found");
}

void test_read_only_export() {
    Fixture f;
    f.server.info.flags |= nbd::kReadOnly;
    assert_text(f.add_error(f.options()), "the NBD server's export is read-only");
    g_assert_true(f.add(f.options(", 'auto-read-only': true")).is_read_only());
    f.del("n");
    g_assert_true(f.add(f.options(", 'read-only': true")).is_read_only());
}

void test_limits() {
    Fixture f;
    f.server.sizes = BlockSizes{4096, 65536, 1 << 20};
    BlockDriverState& node = f.add(f.options());
    g_assert_cmpuint(node.limits().request_alignment, ==, 4096);
    g_assert_cmpuint(node.limits().opt_transfer, ==, 65536);
    g_assert_cmpuint(node.limits().max_transfer, ==, 1 << 20);
    // Small and large requests are made into what the server takes.
    auto backend = f.attach(node);
    ByteVector data(3);
    g_assert_cmpint(backend->pread(5, 3, data.data()), ==, 0);
    g_assert_true(data == filled(3, 0x5a));
    g_assert_cmpuint(f.server.requests.back().offset, ==, 0);
    g_assert_cmpuint(f.server.requests.back().length, ==, 4096);
    g_assert_cmpint(backend->pwrite(5, 3, data.data()), ==, 0);
    for (const Request& request : f.server.requests)
        g_assert_cmpuint((request.offset | request.length) % 4096, ==, 0);
    f.detach(backend);
    f.del("n");

    // A server that does not say: sectors, or bytes if there is a broken one.
    f.server.sizes.reset();
    g_assert_cmpuint(f.add(f.options()).limits().request_alignment, ==, 512);
    f.del("n");
    f.server.info.size = 1000;
    g_assert_cmpuint(f.add(f.options()).limits().request_alignment, ==, 1);
}

void test_what_the_server_lacks() {
    Fixture f;
    f.server.info.flags = nbd::kHasFlags;
    auto backend = f.attach(f.add(f.options()));
    ByteVector data(512);
    g_assert_cmpint(backend->pwrite(0, 512, data.data(), RequestFlags::Fua), ==, 0);
    g_assert_cmpint(backend->flush(), ==, 0);
    g_assert_cmpint(backend->pdiscard(0, 512), ==, 0);
    g_assert_cmpint(backend->pwrite_zeroes(0, 512, RequestFlags::NoFallback), ==, -ENOTSUP);
    g_assert_cmpint(backend->pwrite_zeroes(512, 512), ==, 0);
    g_assert_false(backend->supports_fast_zero());
    g_assert_cmpuint(f.server.requests.size(), ==, 2);
    for (const Request& request : f.server.requests) {
        g_assert_cmpuint(request.type, ==, kCmdWrite);
        g_assert_cmpuint(request.flags, ==, 0);
    }
    f.detach(backend);
}

void test_flags() {
    Fixture f;
    auto backend = f.attach(f.add(f.options()));
    auto last = [&] { return std::pair(f.server.requests.back().type, f.server.requests.back().flags); };
    ByteVector data(512);
    using enum RequestFlags;
    g_assert_cmpint(backend->pwrite(0, 512, data.data(), Fua), ==, 0);
    g_assert_true(last() == std::pair(uint16_t{kCmdWrite}, kCmdFlagFua));
    g_assert_cmpint(backend->pwrite_zeroes(0, 512), ==, 0);
    g_assert_true(last() == std::pair(uint16_t{kCmdWriteZeroes}, kCmdFlagNoHole));
    g_assert_cmpint(backend->pwrite_zeroes(0, 512, MayUnmap), ==, 0);
    g_assert_true(last() == std::pair(uint16_t{kCmdWriteZeroes}, uint16_t{0}));
    g_assert_cmpint(backend->pwrite_zeroes(0, 512, NoFallback | MayUnmap), ==, 0);
    g_assert_true(last() == std::pair(uint16_t{kCmdWriteZeroes}, kCmdFlagFastZero));
    g_assert_cmpint(backend->pdiscard(0, 512), ==, 0);
    g_assert_true(last() == std::pair(uint16_t{kCmdTrim}, uint16_t{0}));
    g_assert_cmpint(f.run(backend->co_preadv(0, 512, {}, Prefetch)), ==, 0);
    g_assert_true(last() == std::pair(uint16_t{kCmdCache}, uint16_t{0}));
    g_assert_cmpint(backend->flush(), ==, 0);
    g_assert_true(last() == std::pair(uint16_t{kCmdFlush}, uint16_t{0}));
    f.detach(backend);
}

void test_block_status() {
    Fixture f;
    nbd::Extent extent;
    f.server.answer = [&](const Request& request, const Say& say) -> std::optional<ByteVector> {
        return request.type == kCmdBlockStatus ? say.status(7, {extent}) : say.simple();
    };
    f.server.sizes = BlockSizes{512, 4096, 1 << 20};
    BlockDriverState& node = f.add(f.options());
    auto ask = [&](uint64_t length, uint32_t state) {
        extent = {length, state};
        return f.run(node.co_block_status(true, 4096, 65536));
    };
    constexpr unsigned kKinds = BlockStatus::Data | BlockStatus::Zero;
    auto is = [](const BlockStatus& status, unsigned kind, int64_t bytes) {
        g_assert_cmpint(status.ret, ==, 0);
        g_assert_cmpuint(status.flags & kKinds, ==, kind);
        g_assert_cmpint(status.bytes, ==, bytes);
        g_assert_cmpint(status.offset, ==, 4096);
    };
    is(ask(8192, 0), BlockStatus::Data, 8192);
    is(ask(8192, kStateHole | kStateZero), BlockStatus::Zero, 8192);
    is(ask(8192, kStateZero), BlockStatus::Data | BlockStatus::Zero, 8192);
    is(ask(8192, kStateHole), 0, 8192);             // what it reads as is not known: not zero
    is(ask(1 << 30, 0), BlockStatus::Data, 65536);  // more than was asked for
    is(ask(1000, kStateZero | kStateHole), BlockStatus::Zero, 512);
    is(ask(100, kStateZero | kStateHole), BlockStatus::Data, 512);  // less than a block
}

void test_resizing() {
    Fixture f;
    auto backend = f.attach(f.add(f.options()), {BlockPerm::Write | BlockPerm::Resize, BlockPerm::All});
    auto resize = [&](int64_t size, bool exact) {
        auto done = backend->truncate(size, exact, PreallocMode::Off);
        return done ? "" : done.error().message;
    };
    assert_text(resize(1 << 20, true), "");
    assert_text(resize(4096, false), "");
    assert_text(resize(4096, true), "Cannot resize NBD nodes");
    assert_text(resize(2 << 20, false), "Cannot grow NBD nodes");
    f.detach(backend);
}

void test_reopening() {
    Fixture f;
    f.add(f.options());
    auto reopen = [&](std::string_view more) {
        std::vector<Json> options{*parse_json_object(f.options(more))};
        auto done = f.run(f.graph->co_blockdev_reopen(std::move(options), Typing::Strict));
        return done ? "" : done.error().message;
    };
    assert_text(reopen(", 'read-only': true"), "");
    assert_text(reopen(""), "");
    g_assert_true(reopen(", 'export': 'other'").contains("Cannot change the option 'export'"));
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/nbd/driver/file-names-are-qemu's", test_names);
    g_test_add_func("/nbd/driver/its-own-name-is-qemu's", test_own_name);
    g_test_add_func("/nbd/driver/options-are-qemu's", test_options);
    g_test_add_func("/nbd/driver/a-read-only-export-is-not-opened-for-writing", test_read_only_export);
    g_test_add_func("/nbd/driver/block-sizes-are-kept-to", test_limits);
    g_test_add_func("/nbd/driver/what-the-server-lacks-is-emulated", test_what_the_server_lacks);
    g_test_add_func("/nbd/driver/flags-reach-the-server", test_flags);
    g_test_add_func("/nbd/driver/block-status-says-no-more-than-the-server", test_block_status);
    g_test_add_func("/nbd/driver/the-size-is-the-server's", test_resizing);
    g_test_add_func("/nbd/driver/reopening-keeps-the-server", test_reopening);
    return g_test_run();
}
