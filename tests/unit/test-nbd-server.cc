#include "tests/unit/assert_str.h"
#include "tests/unit/nbd_fixture.h"
#include "tests/unit/temp_dir.h"
#include "util/io_thread.h"

#include <fcntl.h>
#include <signal.h>

using namespace ashlar;
using namespace ashlar::nbd;

namespace {

constexpr HeaderStyle kStyles[] = {HeaderStyle::Simple, HeaderStyle::Structured, HeaderStyle::Extended};
constexpr uint64_t kSize = 1 << 20;

ByteVector pattern(size_t size, int seed) {
    ByteVector data(size);
    for (size_t i = 0; i < size; i++)
        data[i] = static_cast<std::byte>(i * 13 + static_cast<size_t>(seed));
    return data;
}

// --- what works ---

void test_read_write() {
    for (HeaderStyle style : kStyles) {
        NbdFixture f;
        NbdPeer peer(*f.server);
        peer.go("disk", style);
        for (size_t size : {size_t{1}, size_t{511}, size_t{4096}, size_t{16 << 10}, size_t{100'000}, size_t{kSize}}) {
            ByteVector data = pattern(size, static_cast<int>(size));
            g_assert_cmpuint(peer.write(kSize - size, data), ==, 0);
            g_assert_true(f.expected(kSize - size, size) == data);
            g_assert_true(peer.read(kSize - size, size) == data);
        }
    }
}

// An export of a raw file, which large reads need not copy.
struct FileFixture : BlockFixture {
    static constexpr size_t kFileSize = 4 << 20;

    TempDir dir = TempDir::on_disk();
    std::string path = dir.file("disk");
    ByteVector data = ByteVector(kFileSize);
    std::unique_ptr<NbdServer> server = std::make_unique<NbdServer>(*context, NbdServerOptions{});

    FileFixture() {
        signal(SIGPIPE, SIG_IGN);
        for (size_t i = 0; i < data.size(); i++)
            data[i] = static_cast<std::byte>(i * 2654435761u >> 13);
        UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        g_assert_cmpint(write(fd.get(), data.data(), data.size()), ==, static_cast<ssize_t>(data.size()));
        BlockDriverState& node =
            add(fmt::format("{{'driver': 'raw', 'node-name': 'disk', 'offset': 512, 'file': "
                            "{{'driver': 'file', 'filename': '{}'}}}}",
                            path));
        check(server->add_export(check(run(NbdExport::co_create({.name = "disk", .writable = true}, *graph, node)))));
        data.erase(data.begin(), data.begin() + 512);
    }
    ~FileFixture() { check(run(server->co_stop())); }

    ByteVector expected(uint64_t offset, uint64_t length) const {
        auto from = data.begin() + static_cast<ptrdiff_t>(offset);
        return {from, from + static_cast<ptrdiff_t>(length)};
    }
};

void test_file_reads_of_all_sizes() {
    for (HeaderStyle style : kStyles) {
        FileFixture f;
        NbdPeer peer(*f.server);
        peer.go("disk", style);
        ByteVector all;
        std::vector<nbd::Request> requests;
        for (uint64_t round = 0; round < 4; round++)
            for (uint64_t length : {512, 4096, 32 << 10, 64 << 10, 100'000, 256 << 10, 1 << 20, 2 << 20}) {
                uint64_t offset = (round * 777'777 + length) % (f.data.size() - length);
                requests.push_back({kCmdFlagDf, kCmdRead, requests.size(), offset, length});
                if (style == HeaderStyle::Simple)
                    requests.back().flags = 0;
                ByteVector one = peer.request_bytes(requests.back());
                all.insert(all.end(), one.begin(), one.end());
            }
        peer.send(all);
        // What is read at once and what is not overtake each other: a cookie says which it is.
        for (size_t i = 0; i < requests.size(); i++) {
            ByteVector header = peer.recv_exact(4);
            ByteVector rest = peer.recv_exact(reply_header_size(std::span(header).first<4>(), style) - 4);
            header.insert(header.end(), rest.begin(), rest.end());
            auto parsed = parse_reply_header(header, style);
            g_assert_true(parsed.has_value());
            const nbd::Request& request = requests.at(parsed->cookie);
            g_assert_cmpuint(parsed->error, ==, 0);
            if (style != HeaderStyle::Simple)
                g_assert_cmpuint(load_be<uint64_t>(peer.recv_exact(8).data()), ==, request.offset);
            g_assert_true(peer.recv_exact(request.length) == f.expected(request.offset, request.length));
        }
        peer.check_usable();
    }
}

void test_file_that_became_shorter_reads_as_zeroes() {
    FileFixture f;
    NbdPeer peer(*f.server);
    peer.go("disk");
    g_assert_true(peer.read(0, 1 << 20) == f.expected(0, 1 << 20));
    g_assert_cmpint(truncate(f.path.c_str(), 512 + 100'000), ==, 0);
    std::fill(f.data.begin() + 100'000, f.data.end(), std::byte{0});
    g_assert_true(peer.read(0, 1 << 20) == f.expected(0, 1 << 20));
    g_assert_true(peer.read(1 << 20, 1 << 20) == f.expected(1 << 20, 1 << 20));
}

void test_client_that_takes_no_file_data() {
    FileFixture f;
    for (int i = 0; i < 20; i++) {
        NbdPeer peer(*f.server);
        peer.go("disk");
        for (uint64_t cookie = 0; cookie < 64; cookie++)
            peer.send_request({0, kCmdRead, cookie, cookie * 4096, 512 << 10});
        peer.recv_exact(100'000);
    }
    NbdPeer peer(*f.server);
    peer.go("disk");
    g_assert_true(peer.read(4096, 2 << 20) == f.expected(4096, 2 << 20));
}

void test_commands_reach_the_disk() {
    for (HeaderStyle style : kStyles) {
        NbdFixture f;
        NbdPeer peer(*f.server);
        peer.go("disk", style);
        g_assert_cmpuint(peer.command(kCmdFlush, 0, 0), ==, 0);
        g_assert_cmpuint(f.disk.flushes, ==, 1);
        g_assert_cmpuint(peer.command(kCmdTrim, 0, 4096), ==, 0);
        g_assert_cmpuint(f.disk.discards, ==, 1);
        g_assert_cmpuint(peer.command(kCmdCache, 0, 4096), ==, 0);
        g_assert_cmpuint(peer.command(kCmdWriteZeroes, 4096, 4096), ==, 0);
        g_assert_true(has(f.disk.last_zero_flags, RequestFlags::MayUnmap));
        g_assert_true(peer.read(4096, 4096) == ByteVector(4096));
        g_assert_cmpuint(peer.command(kCmdWriteZeroes, 4096, 4096, kCmdFlagNoHole), ==, 0);
        g_assert_false(has(f.disk.last_zero_flags, RequestFlags::MayUnmap));
    }
}

void test_fua() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.go("disk");
    auto stable = [&] { return f.disk.flushes + f.disk.fua_writes; };
    unsigned before = stable();
    auto check = [&] {
        g_assert_cmpuint(stable(), >, before);
        before = stable();
    };
    g_assert_cmpuint(peer.write(0, pattern(512, 1), kCmdFlagFua), ==, 0);
    check();
    g_assert_cmpuint(peer.command(kCmdWriteZeroes, 0, 4096, kCmdFlagFua), ==, 0);
    check();
    g_assert_cmpuint(peer.command(kCmdTrim, 0, 4096, kCmdFlagFua), ==, 0);
    check();
    g_assert_cmpuint(peer.write(0, pattern(512, 1)), ==, 0);
    g_assert_cmpuint(stable(), ==, before);
    for (uint16_t type : {kCmdRead, kCmdCache})  // valid, without an effect
        g_assert_cmpuint(peer.command(type, 0, 0, kCmdFlagFua), ==, 0);
}

void test_empty_requests() {
    for (HeaderStyle style : kStyles) {
        NbdFixture f;
        NbdPeer peer(*f.server);
        peer.go("disk", style);
        for (uint16_t type : {kCmdRead, kCmdTrim, kCmdCache, kCmdWriteZeroes})
            g_assert_cmpuint(peer.command(type, 512, 0), ==, 0);
        g_assert_cmpuint(peer.write(512, {}), ==, 0);
        peer.check_usable();
    }
}

void test_pipelined_out_of_order_cookies() {
    for (HeaderStyle style : kStyles) {
        NbdFixture f(NbdFixture::writable(), {.max_requests = 16});
        NbdPeer peer(*f.server);
        peer.go("disk", style);
        constexpr unsigned kRequests = 500;  // many times what may be under way
        ByteVector all;
        for (unsigned i = 0; i < kRequests; i++) {
            ByteVector one = peer.request_bytes({0, kCmdRead, i, i * 512, 512});
            all.insert(all.end(), one.begin(), one.end());
        }
        peer.send(all);
        std::vector<bool> seen(kRequests);
        for (unsigned i = 0; i < kRequests; i++) {
            NbdPeerReply reply = peer.reply(512);
            g_assert_cmpuint(reply.error(), ==, 0);
            uint64_t cookie = reply.header.cookie;
            g_assert_false(seen[cookie]);
            seen[cookie] = true;
            ByteVector data(reply.data.end() - 512, reply.data.end());
            g_assert_true(data == f.expected(cookie * 512, 512));
        }
    }
}

void test_pipelined_writes() {
    for (HeaderStyle style : kStyles) {
        NbdFixture f;
        NbdPeer peer(*f.server);
        peer.go("disk", style);
        constexpr unsigned kRequests = 200;  // more than the input buffer holds, cut at any place
        for (unsigned i = 0; i < kRequests; i++)
            peer.send_write(i, i * 4999, pattern(4999, static_cast<int>(i)));
        for (unsigned i = 0; i < kRequests; i++)
            g_assert_cmpuint(peer.reply().error(), ==, 0);
        for (unsigned i = 0; i < kRequests; i++)
            g_assert_true(f.expected(i * 4999, 4999) == pattern(4999, static_cast<int>(i)));
    }
}

// Payloads that do not go through the input buffer, with the headers behind them and whatever comes next, in bursts
// that end anywhere.
void test_large_payloads() {
    for (HeaderStyle style : kStyles) {
        NbdFixture f;
        NbdPeer peer(*f.server);
        peer.go("disk", style);
        ByteVector all;
        auto add = [&](Request request, const ByteVector& payload) {
            if (style == HeaderStyle::Extended && request.type == kCmdWrite)
                request.flags |= kCmdFlagPayloadLen;
            const ByteVector one = peer.request_bytes(request, payload);
            all.insert(all.end(), one.begin(), one.end());
        };
        ByteVector expected = f.expected(0, kSize);
        unsigned requests = 0;
        auto write = [&](size_t size) {
            const auto offset = static_cast<uint64_t>(g_test_rand_int_range(0, static_cast<int>(kSize - size)));
            const ByteVector data = pattern(size, static_cast<int>(requests));
            std::ranges::copy(data, expected.begin() + static_cast<ptrdiff_t>(offset));
            add({0, kCmdWrite, requests++, offset, size}, data);
        };
        for (int i = 0; i < 60; i++) {
            write(static_cast<size_t>(g_test_rand_int_range(8 << 10, i % 10 ? 80 << 10 : 300 << 10)));
            if (g_test_rand_int_range(0, 3) == 0)
                write(static_cast<size_t>(g_test_rand_int_range(1, 600)));
            if (g_test_rand_int_range(0, 3) == 0)
                add({0, kCmdFlush, requests++, 0, 0}, {});
        }
        for (std::span<const std::byte> rest(all); !rest.empty();) {
            const int most = g_test_rand_bit() ? 100 : 500'000;
            const auto burst = rest.first(std::min(rest.size(), static_cast<size_t>(g_test_rand_int_range(1, most))));
            peer.send(burst);
            rest = rest.subspan(burst.size());
            for (int turns = g_test_rand_int_range(0, 3); turns > 0; turns--)
                f.server->home().poll(false);
        }
        for (unsigned i = 0; i < requests; i++)
            g_assert_cmpuint(peer.reply().error(), ==, 0);
        g_assert_true(f.expected(0, kSize) == expected);
    }
}

// --- sparse reads ---

void test_sparse_read() {
    for (HeaderStyle style : {HeaderStyle::Structured, HeaderStyle::Extended}) {
        NbdFixture f;
        f.disk.holes = {{128 << 10, 256 << 10}};
        std::fill_n(f.disk.content.begin() + (128 << 10), 256 << 10, std::byte{});
        NbdPeer peer(*f.server);
        peer.go("disk", style);
        peer.send_request({0, kCmdRead, 5, 64 << 10, 512 << 10});
        NbdPeerReply data = peer.reply(), hole = peer.reply(), rest = peer.reply();
        g_assert_cmpuint(data.header.type, ==, kChunkOffsetData);
        g_assert_cmpuint(data.data.size(), ==, 8 + (64 << 10));
        g_assert_cmpuint(hole.header.type, ==, kChunkOffsetHole);
        g_assert_cmpuint(parse_hole_payload(hole.data)->offset, ==, 128 << 10);
        g_assert_cmpuint(parse_hole_payload(hole.data)->length, ==, 256 << 10);
        g_assert_false(hole.done());
        g_assert_true(rest.done());
        g_assert_cmpuint(load_be<uint64_t>(rest.data.data()), ==, 384 << 10);
        g_assert_true(peer.read(0, kSize) == f.expected(0, kSize));
        // All hole: no data at all.
        unsigned reads = f.disk.reads;
        peer.send_request({0, kCmdRead, 5, 128 << 10, 256 << 10});
        hole = peer.reply();
        g_assert_true(hole.done() && hole.header.type == kChunkOffsetHole);
        g_assert_cmpuint(f.disk.reads, ==, reads);
    }
}

void test_df_is_one_chunk() {
    NbdFixture f;
    f.disk.holes = {{128 << 10, 256 << 10}};
    NbdPeer peer(*f.server);
    peer.go("disk", HeaderStyle::Structured);
    peer.send_request({kCmdFlagDf, kCmdRead, 5, 0, 512 << 10});
    NbdPeerReply reply = peer.reply();
    g_assert_cmpuint(reply.header.type, ==, kChunkOffsetData);
    g_assert_cmpuint(reply.data.size(), ==, 8 + (512 << 10));
    g_assert_true(reply.done());
}

void test_dense_reads_ask_once() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.go("disk", HeaderStyle::Structured);
    for (uint64_t offset = 0; offset < kSize; offset += 64 << 10)
        peer.read(offset, 64 << 10);
    g_assert_cmpuint(f.disk.status_calls, ==, 1);
    g_assert_cmpuint(peer.command(kCmdTrim, 0, 4096), ==, 0);
    peer.read(0, 64 << 10);  // the client may have made a hole
    g_assert_cmpuint(f.disk.status_calls, ==, 2);
    for (int i = 0; i < 10; i++)
        peer.read(0, 4096);  // too small to ask
    g_assert_cmpuint(f.disk.status_calls, ==, 2);
}

void test_failed_status_is_no_failed_read() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.go("disk", HeaderStyle::Structured);
    f.disk.fail_status_with = EIO;
    g_assert_true(peer.read(0, 128 << 10) == f.expected(0, 128 << 10));
}

// --- block status ---

std::vector<Extent> extents_of(const NbdPeerReply& reply) {
    auto status = parse_block_status_reply(reply.data, reply.header.type);
    g_assert_true(status.has_value());
    std::vector<Extent> extents;
    for (size_t i = 0; i < status->count; i++)
        extents.push_back(status->extent(i));
    return extents;
}

void test_block_status() {
    for (HeaderStyle style : {HeaderStyle::Structured, HeaderStyle::Extended}) {
        NbdFixture f;
        f.disk.holes = {{4096, 8192}, {65536, 4096}};
        NbdPeer peer(*f.server);
        peer.go("disk", style, true);
        peer.send_request({0, kCmdBlockStatus, 5, 0, 65536 + 8192});
        NbdPeerReply first = peer.reply(), second = peer.reply();
        g_assert_cmpuint(first.header.type, ==,
                         style == HeaderStyle::Extended ? kChunkBlockStatusExt : kChunkBlockStatus);
        g_assert_false(first.done());
        g_assert_true(second.done());
        constexpr uint32_t kHole = kStateHole | kStateZero;
        g_assert_true(
            (extents_of(first) == std::vector<Extent>{{4096, 0}, {8192, kHole}, {53248, 0}, {4096, kHole}, {4096, 0}}));
        g_assert_true((extents_of(second) == std::vector<Extent>{{65536 + 8192, 1}}));
        // One extent, no longer than the request.
        peer.send_request({kCmdFlagReqOne, kCmdBlockStatus, 5, 4096, 4096});
        g_assert_true((extents_of(peer.reply()) == std::vector<Extent>{{4096, kHole}}));
        g_assert_true((extents_of(peer.reply()) == std::vector<Extent>{{4096, 1}}));
    }
}

void test_block_status_is_bounded() {
    NbdFixture f;
    for (int64_t offset = 0; offset < static_cast<int64_t>(kSize); offset += 256)
        f.disk.holes[offset] = 128;
    NbdPeer peer(*f.server);
    peer.go("disk", HeaderStyle::Structured, true);
    peer.send_request({0, kCmdBlockStatus, 5, 0, kSize});
    g_assert_cmpuint(extents_of(peer.reply()).size(), ==, 1024);
    (void)peer.reply();
    peer.check_usable();
}

void test_block_status_filter() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.go("disk", HeaderStyle::Extended, true);
    auto ask = [&](uint64_t length, std::vector<uint32_t> ids, uint64_t offset = 0) {
        ByteVector payload(8 + 4 * ids.size());
        store_be<uint64_t>(payload.data(), length);
        for (size_t i = 0; i < ids.size(); i++)
            store_be<uint32_t>(payload.data() + 8 + 4 * i, ids[i]);
        peer.send_request({kCmdFlagPayloadLen, kCmdBlockStatus, 77, offset, payload.size()}, payload);
    };
    ask(4096, {1});
    NbdPeerReply reply = peer.reply();
    g_assert_true(reply.done());
    g_assert_cmpuint(parse_block_status_reply(reply.data, reply.header.type)->context_id, ==, 1);
    ask(4096, {1, 0});
    g_assert_false(peer.reply().done());
    g_assert_true(peer.reply().done());
    ask(4096, {});
    g_assert_cmpuint(peer.final_error(), ==, 0);
    for (std::vector<uint32_t> bad : {std::vector<uint32_t>{1, 1}, {7}, {0, 1, 0}, std::vector<uint32_t>(1000)}) {
        ask(4096, bad);
        g_assert_cmpuint(peer.final_error(), ==, kEInval);
    }
    for (uint64_t length : {uint64_t{0}, kSize + 1, ~uint64_t{0}}) {
        ask(length, {0});
        g_assert_cmpuint(peer.final_error(), ==, kEInval);
    }
    ask(1, {0}, ~0ull);
    g_assert_cmpuint(peer.final_error(), ==, kEInval);
    peer.check_usable();
}

// --- block sizes ---

void test_block_sizes() {
    NbdFixture f(NbdFixture::writable(), {}, 1 << 20, 4096);
    f.disk.holes = {{4096, 4096}, {12288, 4096}};
    NbdPeer careless(*f.server), careful(*f.server);
    careless.go("disk", HeaderStyle::Structured, true);
    g_assert_true(careless.read(513, 1000) == f.expected(513, 1000));  // read, modified and written by us
    g_assert_cmpuint(careless.write(513, pattern(7, 1)), ==, 0);
    g_assert_true(f.expected(513, 7) == pattern(7, 1));

    careful.go("disk", HeaderStyle::Structured, true, true);
    g_assert_cmpuint(careful.command(kCmdRead, 1024, 4096), ==, kEInval);
    g_assert_cmpuint(careful.command(kCmdRead, 4096, 1024), ==, kEInval);
    g_assert_cmpuint(careful.write((1 << 20) - 4096, pattern(4096, 2)), ==, 0);
}

// The last KiB must be within reach: the minimum is no more than that. (For reading: it cannot be written.)
void test_block_sizes_at_the_end() {
    NbdExportOptions options = NbdFixture::writable();
    options.writable = false;
    NbdFixture f(options, {}, (1 << 20) + 1024, 4096);
    f.disk.holes = {{4096, 4096}, {12288, 4096}};
    NbdPeer careful(*f.server);
    careful.go("disk", HeaderStyle::Structured, true, true);
    g_assert_cmpuint(careful.command(kCmdRead, 512, 1024), ==, kEInval);
    g_assert_cmpuint(careful.command(kCmdRead, 1024, 512), ==, kEInval);
    g_assert_true(careful.read(1 << 20, 1024) == f.expected(1 << 20, 1024));
    careful.send_request({0, kCmdBlockStatus, 5, 0, 16384});
    for (const Extent& extent : extents_of(careful.reply()))
        g_assert_cmpuint(extent.length % 1024, ==, 0);
    (void)careful.reply();
}

// --- errors of the backend ---

void test_backend_errors() {
    for (HeaderStyle style : kStyles) {
        NbdFixture f;
        NbdPeer peer(*f.server);
        peer.go("disk", style, style != HeaderStyle::Simple);
        for (auto [code, error] : {std::pair{EIO, kEIo}, {ENOSPC, kENoSpc}, {EACCES, kEPerm}, {ENXIO, kEIo}}) {
            f.disk.fail_with = code;
            g_assert_cmpuint(peer.command(kCmdRead, 0, 4096), ==, error);
            g_assert_cmpuint(peer.write(0, pattern(512, 0)), ==, error);
            g_assert_cmpuint(peer.command(kCmdFlush, 0, 0), ==, error);
            g_assert_cmpuint(peer.command(kCmdWriteZeroes, 0, 4096), ==, error);
            if (style != HeaderStyle::Simple) {
                g_assert_cmpuint(peer.command(kCmdRead, 0, 512 << 10), ==, error);
                g_assert_cmpuint(peer.command(kCmdBlockStatus, 0, 4096), ==, error);
            }
            f.disk.fail_with = 0;
            g_assert_true(peer.read(0, 4096) == f.expected(0, 4096));
        }
    }
}

void test_fast_zero() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.go("disk");
    g_assert_cmpuint(peer.command(kCmdWriteZeroes, 0, 4096, kCmdFlagFastZero), ==, 0);
    f.disk.fast_zero = false;
    g_assert_cmpuint(peer.command(kCmdWriteZeroes, 0, 4096, kCmdFlagFastZero), ==, kENotSup);
    g_assert_cmpuint(peer.command(kCmdWriteZeroes, 0, 4096), ==, 0);
}

void test_errors_have_messages() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.go("disk", HeaderStyle::Structured);
    f.disk.fail_with = EIO;
    peer.send_request({0, kCmdRead, 9, 0, 4096});
    NbdPeerReply reply = peer.reply();
    g_assert_cmpuint(reply.header.cookie, ==, 9);
    g_assert_true(reply.done());
    assert_str(parse_error_payload(reply.data, reply.header.type)->message, "Input/output error");
}

// --- ends ---

void test_disc_finishes_what_is_outstanding() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.go("disk");
    f.disk.hold();
    peer.send_write(1, 0, pattern(4096, 1));
    peer.send_request({0, kCmdRead, 2, 8192, 512});
    peer.disconnect();
    g_assert_true(f.turn_until([&] { return f.disk.waiting() == 2; }));
    f.settle();
    g_assert_cmpuint(f.server->connections(), ==, 1);
    f.disk.release();
    uint64_t cookies = 0;
    for (int i = 0; i < 2; i++) {
        ByteVector header = peer.recv_exact(kSimpleReplySize);
        auto reply = parse_reply_header(header, HeaderStyle::Simple);
        g_assert_cmpuint(reply->error, ==, 0);
        cookies |= reply->cookie;
        if (reply->cookie == 2)
            peer.recv_exact(512);
    }
    g_assert_cmpuint(cookies, ==, 3);
    g_assert_true(peer.is_closed());
    g_assert_true(f.expected(0, 4096) == pattern(4096, 1));
    g_assert_true(f.turn_until([&] { return f.server->connections() == 0; }));
}

void test_half_open_peer_gets_its_replies() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.go("disk");
    f.disk.hold();
    peer.send_request({0, kCmdRead, 1, 0, 512});
    peer.shutdown(SHUT_WR);
    g_assert_true(f.turn_until([&] { return f.disk.waiting() == 1; }));
    f.settle();
    f.disk.release();
    g_assert_cmpuint(peer.reply(512).error(), ==, 0);
    g_assert_true(peer.is_closed());
}

void test_stop_answers_with_eshutdown() {
    NbdFixture f;
    NbdPeer peer(*f.server), idle(*f.server), greeting(*f.server);
    peer.go("disk", HeaderStyle::Structured);
    idle.go("disk");
    greeting.greet();
    f.disk.hold();
    peer.send_request({0, kCmdRead, 1, 0, 512});
    g_assert_true(f.turn_until([&] { return f.disk.waiting() == 1; }));
    TaskScope scope;
    auto stop = [](NbdServer& server) -> Task<void> { (void)co_await server.co_stop(); };
    scope.spawn(stop(*f.server));
    g_assert_true(idle.is_closed());
    g_assert_true(greeting.is_closed());
    peer.send_write(2, 0, pattern(4096, 2));
    NbdPeerReply refused = peer.reply();
    g_assert_cmpuint(refused.header.cookie, ==, 2);
    g_assert_cmpuint(refused.error(), ==, kEShutdown);
    g_assert_cmpuint(f.server->connections(), ==, 1);
    f.disk.release();
    NbdPeerReply done = peer.reply();
    g_assert_cmpuint(done.header.cookie, ==, 1);
    g_assert_cmpuint(done.error(), ==, 0);
    g_assert_true(peer.is_closed());
    sync_wait(*f.context, scope.join());
}

void test_stop_while_negotiating_says_so() {
    NbdFixture f;
    NbdPeer peer(*f.server);
    peer.greet();
    f.settle();
    peer.send_option(kOptList);  // arrives before the server stops
    TaskScope scope;
    auto stop = [](NbdServer& server) -> Task<void> { (void)co_await server.co_stop(); };
    scope.spawn(stop(*f.server));
    g_assert_cmpuint(peer.option_reply().header.type, ==, kRepErrShutdown);
    g_assert_true(peer.is_closed());
    sync_wait(*f.context, scope.join());
}

void test_remove_export() {
    NbdFixture f;
    f.add_export({.name = "b"});
    NbdPeer using_it(*f.server), other(*f.server), late(*f.server);
    using_it.go("b");
    other.go("disk");
    late.greet();
    g_assert_true(sync_wait(*f.context, f.server->co_remove_export("b")).has_value());
    g_assert_true(using_it.is_closed());
    g_assert_cmpuint(late.verdict(kOptGo, build_info_request("b", {})), ==, kRepErrUnknown);
    other.check_usable();
    g_assert_false(sync_wait(*f.context, f.server->co_remove_export("b")).has_value());
}

void test_client_gone() {
    NbdFixture f;
    unsigned gone = 0;
    f.server->on_client_gone([&] { gone++; });
    {
        NbdPeer haggler(*f.server);
        haggler.greet();
        g_assert_cmpuint(haggler.verdict(kOptAbort), ==, kRepAck);
    }
    g_assert_true(f.turn_until([&] { return f.server->connections() == 0; }));
    g_assert_cmpuint(gone, ==, 0);
    {
        NbdPeer client(*f.server);
        client.go("disk");
        client.disconnect();
    }
    g_assert_true(f.turn_until([&] { return f.server->connections() == 0; }));
    g_assert_cmpuint(gone, ==, 1);
}

// --- exports ---

void test_exports_that_cannot_be() {
    NbdFixture f;
    auto refusal = [&](NbdExportOptions options) {
        auto exported = f.run(NbdExport::co_create(std::move(options), *f.graph, *f.node));
        g_assert_false(exported.has_value());
        return exported.error().message;
    };
    assert_str(refusal({.name = std::string(4097, 'x')}),
               "export name 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...' is too long: 4097 bytes exceed the limit of 4096");
    assert_str(refusal({.name = "\xff"}), "export name: must be UTF-8 without NUL");
    assert_str(refusal({.name = "x", .description = std::string("a\0b", 3)}),
               "export 'x': description: must be UTF-8 without NUL, of at most 4096 bytes");
    auto second = f.run(NbdExport::co_create({.name = "disk"}, *f.graph, *f.node));
    assert_str(f.server->add_export(*second).error().message, "NBD server already has export named 'disk'");
    f.check(f.run((*second)->co_close()));
}

void test_rotational() {
    NbdFixture f;
    f.disk.rotational = true;
    f.add_export({.name = "spinning"});
    NbdPeer peer(*f.server);
    g_assert_true(peer.go("spinning").flags & kRotational);
    g_assert_false(NbdPeer(*f.server).go("disk").flags & kRotational);  // as it was when the export was made
}

// --- many ---

void test_io_threads() {
    NbdFixture f;
    auto one = *IOThread::create("one"), two = *IOThread::create("two");
    f.add_export({.name = "spread", .writable = true, .contexts = {&one->context(), &two->context()}});
    std::vector<std::unique_ptr<NbdPeer>> peers;
    for (int i = 0; i < 6; i++) {
        peers.push_back(std::make_unique<NbdPeer>(*f.server));
        peers.back()->go("spread", kStyles[i % 3]);
    }
    for (int round = 0; round < 20; round++)
        for (size_t i = 0; i < peers.size(); i++)
            g_assert_cmpuint(peers[i]->write(i * 4096, pattern(4096, round)), ==, 0);
    for (size_t i = 0; i < peers.size(); i++)
        g_assert_true(peers[i]->read(i * 4096, 4096) == pattern(4096, 19));
    peers[0]->disconnect();
    peers[1]->close();
    g_assert_true(f.turn_until([&] { return f.server->connections() == 4; }));
    g_assert_true(sync_wait(*f.context, f.server->co_stop()).has_value());
    for (size_t i = 2; i < peers.size(); i++)
        g_assert_true(peers[i]->is_closed());
}

void test_connection_cap() {
    NbdFixture f(NbdFixture::writable(), {.max_connections = 2});
    std::string path = "/tmp/ashlar-nbd-cap-" + std::to_string(getpid());
    g_assert_true(f.server->listen(UnixAddress{.path = path}).has_value());
    auto connect = [&] {
        auto to = resolve(UnixAddress{.path = path}, ResolveFor::Connect);
        UniqueFd fd(socket(AF_UNIX, SOCK_STREAM, 0));
        g_assert_cmpint(::connect(fd.get(), to->front().get(), to->front().length), ==, 0);
        return fd;
    };
    auto greeted = [&](UniqueFd& fd) {
        f.settle();
        std::byte bytes[kGreetingSize];
        return ::recv(fd.get(), bytes, sizeof bytes, MSG_DONTWAIT) == sizeof bytes;
    };
    UniqueFd a = connect(), b = connect(), c = connect();
    g_assert_true(f.turn_until([&] { return f.server->connections() == 2; }));
    g_assert_true(greeted(a) && greeted(b));
    g_assert_false(greeted(c));
    a.reset();
    g_assert_true(f.turn_until([&] { return greeted(c); }));
    g_assert_cmpuint(f.server->connections(), ==, 2);
    g_assert_true(sync_wait(*f.context, f.server->co_stop()).has_value());
    g_assert_cmpint(access(path.c_str(), F_OK), ==, -1);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/nbd/server/reads-give-what-writes-took", test_read_write);
    g_test_add_func("/nbd/server/a-file-is-read-in-pieces-of-all-sizes", test_file_reads_of_all_sizes);
    g_test_add_func("/nbd/server/a-file-that-became-shorter-reads-as-zeroes",
                    test_file_that_became_shorter_reads_as_zeroes);
    g_test_add_func("/nbd/server/clients-that-take-no-file-data-cost-no-others", test_client_that_takes_no_file_data);
    g_test_add_func("/nbd/server/commands-reach-the-disk", test_commands_reach_the_disk);
    g_test_add_func("/nbd/server/fua-is-on-stable-storage", test_fua);
    g_test_add_func("/nbd/server/empty-requests-succeed", test_empty_requests);
    g_test_add_func("/nbd/server/more-requests-than-may-be-under-way", test_pipelined_out_of_order_cookies);
    g_test_add_func("/nbd/server/pipelined-writes-are-cut-anywhere", test_pipelined_writes);
    g_test_add_func("/nbd/server/large-payloads-are-cut-anywhere", test_large_payloads);
    g_test_add_func("/nbd/server/holes-are-read-as-holes", test_sparse_read);
    g_test_add_func("/nbd/server/df-is-answered-in-one-chunk", test_df_is_one_chunk);
    g_test_add_func("/nbd/server/dense-reads-ask-for-holes-once", test_dense_reads_ask_once);
    g_test_add_func("/nbd/server/a-failed-status-is-no-failed-read", test_failed_status_is_no_failed_read);
    g_test_add_func("/nbd/server/block-status-in-both-widths", test_block_status);
    g_test_add_func("/nbd/server/block-status-is-bounded", test_block_status_is_bounded);
    g_test_add_func("/nbd/server/block-status-of-chosen-contexts", test_block_status_filter);
    g_test_add_func("/nbd/server/block-sizes-bind-those-who-asked", test_block_sizes);
    g_test_add_func("/nbd/server/block-sizes-leave-the-end-within-reach", test_block_sizes_at_the_end);
    g_test_add_func("/nbd/server/backend-errors-leave-the-connection-usable", test_backend_errors);
    g_test_add_func("/nbd/server/fast-zero-is-fast-or-ENOTSUP", test_fast_zero);
    g_test_add_func("/nbd/server/errors-have-messages", test_errors_have_messages);
    g_test_add_func("/nbd/server/disc-finishes-what-is-outstanding", test_disc_finishes_what_is_outstanding);
    g_test_add_func("/nbd/server/a-half-open-peer-gets-its-replies", test_half_open_peer_gets_its_replies);
    g_test_add_func("/nbd/server/stopping-answers-with-ESHUTDOWN", test_stop_answers_with_eshutdown);
    g_test_add_func("/nbd/server/stopping-while-negotiating-says-so", test_stop_while_negotiating_says_so);
    g_test_add_func("/nbd/server/a-removed-export-ends-its-connections-only", test_remove_export);
    g_test_add_func("/nbd/server/clients-that-were-served-are-missed", test_client_gone);
    g_test_add_func("/nbd/server/exports-that-cannot-be", test_exports_that_cannot_be);
    g_test_add_func("/nbd/server/rotational-disks-say-so", test_rotational);
    g_test_add_func("/nbd/server/connections-spread-over-iothreads", test_io_threads);
    g_test_add_func("/nbd/server/connections-beyond-the-cap-wait", test_connection_cap);
    return g_test_run();
}
