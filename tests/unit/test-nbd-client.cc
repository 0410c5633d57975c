// The client's handshake, with our server and with servers that lie.
#include "nbd/client.h"
#include "tests/unit/assert_str.h"
#include "tests/unit/nbd_fixture.h"

using namespace ashlar;
using namespace ashlar::nbd;

namespace {

std::pair<UniqueFd, UniqueFd> make_pair_of_sockets() {
    int pair[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    return {UniqueFd(pair[0]), UniqueFd(pair[1])};
}

Socket connect_to(NbdServer& server) {
    auto [client, served] = make_pair_of_sockets();
    server.add_connection(std::move(served));
    return Socket(std::move(client));
}

void test_enter() {
    NbdFixture f;
    struct {
        bool structured, extended;
        HeaderStyle style;
    } cases[] = {{true, true, HeaderStyle::Extended},
                 {true, false, HeaderStyle::Structured},
                 {false, false, HeaderStyle::Simple}};
    for (const auto& one : cases) {
        Socket socket = connect_to(*f.server);
        auto entered = sync_wait(
            *f.context,
            co_enter(socket, {"disk", one.structured, one.extended, {"base:allocation", "qemu:allocation-depth"}}));
        g_assert_true(entered.has_value());
        g_assert_true(entered->style == one.style);
        g_assert_cmpuint(entered->details.info.size, ==, 1 << 20);
        assert_str(entered->details.name, "disk");
        assert_str(entered->details.description, "a disk");
        g_assert_cmpuint(entered->details.block_sizes->maximum, ==, kMaxPayload);
        g_assert_cmpuint(entered->details.contexts.size(), ==, one.style == HeaderStyle::Simple ? 0 : 2);
    }
}

void test_enter_refused() {
    NbdFixture f;
    Socket socket = connect_to(*f.server);
    auto entered = sync_wait(*f.context, co_enter(socket, {.export_name = "other"}));
    assert_str(entered.error().message, "Requested export not available");
    assert_str(entered.error().hint, "server reported: export 'other' not present");
    Socket unused = connect_to(*f.server);
    entered = sync_wait(*f.context, co_enter(unused, {.export_name = "\xff"}));
    g_assert_false(entered.has_value());
}

void test_list() {
    NbdFixture f;
    f.add_export({.name = "another"});
    Socket socket = connect_to(*f.server);
    auto listed = sync_wait(*f.context, co_list(socket));
    g_assert_true(listed.has_value());
    g_assert_cmpuint(listed->size(), ==, 2);
    assert_str((*listed)[0].name, "another");
    assert_str((*listed)[1].description, "a disk");
    g_assert_cmpuint((*listed)[1].info.size, ==, 1 << 20);
    g_assert_cmpuint((*listed)[1].contexts.size(), ==, 2);
    assert_str((*listed)[0].contexts.at(0).name, "base:allocation");
}

// What a server says that has prepared everything it is going to say.
struct Liar {
    std::unique_ptr<AioContext> context = *AioContext::create();
    UniqueFd server;
    Socket socket;

    explicit Liar(std::initializer_list<ByteVector> says) {
        auto [ours, theirs] = make_pair_of_sockets();
        server = std::move(ours);
        socket = Socket(std::move(theirs));
        auto greeting = build_greeting(kFlagFixedNewstyle | kFlagNoZeroes);
        say({greeting.begin(), greeting.end()});
        for (const ByteVector& bytes : says)
            say(bytes);
        shutdown(server.get(), SHUT_WR);
    }
    void say(const ByteVector& bytes) {
        g_assert_cmpint(::send(server.get(), bytes.data(), bytes.size(), MSG_DONTWAIT), ==, bytes.size());
    }
    std::string enter() {
        auto entered = sync_wait(*context, co_enter(socket, {"disk", false, false, {}}));
        return entered ? "" : entered.error().message;
    }
    std::string list() {
        auto listed = sync_wait(*context, co_list(socket));
        return listed ? "" : listed.error().message;
    }
};

ByteVector option_reply(uint32_t option, uint32_t type, std::string_view data = {}) {
    ByteVector out;
    append_option_reply(out, option, type, bytes_of(data));
    return out;
}

void test_lying_servers() {
    ByteVector ack_go = option_reply(kOptGo, kRepAck);
    assert_str(Liar({}).enter(), "the NBD server closed the connection");
    assert_str(Liar({ack_go}).enter(), "the NBD server acknowledged NBD_OPT_GO without the size of the export");
    assert_str(Liar({option_reply(kOptInfo, kRepAck)}).enter(),
               "the NBD server answered NBD_OPT_GO with something that is not its reply");
    assert_str(Liar({option_reply(kOptGo, kRepInfo, "x")}).enter(),
               "the NBD server answered NBD_OPT_GO with a malformed NBD_REP_INFO");
    assert_str(Liar({option_reply(kOptGo, kRepServer, "x")}).enter(),
               "the NBD server answered NBD_OPT_GO with a malformed NBD_REP_SERVER");
    assert_str(Liar({option_reply(kOptGo, kRepErrPolicy, "not you")}).enter(),
               "the NBD server refused NBD_OPT_GO: not you");
    assert_str(Liar({option_reply(kOptGo, kRepErrPolicy, "\xff")}).enter(),
               "the NBD server refused NBD_OPT_GO: NBD_REP_ERR_POLICY");
    ByteVector huge = ack_go;
    store_be<uint32_t>(huge.data() + 16, 0xffffffff);
    assert_str(Liar({huge}).enter(),
               "the NBD server answered NBD_OPT_GO with 4294967295 bytes, more than the limit of 65536");
    ByteVector cut = option_reply(kOptGo, kRepInfo, "0123456789");
    cut.resize(cut.size() - 3);
    assert_str(Liar({cut}).enter(), "the NBD server closed the connection");

    ByteVector no_structured = option_reply(kOptStructuredReply, kRepErrUnsup);
    assert_str(Liar({no_structured, option_reply(kOptList, kRepErrPolicy)}).list(),
               "the NBD server refused NBD_OPT_LIST: NBD_REP_ERR_POLICY");
    assert_str(Liar({no_structured, option_reply(kOptList, kRepServer, "\1\1\1\1")}).list(),
               "the NBD server answered NBD_OPT_LIST with a malformed NBD_REP_SERVER");
}

void test_not_nbd() {
    auto context = *AioContext::create();
    auto [ours, theirs] = make_pair_of_sockets();
    std::string_view other = "SSH-2.0-OpenSSH_9.2p1 Debian-2";
    g_assert_cmpint(::send(ours.get(), other.data(), other.size(), 0), ==, other.size());
    Socket socket(std::move(theirs));
    auto entered = sync_wait(*context, co_enter(socket, {}));
    assert_str(entered.error().message, "the server does not speak the NBD protocol (newstyle)");
}

void test_connect() {
    NbdFixture f;
    g_assert_true(f.server->listen(InetAddress{.host = "localhost", .port = "0"}).has_value());
    auto address = f.server->addresses().front();
    auto socket = sync_wait(*f.context, co_connect(address));
    g_assert_true(socket.has_value());
    g_assert_true(sync_wait(*f.context, co_enter(*socket, {.export_name = "disk"})).has_value());
    std::string nowhere = "/tmp/ashlar-nbd-nowhere-" + std::to_string(getpid());
    auto refused = sync_wait(*f.context, co_connect(UnixAddress{.path = nowhere}));
    g_assert_cmpint(refused.error().code, ==, ENOENT);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/nbd/client/enters-in-the-best-style-that-is-wanted", test_enter);
    g_test_add_func("/nbd/client/a-refusal-says-why", test_enter_refused);
    g_test_add_func("/nbd/client/lists-exports-with-their-details", test_list);
    g_test_add_func("/nbd/client/lying-servers-get-an-error", test_lying_servers);
    g_test_add_func("/nbd/client/another-protocol-is-recognised", test_not_nbd);
    g_test_add_func("/nbd/client/connects", test_connect);
    return g_test_run();
}
