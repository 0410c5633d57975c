// NbdPeer: the client's end of a connection to a server in the same thread, for tests that must be able to misbehave.
//
// Every wait turns the server's AioContext, so that a test reads as a script; one that waits too long fails.
#pragma once

#include <glib.h>
#include <sys/socket.h>

#include <optional>
#include <string>
#include <vector>

#include "nbd/handshake.h"
#include "nbd/reply.h"
#include "nbd/request.h"
#include "nbd/server.h"
#include "util/byte_order.h"
#include "util/timer.h"
#include "util/unique_fd.h"

namespace ashlar {

using ByteVector = std::vector<std::byte>;

inline ByteVector bytes_of(std::string_view text) {
    auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

// Turns the loop until `done()`; false if that takes longer than a generous while.
template <class Done>
bool turn_until(AioContext& context, Done done, int64_t limit_ns = 10'000'000'000) {
    for (int64_t end = now_ns() + limit_ns; !done();) {
        if (now_ns() > end)
            return false;
        context.poll(false);
    }
    return true;
}

struct NbdPeerOption {
    nbd::OptionReplyHeader header;
    ByteVector data;
};

struct NbdPeerReply {
    nbd::ReplyHeader header;
    ByteVector data;  // of a chunk: its payload; of a successful simple reply to READ: what was read

    uint32_t error() const {
        if (header.simple)
            return header.error;
        auto payload = header.type & nbd::kChunkErrorBit ? nbd::parse_error_payload(data, header.type) : std::nullopt;
        return payload ? payload->error : 0;
    }
    bool done() const { return header.simple || (header.flags & nbd::kReplyFlagDone); }
};

class NbdPeer {
public:
    explicit NbdPeer(NbdServer& server) : context_(server.home()) {
        int pair[2];
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
        fd_.reset(pair[0]);
        server.add_connection(UniqueFd(pair[1]));
    }

    // --- bytes ---
    void send(std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
            if (n < 0 && errno == EAGAIN) {
                context_.poll(false);
                continue;
            }
            g_assert_cmpint(n, >, 0);
            bytes = bytes.subspan(static_cast<size_t>(n));
        }
    }
    // Like send, but the server may close meanwhile; then false.
    bool try_send(std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN)
                return false;
            if (n < 0)
                context_.poll(false);
            else
                bytes = bytes.subspan(static_cast<size_t>(n));
        }
        return true;
    }
    // Fewer than `size` if the server closes first.
    ByteVector recv(size_t size) {
        ByteVector bytes(size);
        size_t got = 0;
        bool in_time = turn_until(context_, [&] {
            while (got < size) {
                ssize_t n = ::recv(fd_.get(), bytes.data() + got, size - got, MSG_DONTWAIT);
                if (n <= 0)
                    return n == 0 || errno != EAGAIN;
                got += static_cast<size_t>(n);
            }
            return true;
        });
        g_assert_true(in_time);
        bytes.resize(got);
        return bytes;
    }
    ByteVector recv_exact(size_t size) {
        ByteVector bytes = recv(size);
        g_assert_cmpuint(bytes.size(), ==, size);
        return bytes;
    }
    bool is_closed() { return recv(1).empty(); }
    void shutdown(int how) { ::shutdown(fd_.get(), how); }
    void close() { fd_.reset(); }
    int fd() const { return fd_.get(); }

    // --- handshake ---
    void greet(uint32_t flags = nbd::kClientFixedNewstyle | nbd::kClientNoZeroes) {
        g_assert_cmpuint(recv_exact(nbd::kGreetingSize).size(), ==, nbd::kGreetingSize);
        std::byte bytes[4];
        store_be<uint32_t>(bytes, flags);
        send(bytes);
    }
    void send_option(uint32_t option, std::span<const std::byte> data = {}) {
        ByteVector out;
        nbd::append_option(out, option, data);
        send(out);
    }
    NbdPeerOption option_reply() {
        ByteVector header = recv_exact(nbd::kOptionReplyHeaderSize);
        auto parsed = nbd::parse_option_reply_header(std::span(header).first<nbd::kOptionReplyHeaderSize>());
        g_assert_true(parsed.has_value());
        return {*parsed, recv_exact(parsed->length)};
    }
    // All replies to an option; the last is ACK or an error.
    std::vector<NbdPeerOption> ask(uint32_t option, std::span<const std::byte> data = {}) {
        send_option(option, data);
        std::vector<NbdPeerOption> replies;
        do {
            replies.push_back(option_reply());
            g_assert_cmpuint(replies.back().header.option, ==, option);
        } while (replies.back().header.type != nbd::kRepAck && !replies.back().header.is_error());
        return replies;
    }
    uint32_t verdict(uint32_t option, std::span<const std::byte> data = {}) {
        return ask(option, data).back().header.type;
    }
    // Which contexts were selected.
    std::vector<std::string> contexts(uint32_t option, std::string_view name, std::vector<std::string> queries) {
        std::vector<std::string> names;
        for (const auto& reply : ask(option, nbd::build_meta_context_request(name, queries))) {
            if (reply.header.type == nbd::kRepMetaContext)
                names.emplace_back(nbd::parse_meta_context_reply(reply.data)->name);
        }
        return names;
    }
    // Into the transmission phase; `style` is negotiated first.
    nbd::ExportInfo go(std::string_view name, nbd::HeaderStyle style = nbd::HeaderStyle::Simple,
                       bool all_contexts = false, bool block_sizes = false) {
        greet();
        if (style != nbd::HeaderStyle::Simple)
            g_assert_cmpuint(
                verdict(style == nbd::HeaderStyle::Extended ? nbd::kOptExtendedHeaders : nbd::kOptStructuredReply), ==,
                nbd::kRepAck);
        if (all_contexts)
            contexts(nbd::kOptSetMetaContext, name, {"base:allocation", "qemu:allocation-depth"});
        return enter(name, style, block_sizes);
    }
    nbd::ExportInfo enter(std::string_view name, nbd::HeaderStyle style, bool block_sizes = false) {
        uint16_t wanted[] = {nbd::kInfoBlockSize};
        style_ = style;
        nbd::ExportInfo info;
        auto replies = ask(nbd::kOptGo, nbd::build_info_request(name, block_sizes ? wanted : std::span<uint16_t>()));
        g_assert_cmpuint(replies.back().header.type, ==, nbd::kRepAck);
        for (const auto& reply : replies)
            if (reply.header.type == nbd::kRepInfo)
                if (auto parsed = nbd::parse_info_reply(reply.data); parsed->type == nbd::kInfoExport)
                    info = parsed->export_info;
        return info;
    }

    // --- transmission ---
    ByteVector request_bytes(const nbd::Request& request, std::span<const std::byte> payload = {}) const {
        ByteVector out(nbd::request_header_size(style_));
        nbd::build_request(out.data(), request, style_);
        out.insert(out.end(), payload.begin(), payload.end());
        return out;
    }
    void send_request(nbd::Request request, std::span<const std::byte> payload = {}) {
        send(request_bytes(request, payload));
    }
    void send_write(uint64_t cookie, uint64_t offset, std::span<const std::byte> data, uint16_t flags = 0) {
        if (style_ == nbd::HeaderStyle::Extended)
            flags |= nbd::kCmdFlagPayloadLen;
        send_request({flags, nbd::kCmdWrite, cookie, offset, data.size()}, data);
    }
    // One reply or chunk; `read_length` is what a successful simple reply brings.
    NbdPeerReply reply(size_t read_length = 0) {
        ByteVector bytes = recv_exact(4);
        size_t size = nbd::reply_header_size(std::span(bytes).first<4>(), style_);
        g_assert_cmpuint(size, !=, 0);
        ByteVector rest = recv_exact(size - 4);
        bytes.insert(bytes.end(), rest.begin(), rest.end());
        NbdPeerReply reply{*nbd::parse_reply_header(bytes, style_), {}};
        if (!reply.header.simple)
            reply.data = recv_exact(reply.header.payload_length);
        else if (reply.header.error == 0)
            reply.data = recv_exact(read_length);
        return reply;
    }
    // Sends a request and waits for its end: the error.
    uint32_t command(uint16_t type, uint64_t offset, uint64_t length, uint16_t flags = 0) {
        send_request({flags, type, 77, offset, length});
        return final_error();
    }
    uint32_t write(uint64_t offset, std::span<const std::byte> data, uint16_t flags = 0) {
        send_write(77, offset, data, flags);
        return final_error();
    }
    uint32_t final_error() {
        for (;;) {
            NbdPeerReply one = reply();
            g_assert_cmpuint(one.header.cookie, ==, 77);
            if (one.error() || one.done())
                return one.error();
        }
    }
    // What a read gives; fails the test on an error.
    ByteVector read(uint64_t offset, uint64_t length, uint16_t flags = 0) {
        send_request({flags, nbd::kCmdRead, 78, offset, length});
        ByteVector result(length);
        for (;;) {
            NbdPeerReply one = reply(length);
            g_assert_cmpuint(one.error(), ==, 0);
            if (one.header.simple)
                return one.data;
            if (one.header.type == nbd::kChunkOffsetData)
                std::copy(one.data.begin() + 8, one.data.end(),
                          result.begin() + static_cast<ptrdiff_t>(load_be<uint64_t>(one.data.data()) - offset));
            if (one.done())
                return result;
        }
    }
    // The connection still works.
    void check_usable() { g_assert_cmpuint(command(nbd::kCmdFlush, 0, 0), ==, 0); }
    void disconnect() { send_request({0, nbd::kCmdDisc, 0, 0, 0}); }

    nbd::HeaderStyle style() const { return style_; }
    void set_style(nbd::HeaderStyle style) { style_ = style; }

private:
    AioContext& context_;
    UniqueFd fd_;
    nbd::HeaderStyle style_ = nbd::HeaderStyle::Simple;
};

}  // namespace ashlar
