// ScriptServer: an NBD server on a Unix socket, in the test's own loop, whose every answer is the test's to decide.
#pragma once

#include <glib.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nbd/handshake.h"
#include "nbd/reply.h"
#include "nbd/request.h"
#include "tests/unit/temp_dir.h"
#include "util/byte_order.h"
#include "util/socket.h"
#include "util/socket_address.h"
#include "util/sync_wait.h"
#include "util/task_scope.h"

namespace ashlar {

using ByteVector = std::vector<std::byte>;

inline ByteVector filled(size_t size, uint8_t value) {
    return ByteVector(size, std::byte{value});
}
inline ByteVector operator+(ByteVector a, const ByteVector& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

// What a test's server says; each returns bytes.
struct Say {
    nbd::Reply reply;

    ByteVector simple(uint32_t error = 0) const {
        ByteVector out(nbd::kSimpleReplySize);
        (void)nbd::build_simple_reply(out.data(), reply.cookie, error);
        return out;
    }
    ByteVector chunk(uint16_t flags, uint16_t type, const ByteVector& payload,
                     std::optional<uint64_t> length = {}) const {
        ByteVector out(nbd::kMaxChunkHeader);
        out.resize(nbd::build_chunk_header(out.data(), reply, flags, type, length.value_or(payload.size())));
        return out + payload;
    }
    ByteVector none() const { return chunk(nbd::kReplyFlagDone, nbd::kChunkNone, {}); }
    ByteVector data(uint64_t offset, const ByteVector& bytes, uint16_t flags = nbd::kReplyFlagDone) const {
        return chunk(flags, nbd::kChunkOffsetData, number64(offset) + bytes);
    }
    ByteVector hole(uint64_t offset, uint32_t length, uint16_t flags = nbd::kReplyFlagDone) const {
        return chunk(flags, nbd::kChunkOffsetHole, number64(offset) + number32(length));
    }
    ByteVector error(uint32_t error, std::string_view message, uint16_t flags = nbd::kReplyFlagDone,
                     std::optional<uint16_t> length = {}) const {
        ByteVector payload = number32(error);
        payload.resize(6);
        store_be<uint16_t>(payload.data() + 4, length.value_or(static_cast<uint16_t>(message.size())));
        auto text = std::as_bytes(std::span(message));
        payload.insert(payload.end(), text.begin(), text.end());
        return chunk(flags, nbd::kChunkError, payload);
    }
    ByteVector status(uint32_t context, const std::vector<nbd::Extent>& extents,
                      uint16_t flags = nbd::kReplyFlagDone) const {
        ByteVector out(nbd::block_status_size(reply.style, extents.size()));
        (void)nbd::build_block_status(out.data(), reply, flags, context, extents);
        return out;
    }

    static ByteVector number32(uint32_t value) {
        ByteVector out(4);
        store_be<uint32_t>(out.data(), value);
        return out;
    }
    static ByteVector number64(uint64_t value) {
        ByteVector out(8);
        store_be<uint64_t>(out.data(), value);
        return out;
    }
};

class ScriptServer {
public:
    // What it is; read at each connection.
    nbd::HeaderStyle style = nbd::HeaderStyle::Structured;  // the best it knows
    nbd::ExportInfo info{1 << 20, nbd::kHasFlags | nbd::kSendFlush | nbd::kSendFua | nbd::kSendTrim |
                                      nbd::kSendWriteZeroes | nbd::kSendFastZero | nbd::kSendCache};
    std::optional<nbd::BlockSizes> sizes;
    uint32_t context_id = 7;
    std::string context = "base:allocation";  // that it offers
    bool silent = false;                      // in the handshake

    // What to send for a request; nullopt: hang up.
    using Answer = std::function<std::optional<ByteVector>(const nbd::Request&, const Say&)>;
    Answer answer;

    // What has happened.
    unsigned accepted = 0, finished = 0, disconnects = 0;
    std::vector<nbd::Request> requests;

    explicit ScriptServer(AioContext& context) : context_(context) { start(); }
    ~ScriptServer() { stop(); }

    SocketAddress address() const { return UnixAddress{.path = path()}; }
    std::string path() const { return dir_.file("socket"); }

    void start() {
        auto listeners = listen_on(address());
        g_assert_true(listeners.has_value());
        listener_ = std::make_unique<Socket>(std::move(listeners->front()));
        scope_.spawn_on(context_, co_accept());
    }
    // Nobody listens any more, and all connections are cut.
    void stop() {
        if (!listener_)
            return;
        sync_wait(context_, co_stop());
        listener_.reset();
        unlink(path().c_str());
    }
    Task<void> co_stop() {
        listener_->cancel();
        hang_up();
        co_await scope_.join();
    }
    void hang_up() {
        for (Socket* socket : sockets_)
            socket->shutdown();
    }

private:
    Task<void> co_accept() {
        for (;;) {
            int fd = co_await listener_->accept();
            if (fd < 0)
                co_return;
            ++accepted;
            scope_.spawn(co_serve(UniqueFd(fd)));
        }
    }

    Task<void> co_serve(UniqueFd fd) {
        Socket socket(std::move(fd));
        sockets_.push_back(&socket);
        co_await co_converse(socket);
        std::erase(sockets_, &socket);
        ++finished;
    }

    static Task<bool> co_say(Socket& socket, ByteVector bytes) {
        iovec iov{bytes.data(), bytes.size()};
        co_return co_await socket.send_all(std::span(&iov, 1)) == 0;
    }

    Task<void> co_converse(Socket& socket) {
        auto greeting = nbd::build_greeting(nbd::kFlagFixedNewstyle | nbd::kFlagNoZeroes);
        std::byte flags[nbd::kClientFlagsSize];
        if (silent) {
            (void)co_await socket.recv_exact(flags);
            co_return;
        }
        if (!co_await co_say(socket, {greeting.begin(), greeting.end()}) || co_await socket.recv_exact(flags) <= 0)
            co_return;
        nbd::HeaderStyle chosen = nbd::HeaderStyle::Simple;
        for (bool going = false; !going;) {
            std::array<std::byte, nbd::kOptionHeaderSize> bytes;
            if (co_await socket.recv_exact(bytes) <= 0)
                co_return;
            auto header = nbd::parse_option_header(bytes);
            g_assert_true(header.has_value());
            ByteVector data(header->length), out;
            if (header->length > 0 && co_await socket.recv_exact(data) <= 0)
                co_return;
            const uint32_t option = header->option;
            uint32_t verdict = nbd::kRepAck;
            if (option == nbd::kOptExtendedHeaders && style == nbd::HeaderStyle::Extended) {
                chosen = style;
            } else if (option == nbd::kOptStructuredReply && style != nbd::HeaderStyle::Simple) {
                chosen = nbd::HeaderStyle::Structured;
            } else if (option == nbd::kOptSetMetaContext) {
                auto asked = nbd::parse_meta_context_request(data);
                for (std::string_view query : asked->queries)
                    if (query == context)
                        nbd::append_meta_context_reply(out, option, context_id, context);
            } else if (option == nbd::kOptGo) {
                nbd::append_info_export(out, option, info);
                if (sizes)
                    nbd::append_info_block_size(out, option, *sizes);
                going = true;
            } else {
                verdict = nbd::kRepErrUnsup;
            }
            nbd::append_option_reply(out, option, verdict);
            if (!co_await co_say(socket, std::move(out)))
                co_return;
        }
        for (;;) {
            ByteVector header(nbd::request_header_size(chosen));
            if (co_await socket.recv_exact(header) <= 0)
                co_return;
            auto request = nbd::parse_request(header, chosen);
            g_assert_true(request.has_value());
            if (request->type == nbd::kCmdDisc) {
                ++disconnects;
                co_return;
            }
            ByteVector payload(nbd::payload_length(*request, chosen));
            if (!payload.empty() && co_await socket.recv_exact(payload) <= 0)
                co_return;
            requests.push_back(*request);
            auto says = answer(*request, Say{{chosen, request->cookie, request->offset}});
            if (!says || (!says->empty() && !co_await co_say(socket, std::move(*says))))
                co_return;
        }
    }

    AioContext& context_;
    TempDir dir_;
    std::unique_ptr<Socket> listener_;
    std::vector<Socket*> sockets_;
    TaskScope scope_;
};

}  // namespace ashlar
