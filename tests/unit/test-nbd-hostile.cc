// Clients that lie, stall and vanish: none of them costs more than its share, or anybody else anything.
#include <random>

#include "tests/unit/nbd_fixture.h"

using namespace ashlar;
using namespace ashlar::nbd;

namespace {

constexpr HeaderStyle kStyles[] = {HeaderStyle::Simple, HeaderStyle::Structured, HeaderStyle::Extended};
constexpr uint64_t kSize = 1 << 20;

void append(ByteVector& to, const ByteVector& bytes) {
    to.insert(to.end(), bytes.begin(), bytes.end());
}

// Everything a well-behaved client sends, from its flags to the last request, without waiting for answers.
ByteVector session(HeaderStyle style) {
    ByteVector out(kClientFlagsSize);
    store_be<uint32_t>(out.data(), kClientFixedNewstyle | kClientNoZeroes);
    append_option(out, kOptList, {});
    append_option(out, 4711, bytes_of("unknown"));
    if (style != HeaderStyle::Simple) {
        append_option(out, style == HeaderStyle::Extended ? kOptExtendedHeaders : kOptStructuredReply, {});
        std::string queries[] = {"base:allocation"};
        append_option(out, kOptSetMetaContext, build_meta_context_request("disk", queries));
    }
    uint16_t wanted[] = {kInfoBlockSize};
    append_option(out, kOptGo, build_info_request("disk", wanted));
    auto add = [&](Request request, const ByteVector& payload) {
        ByteVector header(request_header_size(style));
        build_request(header.data(), request, style);
        append(out, header);
        append(out, payload);
    };
    uint16_t payload_flag = style == HeaderStyle::Extended ? kCmdFlagPayloadLen : 0;
    add({0, kCmdRead, 1, 0, 100}, {});
    add({payload_flag, kCmdWrite, 2, 512, 64}, ByteVector(64, std::byte{0xee}));
    add({payload_flag, kCmdWrite, 3, kSize, 32}, ByteVector(32));  // refused
    add({0, kCmdFlush, 4, 0, 0}, {});
    add({0, kCmdDisc, 5, 0, 0}, {});
    return out;
}

enum class Departure { Close, HalfClose, Reset };

void leave(NbdPeer& peer, Departure how) {
    if (how == Departure::HalfClose) {
        peer.shutdown(SHUT_WR);
        return;
    }
    if (how == Departure::Close)  // with nothing unread: an orderly end
        for (std::byte bytes[4096]; ::recv(peer.fd(), bytes, sizeof bytes, MSG_DONTWAIT) > 0;) {
        }
    peer.close();
}

void test_disconnect_at_every_byte() {
    for (HeaderStyle style : kStyles) {
        NbdFixture f;
        ByteVector all = session(style);
        ByteVector before = f.expected(512, 64);
        for (size_t n = 0; n <= all.size(); n++) {
            for (Departure how : {Departure::Close, Departure::HalfClose, Departure::Reset}) {
                NbdPeer peer(*f.server);
                g_assert_true(peer.try_send(std::span(all).first(n)));
                if (n % 3 == 0)
                    f.context->poll(false);  // the server is somewhere in the middle, or has seen nothing yet
                else
                    f.settle();
                leave(peer, how);
                g_assert_true(f.turn_until([&] { return f.server->connections() == 0; }));
                // A write is done as a whole or not at all.
                ByteVector now = f.expected(512, 64);
                g_assert_true(now == before || now == ByteVector(64, std::byte{0xee}));
                std::copy(before.begin(), before.end(), f.disk.content.begin() + 512);
            }
        }
        NbdPeer peer(*f.server);
        peer.go("disk", style);
        peer.check_usable();
    }
}

void test_silent_in_handshake() {
    NbdFixture f(NbdFixture::writable(), {.handshake_timeout_ns = 20'000'000});
    ByteVector all = session(HeaderStyle::Simple);
    std::vector<std::unique_ptr<NbdPeer>> peers;
    for (size_t n : {size_t{0}, size_t{3}, size_t{4}, size_t{10}, size_t{20}, size_t{30}}) {
        peers.push_back(std::make_unique<NbdPeer>(*f.server));
        g_assert_true(peers.back()->try_send(std::span(all).first(n)));
    }
    NbdPeer quick(*f.server);
    quick.go("disk");
    g_assert_true(f.turn_until([&] { return f.server->connections() == 1; }));
    quick.check_usable();  // the limit is the handshake's
}

// --- requests that are refused ---

void test_refused_payloads_are_drained() {
    for (HeaderStyle style : kStyles) {
        NbdFixture f;
        f.add_export({.name = "ro"});
        ByteVector data(100'000, std::byte{0x25});  // looks like no header's magic at any place
        NbdPeer peer(*f.server);
        peer.go("disk", style);
        g_assert_cmpuint(peer.write(kSize - 1000, data), ==, kENoSpc);
        g_assert_cmpuint(peer.write(~0ull - 5, data), ==, kENoSpc);
        g_assert_cmpuint(peer.write(0, data, 1 << 9), ==, kEInval);
        peer.check_usable();
        NbdPeer reader(*f.server);
        reader.go("ro", style);
        g_assert_cmpuint(reader.write(0, data), ==, kEPerm);
        g_assert_cmpuint(reader.command(kCmdTrim, 0, 512), ==, kEPerm);
        g_assert_cmpuint(reader.command(kCmdWriteZeroes, 0, 512), ==, kEPerm);
        reader.check_usable();
        g_assert_cmpuint(f.disk.writes, ==, 0);
    }
}

void test_oversize() {
    NbdFixture f(NbdFixture::writable(), {}, 64 << 20);
    ByteVector data(kMaxPayload + 1);
    for (HeaderStyle style : {HeaderStyle::Simple, HeaderStyle::Structured}) {
        NbdPeer peer(*f.server);
        peer.go("disk", style);
        g_assert_cmpuint(peer.write(0, data), ==, kEInval);
        g_assert_cmpuint(peer.command(kCmdRead, 0, kMaxPayload + 1), ==, kEInval);
        g_assert_cmpuint(peer.write(0, std::span(data).first(kMaxPayload)), ==, 0);
        g_assert_true(peer.read(0, kMaxPayload) == ByteVector(kMaxPayload));
        if (style == HeaderStyle::Structured)
            g_assert_cmpuint(peer.command(kCmdRead, 0, kMaxPayload + 1, kCmdFlagDf), ==, kEOverflow);
        peer.check_usable();
    }
    for (uint64_t length : {uint64_t{kMaxPayload} + 1, uint64_t{1} << 32, ~uint64_t{0}}) {  // told, and disconnected
        NbdPeer peer(*f.server);
        peer.go("disk", HeaderStyle::Extended);
        peer.send_request({kCmdFlagPayloadLen, kCmdWrite, 77, 0, length});
        g_assert_cmpuint(peer.final_error(), ==, kEInval);
        g_assert_true(peer.is_closed());
    }
}

void test_unknown_requests() {
    for (HeaderStyle style : kStyles) {
        NbdFixture f;
        NbdPeer peer(*f.server);
        peer.go("disk", style, style != HeaderStyle::Simple);
        for (uint16_t type : {8, 9, 100, 0x7fff, 0xffff})
            g_assert_cmpuint(peer.command(type, 0, 512), ==, kEInval);
        for (uint16_t type : {kCmdRead, kCmdTrim, kCmdCache, kCmdWriteZeroes, kCmdBlockStatus})
            for (int bit = 5; bit < 16; bit++) {
                uint16_t flag = 1 << bit;
                if (style == HeaderStyle::Extended && flag == kCmdFlagPayloadLen)
                    continue;
                g_assert_cmpuint(peer.command(type, 0, 512, flag), ==, kEInval);
            }
        g_assert_cmpuint(peer.command(kCmdFlush, 1, 1), ==, kEInval);
        if (style == HeaderStyle::Extended) {
            ByteVector payload(3000, std::byte{0x21});
            peer.send_request({kCmdFlagPayloadLen, kCmdTrim, 77, 0, payload.size()}, payload);
            g_assert_cmpuint(peer.final_error(), ==, kEInval);
            peer.send_request({0, kCmdWrite, 77, 0, 512});  // a write without the flag has no payload
            g_assert_cmpuint(peer.final_error(), ==, kEInval);
        }
        peer.check_usable();
    }
}

void test_ends_of_the_range() {
    for (HeaderStyle style : kStyles) {
        NbdFixture f;
        NbdPeer peer(*f.server);
        peer.go("disk", style, style != HeaderStyle::Simple);
        constexpr uint64_t kMax = ~uint64_t{0};
        for (uint16_t type : {kCmdRead, kCmdTrim, kCmdCache, kCmdWriteZeroes, kCmdBlockStatus}) {
            uint32_t past = type == kCmdWriteZeroes ? kENoSpc : kEInval;
            for (auto [offset, length] : {std::pair<uint64_t, uint64_t>{kSize, 1},
                                          {kSize - 1, 2},
                                          {kMax, 1},
                                          {kMax - 511, 512},
                                          {kMax - 510, 512},
                                          {1ull << 63, 512}})
                g_assert_cmpuint(peer.command(type, offset, length), ==, past);
            if (style == HeaderStyle::Extended)
                for (uint64_t length : {kMax, kMax - 1, uint64_t{1} << 63, uint64_t{1} << 32})
                    g_assert_cmpuint(peer.command(type, 1, length), ==, past);
        }
        peer.check_usable();
    }
}

void test_structured_read_errors_are_chunks() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.go("disk", HeaderStyle::Structured);
    for (uint16_t flags : {0, 1 << 10}) {
        peer.send_request({flags, kCmdRead, 1, kSize, 512});
        NbdPeerReply reply = peer.reply();
        g_assert_false(reply.header.simple);
        g_assert_cmpuint(reply.error(), ==, kEInval);
    }
}

void test_bad_request_magic() {
    for (HeaderStyle style : kStyles) {
        NbdFixture f;
        NbdPeer peer(*f.server);
        peer.go("disk", style);
        ByteVector bytes = peer.request_bytes({0, kCmdRead, 1, 0, 512});
        peer.send(bytes);
        (void)peer.reply(512);  // this one is good
        bytes[3] ^= std::byte{1};
        peer.send(bytes);
        g_assert_true(peer.is_closed());
        NbdPeer confused(*f.server);  // speaks the other style
        confused.go("disk", style);
        confused.set_style(style == HeaderStyle::Extended ? HeaderStyle::Simple : HeaderStyle::Extended);
        ByteVector other = confused.request_bytes({0, kCmdRead, 1, 0, 512});
        other.resize(kExtendedRequestSize);
        confused.send(other);
        g_assert_true(confused.is_closed());
    }
}

// --- peers that stall ---

void test_unread_replies() {
    NbdFixture f(NbdFixture::writable(), {.max_requests = 64, .max_bytes = 1 << 20});
    NbdPeer deaf(*f.server), other(*f.server);
    deaf.go("disk");
    other.go("disk");
    constexpr unsigned kReads = 2000;
    constexpr size_t kLength = 16 << 10;
    ByteVector all;
    for (unsigned i = 0; i < kReads; i++)
        append(all, deaf.request_bytes({0, kCmdRead, i, (i % 64) * kLength, kLength}));
    size_t sent = 0;
    for (int idle = 0; idle < 200; idle++) {
        ssize_t n = ::send(deaf.fd(), all.data() + sent, all.size() - sent, MSG_DONTWAIT);
        if (n > 0) {
            sent += static_cast<size_t>(n);
            idle = 0;
        }
        f.context->poll(false);
    }
    // What is in the sockets, in sending, and under way: not what was asked for.
    g_assert_cmpuint(f.disk.reads, <, 256);
    for (int i = 0; i < 20; i++)
        g_assert_true(other.read(0, 100'000) == f.expected(0, 100'000));
    unsigned answered = 0;
    for (; answered < kReads; answered++) {
        ssize_t n;
        while (sent < all.size() && (n = ::send(deaf.fd(), all.data() + sent, all.size() - sent, MSG_DONTWAIT)) > 0)
            sent += static_cast<size_t>(n);
        NbdPeerReply reply = deaf.reply(kLength);
        g_assert_true(reply.data == f.expected((reply.header.cookie % 64) * kLength, kLength));
    }
    deaf.check_usable();
}

void test_vanishing_with_unread_replies() {
    NbdFixture f;
    for (int i = 0; i < 10; i++) {
        NbdPeer peer(*f.server);
        peer.go("disk");
        ByteVector all;
        for (unsigned r = 0; r < 100; r++)
            append(all, peer.request_bytes({0, kCmdRead, r, 0, 64 << 10}));
        peer.send(all);
        f.settle();
        peer.close();
        g_assert_true(f.turn_until([&] { return f.server->connections() == 0; }));
    }
}

void test_vanishing_while_the_disk_works() {
    NbdFixture f;
    f.disk.hold();
    {
        NbdPeer peer(*f.server);
        peer.go("disk", HeaderStyle::Structured, true);
        peer.send_request({0, kCmdRead, 1, 0, 4096});
        peer.send_request({0, kCmdRead, 2, 0, 256 << 10});
        peer.send_request({0, kCmdBlockStatus, 3, 0, 4096});
        peer.send_write(4, 0, ByteVector(4096));
        g_assert_true(f.turn_until([&] { return f.disk.waiting() == 4; }));
    }
    f.settle();
    g_assert_cmpuint(f.server->connections(), ==, 1);  // the disk still has its buffers
    f.disk.release();
    g_assert_true(f.turn_until([&] { return f.server->connections() == 0; }));
}

void test_stopping_with_stalled_peers() {
    NbdFixture f(NbdFixture::writable(), {.stop_timeout_ns = 50'000'000});
    NbdPeer mid_payload(*f.server), deaf(*f.server), mid_header(*f.server);
    mid_payload.go("disk");
    deaf.go("disk");
    mid_header.go("disk");
    ByteVector write = mid_payload.request_bytes({0, kCmdWrite, 1, 0, 4096}, ByteVector(4096));
    mid_payload.send(std::span(write).first(2000));
    mid_header.send(std::span(write).first(20));
    for (unsigned i = 0; i < 40; i++)
        deaf.send_request({0, kCmdRead, i, 0, 512 << 10});
    f.settle();
    int64_t begin = now_ns();
    g_assert_true(sync_wait(*f.context, f.server->co_stop()).has_value());
    g_assert_cmpint(now_ns() - begin, <, 5'000'000'000);
    g_assert_cmpuint(f.disk.writes, ==, 0);
}

// --- noise ---

void test_noise() {
    uint32_t seed = static_cast<uint32_t>(g_test_rand_int());
    g_test_message("seed %u", seed);
    std::mt19937 random(seed);
    NbdFixture f(NbdFixture::writable(), {.handshake_timeout_ns = 100'000'000});
    for (int round = 0; round < 300; round++) {
        HeaderStyle style = kStyles[random() % 3];
        NbdPeer peer(*f.server);
        ByteVector bytes = session(style);
        for (unsigned changes = random() % 8; changes > 0; changes--) {
            size_t at = random() % bytes.size();
            switch (random() % 3) {
                case 0:
                    bytes[at] = static_cast<std::byte>(random());
                    break;
                case 1:
                    bytes.erase(bytes.begin() + static_cast<ptrdiff_t>(at));
                    break;
                case 2:
                    bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(at), static_cast<std::byte>(random()));
            }
        }
        (void)peer.try_send(bytes);
        f.settle();
        peer.close();
        g_assert_true(f.turn_until([&] { return f.server->connections() == 0; }));
    }
    NbdPeer peer(*f.server);
    peer.go("disk");
    peer.check_usable();
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/nbd/hostile/disconnecting-at-every-byte", test_disconnect_at_every_byte);
    g_test_add_func("/nbd/hostile/silence-in-the-handshake-is-timed", test_silent_in_handshake);
    g_test_add_func("/nbd/hostile/refused-payloads-are-drained", test_refused_payloads_are_drained);
    g_test_add_func("/nbd/hostile/oversize-requests", test_oversize);
    g_test_add_func("/nbd/hostile/unknown-requests-and-flags", test_unknown_requests);
    g_test_add_func("/nbd/hostile/requests-at-the-ends-of-2^64", test_ends_of_the_range);
    g_test_add_func("/nbd/hostile/structured-read-errors-are-chunks", test_structured_read_errors_are_chunks);
    g_test_add_func("/nbd/hostile/bad-request-magic-ends-the-connection", test_bad_request_magic);
    g_test_add_func("/nbd/hostile/unread-replies-cost-only-their-share", test_unread_replies);
    g_test_add_func("/nbd/hostile/vanishing-with-unread-replies", test_vanishing_with_unread_replies);
    g_test_add_func("/nbd/hostile/vanishing-while-the-disk-works", test_vanishing_while_the_disk_works);
    g_test_add_func("/nbd/hostile/stopping-does-not-wait-for-stalled-peers", test_stopping_with_stalled_peers);
    g_test_add_func("/nbd/hostile/noise", test_noise);
    return g_test_run();
}
