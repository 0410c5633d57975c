// The client's transmission phase: with servers that behave, with servers that lie, and with servers that go and come.
#include "nbd/client_session.h"
#include "tests/unit/assert_str.h"
#include "tests/unit/nbd_script_server.h"
#include "util/io_thread.h"
#include "util/timer.h"

using namespace ashlar;
using namespace ashlar::nbd;

namespace {

constexpr int64_t kMs = 1'000'000;

struct Fixture {
    std::unique_ptr<AioContext> context = *AioContext::create();
    ScriptServer server{*context};
    SessionOptions options{.name = "test", .address = server.address(), .context = "base:allocation"};
    std::unique_ptr<ClientSession> session;

    explicit Fixture(HeaderStyle style = HeaderStyle::Structured) { server.style = style; }
    ~Fixture() { close(); }
    void open() {
        auto opened = sync_wait(*context, ClientSession::co_open(options));
        if (!opened)
            g_error("%s", opened.error().message.c_str());
        session = std::move(*opened);
    }
    std::string open_error() {
        auto opened = sync_wait(*context, ClientSession::co_open(options));
        g_assert_false(opened.has_value());
        return opened.error().message;
    }
    void close() {
        if (session)
            sync_wait(*context, session->co_close());
        session.reset();
    }
    int request(uint16_t command, uint64_t offset, uint64_t length, uint16_t flags = 0) {
        return sync_wait(*context, session->co_request(command, flags, offset, length));
    }
    int read(ByteVector& into, uint64_t offset) {
        iovec iov{into.data(), into.size()};
        return sync_wait(*context, session->co_request(kCmdRead, 0, offset, into.size(), {&iov, 1}));
    }
    int write(ByteVector from, uint64_t offset, uint16_t flags = 0) {
        iovec iov{from.data(), from.size()};
        return sync_wait(*context, session->co_request(kCmdWrite, flags, offset, from.size(), {&iov, 1}));
    }
    ClientSession::Status status(uint64_t offset, uint64_t length) {
        return sync_wait(*context, session->co_block_status(offset, length));
    }
};

std::optional<ByteVector> answer_everything(const Request& request, const Say& say) {
    const bool simple = say.reply.style == HeaderStyle::Simple;
    if (request.type == kCmdRead)
        return simple ? say.simple() + filled(request.length, 0x5a)
                      : say.data(request.offset, filled(request.length, 0x5a));
    if (request.type == kCmdBlockStatus)
        return say.status(7, {{request.length / 2, kStateHole | kStateZero}});
    return say.reply.style == HeaderStyle::Extended ? say.none() : say.simple();
}

constexpr HeaderStyle kStyles[] = {HeaderStyle::Simple, HeaderStyle::Structured, HeaderStyle::Extended};

void test_commands() {
    for (HeaderStyle style : kStyles) {
        Fixture f(style);
        f.server.answer = answer_everything;
        f.open();
        g_assert_true(f.session->style() == style);
        for (size_t size : {1, 4096, 100'000, 1 << 20}) {
            ByteVector data(size);
            g_assert_cmpint(f.read(data, 0), ==, 0);
            g_assert_true(data == filled(size, 0x5a));
        }
        g_assert_cmpint(f.write(filled(300'000, 1), 4096, kCmdFlagFua), ==, 0);
        const Request& write = f.server.requests.back();
        g_assert_cmpuint(write.length, ==, 300'000);
        g_assert_cmpuint(write.flags, ==, kCmdFlagFua | (style == HeaderStyle::Extended ? kCmdFlagPayloadLen : 0));
        for (uint16_t command : {kCmdFlush, kCmdTrim, kCmdWriteZeroes, kCmdCache})
            g_assert_cmpint(f.request(command, 0, command == kCmdFlush ? 0 : 512), ==, 0);
        g_assert_cmpuint(f.session->has_context(), ==, style != HeaderStyle::Simple);
        if (f.session->has_context()) {
            auto status = f.status(0, 8192);
            g_assert_cmpint(status.ret, ==, 0);
            g_assert_true(status.extent == Extent(4096, kStateHole | kStateZero));
        }
        f.close();
        while (f.server.finished < 1)
            f.context->poll(true);
        g_assert_cmpuint(f.server.disconnects, ==, 1);
    }
}

// Elements of all sizes, and chunks in any order.
std::optional<ByteVector> answer_in_pieces(const Request& request, const Say& say) {
    ByteVector out;
    for (uint64_t at : {40'000, 0, 60'000, 20'000})
        out = out + (at == 60'000
                         ? say.hole(request.offset + at, 20'000, 0)
                         : say.data(request.offset + at, filled(20'000, static_cast<uint8_t>(at / 20'000 + 1)), 0));
    return out + say.none();
}

void test_pieces() {
    for (HeaderStyle style : {HeaderStyle::Structured, HeaderStyle::Extended}) {
        Fixture f(style);
        f.server.answer = answer_in_pieces;
        f.open();
        ByteVector data = filled(80'000, 0xff);
        std::vector<iovec> iov;
        size_t sizes[] = {1, 511, 0, 9000, 20'000, 3, 30'000};
        size_t at = 0;
        for (size_t size : sizes) {
            iov.push_back({data.data() + at, size});
            at += size;
        }
        iov.push_back({data.data() + at, data.size() - at});
        g_assert_cmpint(sync_wait(*f.context, f.session->co_request(kCmdRead, 0, 4096, data.size(), iov)), ==, 0);
        g_assert_true(data == filled(20'000, 1) + filled(20'000, 2) + filled(20'000, 3) + filled(20'000, 0));
    }
}

void test_errors() {
    for (HeaderStyle style : kStyles) {
        Fixture f(style);
        f.open();
        const std::pair<uint32_t, int> cases[] = {
            {kEPerm, -EPERM},   {kEIo, -EIO},         {kENoMem, -ENOMEM}, {kEInval, -EINVAL},
            {kENoSpc, -ENOSPC}, {kENotSup, -ENOTSUP}, {12345, -EINVAL},   {kEOverflow, -EOVERFLOW}};
        for (auto [wire, error] : cases) {
            f.server.answer = [wire = wire](const Request&, const Say& say) -> std::optional<ByteVector> {
                return say.reply.style == HeaderStyle::Simple ? say.simple(wire) : say.error(wire, "because");
            };
            ByteVector data(512);
            g_assert_cmpint(f.read(data, 0), ==, error);
            g_assert_cmpint(f.write(data, 0), ==, error);
        }
        // The connection goes on.
        f.server.answer = answer_everything;
        g_assert_cmpint(f.request(kCmdFlush, 0, 0), ==, 0);
        g_assert_cmpuint(f.server.accepted, ==, 1);
    }
}

struct Lie {
    const char* name;
    HeaderStyle style;
    uint16_t command;
    ScriptServer::Answer answer;
    const char* says;
};

void test_liars() {
    constexpr auto kDone = kReplyFlagDone;
    using S = HeaderStyle;
    auto bytes = [](ByteVector all) {
        return [all = std::move(all)](const Request&, const Say&) -> std::optional<ByteVector> { return all; };
    };
    const Lie lies[] =
        {
            {"no magic", S::Simple, kCmdFlush, bytes(filled(16, 0x41)), "starts with 0x41414141"},
            {"structured reply that was not negotiated", S::Simple, kCmdRead,
             [](const Request& r, const Say& say) -> std::optional<ByteVector> {
                 return Say{{S::Structured, say.reply.cookie, 0}}.data(r.offset, filled(r.length, 0));
             },
             "no magic number of this connection"},
            {"extended reply that was not negotiated", S::Structured, kCmdRead,
             [](const Request& r, const Say& say) -> std::optional<ByteVector> {
                 return Say{{S::Extended, say.reply.cookie, r.offset}}.data(r.offset, filled(r.length, 0));
             },
             "no magic number of this connection"},
            {"compact reply to an extended request", S::Extended, kCmdFlush,
             [](const Request&, const Say& say) -> std::optional<ByteVector> { return say.simple(); },
             "no magic number of this connection"},
            {"unknown cookie", S::Simple, kCmdFlush,
             [](const Request&, const Say& say) -> std::optional<ByteVector> {
                 return Say{{S::Simple, say.reply.cookie + 1}}.simple();
             },
             "which no request has"},
            {"cookie of an earlier request", S::Simple, kCmdFlush,
             [](const Request&, const Say& say) -> std::optional<ByteVector> {
                 return Say{{S::Simple, say.reply.cookie & 0xff}}.simple();
             },
             "which no request has"},
            {"answered twice", S::Simple, kCmdFlush,
             [](const Request&, const Say& say) -> std::optional<ByteVector> { return say.simple() + say.simple(); },
             "which no request has"},
            {"simple reply to a structured read", S::Structured, kCmdRead,
             [](const Request& r, const Say& say) -> std::optional<ByteVector> {
                 return say.simple() + filled(r.length, 0);
             },
             "a simple reply to NBD_CMD_READ"},
            {"data for a write", S::Structured, kCmdWrite,
             [](const Request& r, const Say& say) -> std::optional<ByteVector> {
                 return say.data(r.offset, filled(512, 0));
             },
             "data in the reply to NBD_CMD_WRITE"},
            {"hole for a flush", S::Structured, kCmdFlush,
             [](const Request&, const Say& say) -> std::optional<ByteVector> { return say.hole(0, 512); },
             "a hole in the reply to NBD_CMD_FLUSH"},
            {"status for a read", S::Structured, kCmdRead,
             [](const Request&, const Say& say) -> std::optional<ByteVector> { return say.status(7, {{512, 0}}); },
             "a block status in the reply to NBD_CMD_READ"},
            {"data before the range", S::Structured, kCmdRead,
             [](const Request& r, const Say& say) -> std::optional<ByteVector> {
                 return say.data(r.offset - 1, filled(512, 0));
             },
             "512 bytes of data at 4095 in the reply to a read of 4096 bytes at 4096"},
            {"data that ends behind the range", S::Structured, kCmdRead,
             [](const Request& r, const Say& say) -> std::optional<ByteVector> {
                 return say.data(r.offset + r.length - 511, filled(512, 0));
             },
             "512 bytes of data at 7681"},
            {"data at an offset that overflows", S::Structured, kCmdRead,
             [](const Request&, const Say& say) -> std::optional<ByteVector> {
                 return say.data(UINT64_MAX - 100, filled(512, 0));
             },
             "512 bytes of data at 18446744073709551515"},
            {"hole that is too long", S::Structured, kCmdRead,
             [](const Request& r, const Say& say) -> std::optional<ByteVector> {
                 return say.hole(r.offset, UINT32_MAX);
             },
             "4294967295 bytes of hole"},
            {"empty hole", S::Structured, kCmdRead,
             [](const Request& r, const Say& say) -> std::optional<ByteVector> { return say.hole(r.offset, 0); },
             "a malformed chunk with a hole"},
            {"more data than was asked for", S::Structured, kCmdRead,
             [](const Request& r, const Say& say) -> std::optional<ByteVector> {
                 return say.chunk(kDone, kChunkOffsetData, Say::number64(r.offset), UINT32_MAX);
             },
             "a chunk of 4294967287 bytes of data"},
            {"huge length in an extended reply", S::Extended, kCmdRead,
             [](const Request& r, const Say& say) -> std::optional<ByteVector> {
                 return say.chunk(kDone, kChunkOffsetData, Say::number64(r.offset), UINT64_MAX);
             },
             "a chunk of 18446744073709551607 bytes of data"},
            {"data chunk without data", S::Structured, kCmdRead,
             [](const Request& r, const Say& say) -> std::optional<ByteVector> { return say.data(r.offset, {}); },
             "a chunk of 0 bytes of data"},
            {"overlapping chunks", S::Structured, kCmdRead,
             [](const Request& r, const Say& say) -> std::optional<ByteVector> {
                 return say.data(r.offset, filled(1024, 0), 0) + say.hole(r.offset + 1023, 512, 0);
             },
             "overlap what came before"},
            {"repeated chunks", S::Structured, kCmdRead,
             [](const Request& r, const Say& say) -> std::optional<ByteVector> {
                 return say.data(r.offset + 512, filled(512, 0), 0) + say.data(r.offset + 512, filled(512, 0), 0);
             },
             "overlap what came before"},
            {"success without all data", S::Structured, kCmdRead,
             [](const Request& r, const Say& say) -> std::optional<ByteVector> {
                 return say.data(r.offset, filled(1000, 0));
             },
             "a successful reply to a read of 4096 bytes brought 1000"},
            {"success without a status", S::Structured, kCmdBlockStatus,
             [](const Request&, const Say& say) -> std::optional<ByteVector> { return say.none(); },
             "without a status"},
            {"simple success for a status", S::Structured, kCmdBlockStatus,
             [](const Request&, const Say& say) -> std::optional<ByteVector> { return say.simple(); },
             "a simple reply to NBD_CMD_BLOCK_STATUS"},
            {"status of another context", S::Structured, kCmdBlockStatus,
             [](const Request&, const Say& say) -> std::optional<ByteVector> { return say.status(8, {{512, 0}}); },
             "the metadata context 8, which was not selected"},
            {"status twice", S::Structured, kCmdBlockStatus,
             [](const Request&, const Say& say) -> std::optional<ByteVector> {
                 return say.status(7, {{512, 0}}, 0) + say.status(7, {{512, 0}});
             },
             "two block statuses"},
            {"extent of no length", S::Structured, kCmdBlockStatus,
             [](const Request&, const Say& say) -> std::optional<ByteVector> { return say.status(7, {{0, 0}}); },
             "a malformed chunk of block status"},
            {"status of the wrong width", S::Extended, kCmdBlockStatus,
             [](const Request&, const Say& say) -> std::optional<ByteVector> {
                 return say.chunk(kDone, kChunkBlockStatus, Say::number32(7) + Say::number64(512 << 8));
             },
             "does not go with the headers"},
            {"status that is too long", S::Structured, kCmdBlockStatus,
             [](const Request&, const Say& say) -> std::optional<ByteVector> {
                 return say.chunk(kDone, kChunkBlockStatus, {}, 1 << 30);
             },
             "has 1073741824 bytes, more than the limit of 8192"},
            {"message that is too long", S::Structured, kCmdFlush,
             [](const Request&, const Say& say) -> std::optional<ByteVector> {
                 return say.error(kEIo, std::string(5000, 'x'));
             },
             "an error message of 5000 bytes, more than the limit of 4096"},
            {"message that leads outside", S::Structured, kCmdFlush,
             [](const Request&, const Say& say) -> std::optional<ByteVector> { return say.error(kEIo, "x", kDone, 2); },
             "a malformed chunk with an error"},
            {"error without an error", S::Structured, kCmdFlush,
             [](const Request&, const Say& say) -> std::optional<ByteVector> { return say.error(0, "x"); },
             "a malformed chunk with an error"},
            {"error outside of the request", S::Structured, kCmdRead,
             [](const Request&, const Say& say) -> std::optional<ByteVector> {
                 return say.chunk(kDone, kChunkErrorOffset, Say::number32(kEIo) + filled(2, 0) + Say::number64(1));
             },
             "an error at 1 in the reply to NBD_CMD_READ"},
            {"errors without end", S::Structured, kCmdFlush,
             [](const Request&, const Say& say) -> std::optional<ByteVector> {
                 ByteVector out;
                 for (int i = 0; i < 1025; i++)
                     out = out + say.error(kEIo, "", 0);
                 return out;
             },
             "more than 1024 errors"},
            {"scattered data", S::Structured, kCmdRead,
             [](const Request& r, const Say& say) -> std::optional<ByteVector> {
                 ByteVector out;
                 for (uint64_t at = 1; at < 2 * ReadCoverage::kMaxPieces + 2; at += 2)
                     out = out + say.data(r.offset + at, filled(1, 0), 0);
                 return out;
             },
             "scattered over more than 1024 places"},
            {"unknown type", S::Structured, kCmdFlush,
             [](const Request&, const Say& say) -> std::optional<ByteVector> { return say.chunk(kDone, 77, {}); },
             "the unknown type 77"},
            {"nothing, and not the end", S::Structured, kCmdFlush,
             [](const Request&, const Say& say) -> std::optional<ByteVector> { return say.chunk(0, kChunkNone, {}); },
             "a chunk without content"},
            {"nothing, with content", S::Structured, kCmdFlush,
             [](const Request&, const Say& say) -> std::optional<ByteVector> {
                 return say.chunk(kDone, kChunkNone, filled(1, 0));
             },
             "a chunk without content has 1 bytes"},
            {"reply for another offset", S::Extended, kCmdRead,
             [](const Request& r, const Say& say) -> std::optional<ByteVector> {
                 return Say{{S::Extended, say.reply.cookie, r.offset + 1}}.data(r.offset, filled(r.length, 0));
             },
             "says that it is for 4097"},
        };
    for (const Lie& lie : lies) {
        g_test_message("%s", lie.name);
        // Without a session, to see what is said; and with one, to see what the user gets.
        auto context = *AioContext::create();
        int pair[2];
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
        UniqueFd server(pair[1]);
        ClientConnection connection(Socket(UniqueFd(pair[0])), lie.style, 7);
        ClientRequest request;
        ByteVector memory(4096);
        iovec iov{memory.data(), memory.size()};
        request.wire = {.type = lie.command, .offset = 4096, .length = lie.command == kCmdFlush ? 0u : 4096u};
        if (lie.command == kCmdRead || lie.command == kCmdWrite)
            request.data = {&iov, 1};
        request.done = [](ClientRequest&) {};
        connection.submit(request);
        std::optional<Error> why;
        TaskScope scope;
        struct Run {
            static Task<void> co_run(ClientConnection& connection, std::optional<Error>& why) {
                why = co_await connection.co_run();
            }
        };
        scope.spawn_on(*context, Run::co_run(connection, why));
        ByteVector header(request_header_size(lie.style));
        size_t got = 0;
        while (got < header.size()) {
            context->poll(false);
            ssize_t n = ::recv(server.get(), header.data() + got, header.size() - got, MSG_DONTWAIT);
            got += n > 0 ? static_cast<size_t>(n) : 0;
        }
        auto parsed = parse_request(header, lie.style);
        g_assert_true(parsed.has_value());
        auto says = lie.answer(*parsed, Say{{lie.style, parsed->cookie, parsed->offset}});
        size_t sent = 0;
        while (sent < says->size() && !why) {
            ssize_t n = ::send(server.get(), says->data() + sent, says->size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
            sent += n > 0 ? static_cast<size_t>(n) : 0;
            context->poll(false);
        }
        for (int i = 0; i < 1000 && !why; i++)
            context->poll(false);
        if (!why)
            g_error("%s: goes unnoticed", lie.name);
        if (!why->message.contains(lie.says))
            g_error("%s: '%s' does not say '%s'", lie.name, why->message.c_str(), lie.says);
        g_assert_true(why->message.starts_with("the NBD server broke the protocol: "));
        g_assert_cmpint(why->code, ==, 0);
        connection.take_lost();
        sync_wait(*context, scope.join());
    }
}

void test_session_ends_with_a_liar() {
    Fixture f;
    f.options.reconnect_delay_ns = 60'000 * kMs;
    f.server.answer = [](const Request&, const Say& say) -> std::optional<ByteVector> { return say.hole(0, 512); };
    f.open();
    ByteVector data(512);
    g_assert_cmpint(f.request(kCmdFlush, 0, 0), ==, -EIO);
    f.server.answer = answer_everything;
    g_assert_cmpint(f.read(data, 0), ==, -EIO);  // at once: it is not called again
    g_assert_cmpuint(f.server.accepted, ==, 1);
}

void test_vanishing() {
    for (HeaderStyle style : kStyles) {
        Fixture f(style);
        f.open();
        f.server.answer = [](const Request&, const Say&) -> std::optional<ByteVector> { return std::nullopt; };
        ByteVector data(4096);
        g_assert_cmpint(f.read(data, 0), ==, -EIO);
    }
    // In the middle of a reply.
    for (size_t keep : {0, 1, 4, 15, 20, 27, 28, 40}) {
        Fixture f;
        f.open();
        unsigned done = 0;
        f.server.answer = [&](const Request& request, const Say& say) -> std::optional<ByteVector> {
            if (done++ > 0)
                return std::nullopt;
            ByteVector out = say.data(request.offset, filled(request.length, 1));
            out.resize(keep);
            f.server.hang_up();
            return out;
        };
        ByteVector data(4096);
        g_assert_cmpint(f.read(data, 0), ==, -EIO);
    }
}

// Many at once, answered in the reverse order and in one go.
void test_many_requests() {
    Fixture f;
    f.open();
    std::vector<ByteVector> held;
    constexpr unsigned kCount = 1000;
    unsigned seen = 0;
    f.server.answer = [&](const Request& request, const Say& say) -> std::optional<ByteVector> {
        held.push_back(say.data(request.offset, filled(request.length, static_cast<uint8_t>(request.offset / 512))));
        if (++seen % 100 != 0)
            return ByteVector{};
        ByteVector all;
        while (!held.empty()) {
            all = all + held.back();
            held.pop_back();
        }
        return all;
    };
    TaskScope scope;
    struct Reader {
        static Task<void> co_read(ClientSession& session, unsigned i, unsigned& good) {
            ByteVector data(512);
            iovec iov{data.data(), data.size()};
            int ret = co_await session.co_request(kCmdRead, 0, i * 512, 512, {&iov, 1});
            good += ret == 0 && data == filled(512, static_cast<uint8_t>(i));
        }
    };
    unsigned good = 0;
    for (unsigned i = 0; i < kCount; i++)
        scope.spawn_on(*f.context, Reader::co_read(*f.session, i, good));
    sync_wait(*f.context, scope.join());
    g_assert_cmpuint(good, ==, kCount);
}

void test_handshake_limits() {
    Fixture f;
    f.options.handshake_limit_ns = 50 * kMs;
    f.server.silent = true;
    assert_str(f.open_error(), "the NBD server did not finish the handshake in 0.1 s");
    f.server.silent = false;
    f.server.sizes = BlockSizes{3, 4096, 1 << 20};
    assert_str(f.open_error(), "the NBD server's minimum block size of 3 is not a power of two of at most 65536");
    f.server.sizes = BlockSizes{4096, 4096, 512};
    assert_str(f.open_error(), "the NBD server's maximum block size of 512 is below its minimum of 4096");
    f.server.sizes = BlockSizes{4096, 4096, 1 << 20};
    f.server.info.size = 5000;
    assert_str(f.open_error(),
               "the size of the NBD server's export, 5000, is not a multiple of its minimum block size of 4096");
    f.server.sizes.reset();
    f.server.info.size = UINT64_MAX;
    g_assert_true(f.open_error().contains("more than the limit"));
}

// --- servers that go and come ---

// Runs a request in the background.
struct Later {
    TaskScope scope;
    std::optional<int> result;

    void start(Fixture& f, uint16_t command, uint64_t offset = 0, uint64_t length = 0) {
        result.reset();
        scope.spawn_on(*f.context, co_run(*this, *f.session, command, offset, length));
    }
    static Task<void> co_run(Later& self, ClientSession& session, uint16_t command, uint64_t offset, uint64_t length) {
        self.result = co_await session.co_request(command, 0, offset, length);
    }
};

void turn_for(AioContext& context, int64_t ns) {
    for (int64_t end = now_ns() + ns; now_ns() < end;)
        context.poll(false);
}

bool turn_until(AioContext& context, auto done) {
    for (int64_t end = now_ns() + 20'000 * kMs; !done();) {
        if (now_ns() > end)
            return false;
        context.poll(false);
    }
    return true;
}

void test_reconnect() {
    Fixture f;
    f.options.reconnect_delay_ns = 60'000 * kMs;
    unsigned answered = 0;
    bool deaf = true;
    f.server.answer = [&](const Request& request, const Say& say) -> std::optional<ByteVector> {
        if (deaf)
            return ByteVector{};
        answered++;
        return answer_everything(request, say);
    };
    f.open();
    // One that the server has and does not answer, and one that is made while there is none.
    Later first, second;
    first.start(f, kCmdTrim, 0, 512);
    g_assert_true(turn_until(*f.context, [&] { return f.server.requests.size() == 1; }));
    f.server.stop();
    second.start(f, kCmdTrim, 512, 512);
    turn_for(*f.context, 300 * kMs);
    g_assert_false(first.result || second.result);
    g_assert_cmpuint(f.session->connected(), ==, 0);
    deaf = false;
    f.server.start();
    g_assert_true(turn_until(*f.context, [&] { return first.result && second.result; }));
    g_assert_cmpint(*first.result, ==, 0);
    g_assert_cmpint(*second.result, ==, 0);
    g_assert_cmpuint(answered, ==, 2);
    g_assert_cmpuint(f.server.accepted, ==, 2);
}

void test_reconnect_delay_ends() {
    Fixture f;
    f.options.reconnect_delay_ns = 200 * kMs;
    f.server.answer = answer_everything;
    f.open();
    f.server.stop();
    Later held;
    turn_for(*f.context, 1 * kMs);
    int64_t start = now_ns();
    held.start(f, kCmdFlush);
    g_assert_true(turn_until(*f.context, [&] { return held.result.has_value(); }));
    g_assert_cmpint(*held.result, ==, -EIO);
    g_assert_cmpint(now_ns() - start, >=, 150 * kMs);
    // Now requests fail at once; but the server is still looked for.
    start = now_ns();
    g_assert_cmpint(f.request(kCmdFlush, 0, 0), ==, -EIO);
    g_assert_cmpint(now_ns() - start, <, 100 * kMs);
    f.server.start();
    g_assert_true(turn_until(*f.context, [&] { return f.session->connected() == 1; }));
    g_assert_cmpint(f.request(kCmdFlush, 0, 0), ==, 0);
}

void test_no_reconnect_delay() {
    Fixture f;
    f.server.answer = [](const Request&, const Say&) -> std::optional<ByteVector> { return ByteVector{}; };
    f.open();
    Later lost;
    lost.start(f, kCmdFlush);
    g_assert_true(turn_until(*f.context, [&] { return f.server.requests.size() == 1; }));
    f.server.hang_up();
    g_assert_true(turn_until(*f.context, [&] { return lost.result.has_value(); }));
    g_assert_cmpint(*lost.result, ==, -EIO);
    f.server.answer = answer_everything;
    g_assert_true(turn_until(*f.context, [&] { return f.session->connected() == 1; }));
    g_assert_cmpint(f.request(kCmdFlush, 0, 0), ==, 0);
}

// A request that kills the server each time is not repeated for ever.
void test_deadly_request() {
    Fixture f;
    f.options.reconnect_delay_ns = 400 * kMs;
    f.server.answer = [](const Request&, const Say&) -> std::optional<ByteVector> { return std::nullopt; };
    f.open();
    g_assert_cmpint(f.request(kCmdFlush, 0, 0), ==, -EIO);
}

void test_another_server() {
    const std::function<void(ScriptServer&)> changes[] = {
        [](ScriptServer& s) { s.info.size *= 2; }, [](ScriptServer& s) { s.info.flags |= kReadOnly; },
        [](ScriptServer& s) { s.sizes = BlockSizes{512, 4096, 1 << 20}; }, [](ScriptServer& s) { s.context = "x:y"; },
        [](ScriptServer& s) { s.style = HeaderStyle::Simple; }};
    for (const auto& change : changes) {
        Fixture f;
        f.options.reconnect_delay_ns = 60'000 * kMs;
        f.server.answer = answer_everything;
        f.open();
        f.server.stop();
        turn_for(*f.context, 1 * kMs);
        Later held;
        held.start(f, kCmdFlush);
        change(f.server);
        f.server.start();
        g_assert_true(turn_until(*f.context, [&] { return held.result.has_value(); }));
        g_assert_cmpint(*held.result, ==, -EIO);
        g_assert_cmpuint(f.server.requests.size(), ==, 0);
    }
}

// A server that is shutting down says so; what it refuses is kept for the next one.
void test_shutdown() {
    for (bool delay : {false, true}) {
        Fixture f;
        f.options.reconnect_delay_ns = delay ? 60'000 * kMs : 0;
        unsigned refused = 0;
        f.server.answer = [&](const Request& request, const Say& say) -> std::optional<ByteVector> {
            if (f.server.accepted == 1) {
                refused++;
                return say.error(kEShutdown, "");
            }
            return answer_everything(request, say);
        };
        f.open();
        g_assert_cmpint(f.request(kCmdFlush, 0, 0), ==, delay ? 0 : -ESHUTDOWN);
        g_assert_cmpuint(refused, ==, 1);
        g_assert_true(turn_until(*f.context, [&] { return f.server.accepted == 2 && f.server.finished == 1; }));
        g_assert_cmpuint(f.server.disconnects, ==, 1);
    }
}

struct Starter : Timer {
    ScriptServer& server;
    Starter(AioContext& context, ScriptServer& s)
        : Timer(context, [](Timer& t) { static_cast<Starter&>(t).server.start(); }), server(s) {}
};

void test_open_timeout() {
    Fixture f;
    f.server.answer = answer_everything;
    f.server.stop();
    g_assert_true(f.open_error().starts_with("Failed to connect to '"));
    f.options.open_timeout_ns = 60'000 * kMs;
    Starter starter(*f.context, f.server);
    starter.arm(now_ns() + 300 * kMs);
    f.open();
    g_assert_cmpint(f.request(kCmdFlush, 0, 0), ==, 0);
    f.close();

    f.server.silent = true;
    f.options.open_timeout_ns = 300 * kMs;
    const int64_t start = now_ns();
    g_assert_true(f.open_error().contains("handshake"));
    g_assert_cmpint(now_ns() - start, >=, 300 * kMs);
}

void test_multi_conn() {
    Fixture f;
    f.options.connections = 4;
    f.options.reconnect_delay_ns = 60'000 * kMs;
    std::vector<std::pair<unsigned, ByteVector>> held;
    f.server.answer = answer_everything;
    f.open();
    turn_for(*f.context, 50 * kMs);
    g_assert_cmpuint(f.session->connected(), ==, 1);  // it did not promise
    f.close();

    f.server.info.flags |= kCanMultiConn;
    f.server.accepted = 0;
    f.open();
    g_assert_true(turn_until(*f.context, [&] { return f.session->connected() == 4; }));
    // As many at once as there are connections, each on its own: every cookie is the first of its connection.
    f.server.requests.clear();
    f.server.answer = [](const Request&, const Say&) -> std::optional<ByteVector> { return ByteVector{}; };
    Later later[4];
    for (Later& one : later)
        one.start(f, kCmdFlush);
    g_assert_true(turn_until(*f.context, [&] { return f.server.requests.size() == 4; }));
    for (const Request& request : f.server.requests)
        g_assert_cmpuint(request.cookie >> 8, ==, 1);
    f.server.answer = answer_everything;
    f.server.hang_up();
    g_assert_true(turn_until(*f.context, [&] { return f.session->connected() == 4; }));
    for (Later& one : later) {
        g_assert_true(turn_until(*f.context, [&] { return one.result.has_value(); }));
        g_assert_cmpint(*one.result, ==, 0);
    }
}

// The server says good-bye on one connection, which still has a request, and cuts the other: that there is one left,
// which takes nothing more, does not mean that requests need not be held.
void test_shutdown_of_the_last() {
    Fixture f;
    f.options.connections = 2;
    f.options.reconnect_delay_ns = 60'000 * kMs;
    f.options.handshake_limit_ns = 100 * kMs;
    f.server.info.flags |= kCanMultiConn;
    f.server.answer = answer_everything;
    f.open();
    g_assert_true(turn_until(*f.context, [&] { return f.session->connected() == 2; }));
    f.server.requests.clear();
    f.server.answer = [&](const Request& request, const Say& say) -> std::optional<ByteVector> {
        if (request.type == kCmdFlush && f.server.requests.size() == 3)
            return say.error(kEShutdown, "");
        if (request.type == kCmdWriteZeroes)
            return std::nullopt;
        return ByteVector{};
    };
    Later on_both[2], refused, deadly;
    for (Later& one : on_both)
        one.start(f, kCmdTrim, 0, 512);
    g_assert_true(turn_until(*f.context, [&] { return f.server.requests.size() == 2; }));
    refused.start(f, kCmdFlush);
    g_assert_true(turn_until(*f.context, [&] { return f.server.requests.size() == 4; }));  // once more, on the other
    f.server.silent = true;
    deadly.start(f, kCmdWriteZeroes, 0, 512);
    g_assert_true(turn_until(*f.context, [&] { return f.session->connected() == 1; }));
    turn_for(*f.context, 200 * kMs);
    for (const Later* one : {&on_both[0], &on_both[1], &refused, &deadly})
        g_assert_false(one->result.has_value());

    f.server.answer = answer_everything;
    f.server.silent = false;
    for (const Later* one : {&on_both[1], &refused, &deadly}) {
        g_assert_true(turn_until(*f.context, [&] { return one->result.has_value(); }));
        g_assert_cmpint(*one->result, ==, 0);
    }
    g_assert_false(on_both[0].result.has_value());
    f.server.hang_up();
    g_assert_true(turn_until(*f.context, [&] { return on_both[0].result.has_value(); }));
    g_assert_cmpint(*on_both[0].result, ==, 0);
}

// Requests come from several threads; a restart in the middle is not noticed.
void test_threads() {
    Fixture f;
    f.options.reconnect_delay_ns = 60'000 * kMs;
    f.options.connections = 3;
    f.server.info.flags |= kCanMultiConn;
    f.server.answer = answer_everything;
    f.open();
    std::vector<std::unique_ptr<IOThread>> threads;
    for (int i = 0; i < 2; i++)
        threads.push_back(*IOThread::create("t" + std::to_string(i)));
    struct Worker {
        static Task<void> co_work(ClientSession& session, std::atomic<unsigned>& good) {
            for (unsigned i = 0; i < 200; i++) {
                ByteVector data(4096);
                iovec iov{data.data(), data.size()};
                int ret = co_await session.co_request(kCmdRead, 0, 0, data.size(), {&iov, 1});
                good += ret == 0 && data == filled(4096, 0x5a);
            }
        }
    };
    std::atomic<unsigned> good = 0;
    TaskScope scope;
    for (unsigned i = 0; i < 12; i++)
        scope.spawn_on(i % 3 == 2 ? *f.context : threads[i % 3]->context(), Worker::co_work(*f.session, good));
    g_assert_true(turn_until(*f.context, [&] { return good > 300; }));
    f.server.stop();
    f.server.start();
    g_assert_true(turn_until(*f.context, [&] { return scope.running() == 0; }));
    sync_wait(*f.context, scope.join());
    g_assert_cmpuint(good, ==, 12 * 200);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/nbd/session/commands-in-every-style", test_commands);
    g_test_add_func("/nbd/session/a-read-may-come-in-pieces-of-any-order", test_pieces);
    g_test_add_func("/nbd/session/errors-are-errnos-and-the-connection-goes-on", test_errors);
    g_test_add_func("/nbd/session/lies-are-named-and-end-the-connection", test_liars);
    g_test_add_func("/nbd/session/a-liar-is-not-called-again", test_session_ends_with_a_liar);
    g_test_add_func("/nbd/session/a-server-that-vanishes-fails-its-requests", test_vanishing);
    g_test_add_func("/nbd/session/any-number-of-requests-in-any-order", test_many_requests);
    g_test_add_func("/nbd/session/bounds-of-the-handshake", test_handshake_limits);
    g_test_add_func("/nbd/session/requests-wait-for-the-server-to-come-back", test_reconnect);
    g_test_add_func("/nbd/session/and-fail-when-it-has-been-too-long", test_reconnect_delay_ends);
    g_test_add_func("/nbd/session/without-a-delay-they-fail-and-later-ones-work", test_no_reconnect_delay);
    g_test_add_func("/nbd/session/a-request-that-kills-the-server-is-given-up", test_deadly_request);
    g_test_add_func("/nbd/session/another-server-at-the-address-is-not-used", test_another_server);
    g_test_add_func("/nbd/session/a-server-that-shuts-down-is-left", test_shutdown);
    g_test_add_func("/nbd/session/a-connection-that-retires-is-not-one-to-use", test_shutdown_of_the_last);
    g_test_add_func("/nbd/session/opening-waits-for-the-server", test_open_timeout);
    g_test_add_func("/nbd/session/several-connections-if-the-server-can", test_multi_conn);
    g_test_add_func("/nbd/session/from-any-thread-across-a-restart", test_threads);
    return g_test_run();
}
