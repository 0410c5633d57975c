#include "tests/unit/assert_str.h"
#include "tests/unit/nbd_fixture.h"

using namespace ashlar;
using namespace ashlar::nbd;

namespace {

// --- flags and EXPORT_NAME ---

void test_unknown_client_flags() {
    NbdFixture f;
    for (uint32_t flags : {4u, 0x80000000u, 0xffffffffu}) {
        NbdPeer peer(*f.server);
        peer.greet(flags);
        g_assert_true(peer.is_closed());
    }
}

void test_export_name() {
    NbdFixture f;
    for (bool no_zeroes : {true, false}) {
        NbdPeer peer(*f.server);
        peer.greet(kClientFixedNewstyle | (no_zeroes ? kClientNoZeroes : 0));
        peer.send_option(kOptExportName, bytes_of("disk"));
        ByteVector reply = peer.recv_exact(kExportNameReplySize + (no_zeroes ? 0 : kExportNameReplyZeroes));
        auto info = parse_export_name_reply(std::span(reply).first<kExportNameReplySize>());
        g_assert_cmpuint(info.size, ==, 1 << 20);
        g_assert_true(peer.read(0, 512) == f.expected(0, 512));
    }
}

void test_export_name_refused() {
    NbdFixture f;
    for (std::string name : {std::string("other"), std::string(""), std::string(4097, 'x'), std::string("\xff"),
                             std::string("disk\0", 5)}) {
        NbdPeer peer(*f.server);
        peer.greet();
        peer.send_option(kOptExportName, bytes_of(name));
        g_assert_true(peer.is_closed());
    }
}

void test_not_fixed_newstyle() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.greet(0);
    peer.send_option(kOptExportName, bytes_of("disk"));
    peer.recv_exact(kExportNameReplySize + kExportNameReplyZeroes);
    peer.check_usable();
    NbdPeer other(*f.server);
    other.greet(0);
    other.send_option(kOptList);
    g_assert_true(other.is_closed());
}

// --- options ---

void test_bad_option_magic() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.greet();
    ByteVector option;
    append_option(option, kOptList, {});
    option[0] ^= std::byte{1};
    peer.send(option);
    g_assert_true(peer.is_closed());
}

void test_abort() {
    NbdFixture f;
    for (std::string_view data : {"", "and some data"}) {
        NbdPeer peer(*f.server);
        peer.greet();
        g_assert_cmpuint(peer.verdict(kOptAbort, bytes_of(data)), ==, kRepAck);
        g_assert_true(peer.is_closed());
    }
}

void test_list() {
    NbdFixture f;
    f.add_export({.name = "another", .description = ""});
    NbdPeer peer(*f.server);
    peer.greet();
    auto replies = peer.ask(kOptList);
    g_assert_cmpuint(replies.size(), ==, 3);
    assert_str(parse_server_reply(replies[0].data)->name, "another");
    auto disk = parse_server_reply(replies[1].data);
    assert_str(disk->name, "disk");
    assert_str(disk->description, "a disk");
    g_assert_cmpuint(peer.verdict(kOptList, bytes_of("x")), ==, kRepErrInvalid);
    g_assert_cmpuint(peer.ask(kOptList).size(), ==, 3);
}

void test_unknown_options() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.greet();
    for (uint32_t option : {0u, 4u, 12u, 1000u, 0x80000001u, 0xffffffffu}) {
        g_assert_cmpuint(peer.verdict(option), ==, kRepErrUnsup);
        g_assert_cmpuint(peer.verdict(option, bytes_of("payload")), ==, kRepErrUnsup);
    }
    g_assert_cmpuint(peer.verdict(kOptStartTls), ==, kRepErrUnsup);
    g_assert_cmpuint(peer.verdict(kOptStartTls, bytes_of("x")), ==, kRepErrInvalid);
    peer.enter("disk", HeaderStyle::Simple);
    peer.check_usable();
}

void test_option_lengths() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.greet();
    for (uint32_t option : {uint32_t{kOptGo}, uint32_t{kOptSetMetaContext}, 4711u})
        g_assert_cmpuint(peer.verdict(option, ByteVector(kMaxOptionLength + 1)), ==, kRepErrTooBig);
    g_assert_cmpuint(peer.verdict(4711, ByteVector(kMaxOptionLength)), ==, kRepErrUnsup);
    peer.enter("disk", HeaderStyle::Simple);
    peer.check_usable();

    for (uint32_t option : {uint32_t{kOptGo}, uint32_t{kOptList}, 4711u}) {  // not waited for
        NbdPeer liar(*f.server);
        liar.greet();
        ByteVector header;
        append_option(header, option, {});
        store_be<uint32_t>(header.data() + 12, 0xffffffff);
        liar.send(header);
        g_assert_true(liar.is_closed());
    }
}

// --- INFO and GO ---

void test_info_and_go() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.greet();
    uint16_t wanted[] = {kInfoName, kInfoDescription, kInfoBlockSize, 4711};
    for (uint32_t option : {kOptInfo, kOptInfo, kOptGo}) {
        auto replies = peer.ask(option, build_info_request("disk", wanted));
        g_assert_cmpuint(replies.back().header.type, ==, kRepAck);
        unsigned seen = 0;
        for (const auto& reply : replies) {
            if (reply.header.type != kRepInfo)
                continue;
            auto info = parse_info_reply(reply.data);
            seen |= 1 << info->type;
            if (info->type == kInfoExport)
                g_assert_cmpuint(info->export_info.size, ==, 1 << 20);
            if (info->type == kInfoName)
                assert_str(info->text, "disk");
            if (info->type == kInfoDescription)
                assert_str(info->text, "a disk");
            if (info->type == kInfoBlockSize)
                g_assert_cmpuint(info->block_sizes.maximum, ==, kMaxPayload);
        }
        g_assert_cmpuint(seen, ==, 15);
    }
    peer.check_usable();
}

void test_go_unknown() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.greet();
    for (uint32_t option : {kOptInfo, kOptGo}) {
        g_assert_cmpuint(peer.verdict(option, build_info_request("other", {})), ==, kRepErrUnknown);
        g_assert_cmpuint(peer.verdict(option, build_info_request(std::string(4096, 'x'), {})), ==, kRepErrUnknown);
        g_assert_cmpuint(peer.verdict(option, build_info_request(std::string(4097, 'x'), {})), ==, kRepErrInvalid);
        g_assert_cmpuint(peer.verdict(option, build_info_request("\xc3", {})), ==, kRepErrInvalid);
    }
    peer.enter("disk", HeaderStyle::Simple);
    peer.check_usable();
}

void test_go_malformed() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.greet();
    uint16_t wanted[] = {kInfoBlockSize};
    ByteVector data = build_info_request("disk", wanted);
    for (size_t n = 0; n < data.size(); n++)
        g_assert_cmpuint(peer.verdict(kOptGo, std::span(data).first(n)), ==, kRepErrInvalid);
    peer.enter("disk", HeaderStyle::Simple);
    peer.check_usable();
}

void test_transmission_flags() {
    NbdFixture f;
    f.add_export({.name = "ro", .multi_conn = false});
    auto flags = [&](std::string_view name, HeaderStyle style, bool contexts) {
        NbdPeer peer(*f.server);
        return peer.go(name, style, contexts).flags;
    };
    constexpr uint16_t kCommon = kHasFlags | kSendFlush | kSendFua | kSendCache;
    constexpr uint16_t kWritable = kCommon | kSendTrim | kSendWriteZeroes | kSendFastZero | kCanMultiConn;
    g_assert_cmphex(flags("disk", HeaderStyle::Simple, false), ==, kWritable);
    g_assert_cmphex(flags("disk", HeaderStyle::Structured, true), ==, kWritable | kSendDf);
    g_assert_cmphex(flags("disk", HeaderStyle::Extended, false), ==, kWritable | kSendDf);
    g_assert_cmphex(flags("disk", HeaderStyle::Extended, true), ==, kWritable | kSendDf | kBlockStatusPayload);
    g_assert_cmphex(flags("ro", HeaderStyle::Simple, false), ==, kCommon | kReadOnly);
}

// --- header styles ---

void test_styles() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.greet();
    g_assert_cmpuint(peer.verdict(kOptStructuredReply, bytes_of("x")), ==, kRepErrInvalid);
    g_assert_cmpuint(peer.verdict(kOptExtendedHeaders, bytes_of("x")), ==, kRepErrInvalid);
    g_assert_cmpuint(peer.verdict(kOptStructuredReply), ==, kRepAck);
    g_assert_cmpuint(peer.verdict(kOptStructuredReply), ==, kRepErrInvalid);
    g_assert_cmpuint(peer.verdict(kOptExtendedHeaders), ==, kRepAck);
    g_assert_cmpuint(peer.verdict(kOptExtendedHeaders), ==, kRepErrInvalid);
    g_assert_cmpuint(peer.verdict(kOptStructuredReply), ==, kRepErrExtHeaderReqd);
    peer.send_option(kOptExportName, bytes_of("disk"));  // not with extended headers
    g_assert_true(peer.is_closed());
}

// --- metadata contexts ---

void test_context_queries() {
    NbdFixture f;
    f.add_export({.name = "shallow"});
    NbdPeer peer(*f.server);
    peer.greet();
    using Names = std::vector<std::string>;
    Names both = {"base:allocation", "qemu:allocation-depth"};
    g_assert_cmpuint(peer.verdict(kOptSetMetaContext, build_meta_context_request("disk", both)), ==, kRepErrInvalid);
    g_assert_cmpuint(peer.verdict(kOptStructuredReply), ==, kRepAck);

    g_assert_true(peer.contexts(kOptListMetaContext, "disk", {}) == both);
    g_assert_true(peer.contexts(kOptListMetaContext, "shallow", {}) == Names{"base:allocation"});
    g_assert_true(peer.contexts(kOptListMetaContext, "disk", {"base:"}) == Names{"base:allocation"});
    g_assert_true(peer.contexts(kOptListMetaContext, "disk", {"qemu:"}) == Names{"qemu:allocation-depth"});
    g_assert_true(peer.contexts(kOptListMetaContext, "disk", {"other:x", "base:nonsense", ""}).empty());
    g_assert_true(peer.contexts(kOptSetMetaContext, "disk", both) == both);
    g_assert_true(peer.contexts(kOptSetMetaContext, "disk", {"base:allocation", "base:allocation"}) ==
                  Names{"base:allocation"});
    g_assert_true(peer.contexts(kOptSetMetaContext, "disk", {"base:", "qemu:"}).empty());  // no wildcards
    g_assert_true(peer.contexts(kOptSetMetaContext, "disk", {}).empty());
    g_assert_cmpuint(peer.verdict(kOptSetMetaContext, build_meta_context_request("other", both)), ==, kRepErrUnknown);
}

void test_context_malformed() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.greet();
    g_assert_cmpuint(peer.verdict(kOptStructuredReply), ==, kRepAck);
    std::string queries[] = {"base:allocation"};
    ByteVector data = build_meta_context_request("disk", queries);
    for (uint32_t option : {kOptListMetaContext, kOptSetMetaContext}) {
        for (size_t n = 0; n < data.size(); n++)
            g_assert_cmpuint(peer.verdict(option, std::span(data).first(n)), ==, kRepErrInvalid);
        std::vector<std::string> many(kMaxQueries + 1);
        g_assert_cmpuint(peer.verdict(option, build_meta_context_request("disk", many)), ==, kRepErrTooBig);
    }
    peer.enter("disk", HeaderStyle::Structured);
    peer.check_usable();
}

bool has_contexts(NbdPeer& peer) {
    return peer.command(kCmdBlockStatus, 0, 4096) == 0;
}

void test_contexts_are_forgotten() {
    NbdFixture f;
    f.add_export({.name = "b"});
    std::string queries[] = {"base:allocation"};
    auto start = [&](NbdPeer& peer) {
        peer.greet();
        g_assert_cmpuint(peer.verdict(kOptStructuredReply), ==, kRepAck);
        g_assert_cmpuint(peer.contexts(kOptSetMetaContext, "disk", {"base:allocation"}).size(), ==, 1);
    };
    {
        NbdPeer peer(*f.server);
        start(peer);
        peer.enter("disk", HeaderStyle::Structured);
        g_assert_true(has_contexts(peer));
    }
    {  // of another export
        NbdPeer peer(*f.server);
        start(peer);
        peer.enter("b", HeaderStyle::Structured);
        g_assert_false(has_contexts(peer));
    }
    {  // by an empty selection
        NbdPeer peer(*f.server);
        start(peer);
        g_assert_cmpuint(peer.verdict(kOptSetMetaContext, build_meta_context_request("disk", {})), ==, kRepAck);
        peer.enter("disk", HeaderStyle::Structured);
        g_assert_false(has_contexts(peer));
    }
    {  // by a selection that fails
        NbdPeer peer(*f.server);
        start(peer);
        g_assert_cmpuint(peer.verdict(kOptSetMetaContext, bytes_of("nonsense")), ==, kRepErrInvalid);
        peer.enter("disk", HeaderStyle::Structured);
        g_assert_false(has_contexts(peer));
    }
    {  // not by LIST, nor by other options
        NbdPeer peer(*f.server);
        start(peer);
        g_assert_cmpuint(peer.contexts(kOptListMetaContext, "b", {"base:"}).size(), ==, 1);
        g_assert_cmpuint(peer.verdict(kOptInfo, build_info_request("b", {})), ==, kRepAck);
        peer.enter("disk", HeaderStyle::Structured);
        g_assert_true(has_contexts(peer));
    }
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/nbd/handshake/unknown-client-flags-end-the-connection", test_unknown_client_flags);
    g_test_add_func("/nbd/handshake/export-name-with-and-without-zeroes", test_export_name);
    g_test_add_func("/nbd/handshake/export-name-that-is-not-there-ends-the-connection", test_export_name_refused);
    g_test_add_func("/nbd/handshake/not-fixed-newstyle-has-only-export-name", test_not_fixed_newstyle);
    g_test_add_func("/nbd/handshake/bad-option-magic-ends-the-connection", test_bad_option_magic);
    g_test_add_func("/nbd/handshake/abort-is-acknowledged", test_abort);
    g_test_add_func("/nbd/handshake/list", test_list);
    g_test_add_func("/nbd/handshake/unknown-options-are-skipped", test_unknown_options);
    g_test_add_func("/nbd/handshake/option-lengths-are-bounded", test_option_lengths);
    g_test_add_func("/nbd/handshake/info-and-go-tell-all-that-is-asked", test_info_and_go);
    g_test_add_func("/nbd/handshake/unknown-export-leaves-the-connection-usable", test_go_unknown);
    g_test_add_func("/nbd/handshake/malformed-go-leaves-the-connection-usable", test_go_malformed);
    g_test_add_func("/nbd/handshake/transmission-flags-say-what-was-negotiated", test_transmission_flags);
    g_test_add_func("/nbd/handshake/header-styles", test_styles);
    g_test_add_func("/nbd/handshake/context-queries", test_context_queries);
    g_test_add_func("/nbd/handshake/malformed-context-queries", test_context_malformed);
    g_test_add_func("/nbd/handshake/contexts-are-forgotten-where-the-protocol-says", test_contexts_are_forgotten);
    return g_test_run();
}
