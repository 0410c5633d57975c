// The receiver of a client's connection: replies to the requests that they answer, each checked against its request.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "nbd/client_connection.h"
#include "nbd/input_buffer.h"

namespace ashlar::nbd {

namespace {

// Data of up to this many bytes in one piece come through the input buffer, with whatever follows; more is received
// where it is to stay.
constexpr size_t kCopiedPayload = 8u << 10;

// After so many replies and chunks the rest of the loop has its turn, however fast the server is.
constexpr unsigned kChunksPerTurn = 1024;

// A place in the memory of a request.
class Cursor {
public:
    Cursor(std::span<const iovec> memory, uint64_t position) : rest_(memory), skip_(position) { normalise(); }

    std::span<std::byte> piece(uint64_t most) const {
        auto* base = static_cast<std::byte*>(rest_.front().iov_base) + skip_;
        return {base, static_cast<size_t>(std::min<uint64_t>(rest_.front().iov_len - skip_, most))};
    }
    void advance(size_t bytes) {
        skip_ += bytes;
        normalise();
    }

private:
    void normalise() {
        while (!rest_.empty() && skip_ >= rest_.front().iov_len) {
            skip_ -= rest_.front().iov_len;
            rest_ = rest_.subspan(1);
        }
    }
    std::span<const iovec> rest_;
    uint64_t skip_;
};

const char* name_of(uint16_t command) {
    constexpr const char* kNames[] = {"NBD_CMD_READ", "NBD_CMD_WRITE", "NBD_CMD_DISC",         "NBD_CMD_FLUSH",
                                      "NBD_CMD_TRIM", "NBD_CMD_CACHE", "NBD_CMD_WRITE_ZEROES", "NBD_CMD_BLOCK_STATUS"};
    return kNames[command];
}

template <class... Args>
std::unexpected<Error> violation(fmt::format_string<Args...> format, Args&&... args) {
    return std::unexpected(
        fail(format, std::forward<Args>(args)...).error().prefixed("the NBD server broke the protocol"));
}

}  // namespace

std::unexpected<Error> ClientConnection::closed(int ret, const char* what) const {
    if (ret < 0)
        return fail_errno(-ret, "the connection to the NBD server is broken");
    Error error{.message = "the NBD server closed the connection", .code = ECONNRESET};
    if (what)
        error.message += fmt::format(" in the middle of {}", what);
    return std::unexpected(std::move(error));
}

Task<Result<>> ClientConnection::co_fill(size_t bytes, const char* what) {
    while (input_->size() < bytes) {
        const bool in_the_middle = what || input_->size() > 0;
        int n = co_await socket_.recv(input_->space(load_ == 0));
        if (n <= 0)
            co_return closed(n, !in_the_middle ? nullptr : what ? what : "a reply");
        input_->received(static_cast<size_t>(n));
    }
    co_return {};
}

Task<Result<>> ClientConnection::co_receive() {
    for (unsigned chunks = 1;; ++chunks) {
        if (chunks % kChunksPerTurn == 0)
            co_await co_yield_now();
        if (input_->size() < 4)
            if (auto filled = co_await co_fill(4, nullptr); !filled)
                co_return filled;
        const size_t size = reply_header_size(input_->bytes().first<4>(), style_);
        if (size == 0) {
            uint32_t magic = 0;
            for (std::byte byte : input_->bytes().first<4>())
                magic = magic << 8 | static_cast<uint32_t>(byte);
            co_return violation("a reply starts with {:#010x}, which is no magic number of this connection", magic);
        }
        if (input_->size() < size)
            if (auto filled = co_await co_fill(size, "a reply"); !filled)
                co_return filled;
        const ReplyHeader header = *parse_reply_header(input_->bytes().first(size), style_);
        input_->consume(size);

        const Slot& slot = slots_[header.cookie & 0xff];
        if (!slot.request || slot.cookie != header.cookie || slot.request->answered_)
            co_return violation("a reply has the cookie {:#x}, which no request has", header.cookie);
        ClientRequest& request = *slot.request;
        auto handled = co_await (header.simple ? co_simple_reply(request, header) : co_chunk(request, header));
        if (!handled)
            co_return handled;
    }
}

Task<Result<>> ClientConnection::co_simple_reply(ClientRequest& request, ReplyHeader header) {
    const uint16_t type = request.wire.type;
    if (header.error != 0) {
        if (request.result == 0)
            request.result = -errno_from_error(header.error);
        co_return finish(request);
    }
    if (type == kCmdBlockStatus || (type == kCmdRead && style_ != HeaderStyle::Simple))
        co_return violation("a simple reply to {}, whose reply must be structured", name_of(type));
    if (type == kCmdRead) {
        if (auto got = co_await co_data(request, 0, request.wire.length); !got)
            co_return got;
    }
    co_return finish(request);
}

Task<Result<>> ClientConnection::co_chunk(ClientRequest& request, ReplyHeader header) {
    const uint64_t length = header.payload_length;
    if (style_ == HeaderStyle::Extended && header.offset != request.wire.offset)
        co_return violation("the reply to {} at {} says that it is for {}", name_of(request.wire.type),
                            request.wire.offset, header.offset);
    const bool done = header.flags & kReplyFlagDone;
    if (header.type == kChunkOffsetData) {
        // Its data goes where it belongs, at once.
        constexpr size_t kPrefix = 8;
        if (request.wire.type != kCmdRead)
            co_return violation("data in the reply to {}", name_of(request.wire.type));
        if (length <= kPrefix || length - kPrefix > request.wire.length)
            co_return violation("a chunk of {} bytes of data in the reply to a read of {} bytes",
                                std::max<uint64_t>(length, kPrefix) - kPrefix, request.wire.length);
        if (auto filled = co_await co_fill(kPrefix, "a reply"); !filled)
            co_return filled;
        uint64_t offset = 0;
        for (std::byte byte : input_->bytes().first<kPrefix>())
            offset = offset << 8 | static_cast<uint64_t>(byte);
        input_->consume(kPrefix);
        if (auto fine = cover(request, offset, length - kPrefix, "data"); !fine)
            co_return fine;
        if (auto got = co_await co_data(request, offset - request.wire.offset, length - kPrefix); !got)
            co_return got;
    } else {
        if (length > kMaxSmallPayload)
            co_return violation("a chunk of type {} in the reply to {} has {} bytes, more than the limit of {}",
                                header.type, name_of(request.wire.type), length, kMaxSmallPayload);
        if (auto filled = co_await co_fill(length, "a reply"); !filled)
            co_return filled;
        const Bytes payload = input_->bytes().first(length);
        Result<> taken;
        if (header.type & kChunkErrorBit)
            taken = take_error(request, payload, header.type);
        else if (header.type == kChunkOffsetHole)
            taken = take_hole(request, payload);
        else if (header.type == kChunkBlockStatus || header.type == kChunkBlockStatusExt)
            taken = take_status(request, payload, header.type);
        else if (header.type != kChunkNone)
            taken =
                violation("a chunk of the unknown type {} in the reply to {}", header.type, name_of(request.wire.type));
        else if (length != 0 || !done)
            taken = violation("a chunk without content has {} bytes, or is not the last of the reply to {}", length,
                              name_of(request.wire.type));
        if (!taken)
            co_return taken;
        input_->consume(length);
    }
    if (done)
        co_return finish(request);
    co_return {};
}

Result<> ClientConnection::cover(ClientRequest& request, uint64_t offset, uint64_t length, const char* what) {
    const Request& wire = request.wire;
    if (offset < wire.offset || offset - wire.offset > wire.length || length > wire.length - (offset - wire.offset))
        return violation("{} bytes of {} at {} in the reply to a read of {} bytes at {}", length, what, offset,
                         wire.length, wire.offset);
    const uint64_t begin = offset - wire.offset;
    switch (request.coverage_.add(begin, begin + length)) {
        case ReadCoverage::Verdict::New:
            return {};
        case ReadCoverage::Verdict::Overlaps:
            return violation("{} bytes of {} at {} overlap what came before in the reply to a read", length, what,
                             offset);
        case ReadCoverage::Verdict::TooScattered:
            break;
    }
    return violation("the reply to a read of {} bytes is scattered over more than {} places", wire.length,
                     ReadCoverage::kMaxPieces);
}

Task<Result<>> ClientConnection::co_data(ClientRequest& request, uint64_t position, uint64_t length) {
    Cursor cursor(request.data, position);
    while (length > 0) {
        std::span<std::byte> piece = cursor.piece(length);
        size_t got = input_->take(piece);
        if (got == 0) {
            const bool direct = piece.size() > kCopiedPayload;
            if (direct)
                input_->bypassed();
            int n = co_await socket_.recv(direct ? piece : input_->space(false));
            if (n <= 0)
                co_return closed(n, "a reply");
            if (direct)
                got = static_cast<size_t>(n);
            else
                input_->received(static_cast<size_t>(n));
        }
        cursor.advance(got);
        length -= got;
    }
    co_return {};
}

Result<> ClientConnection::take_hole(ClientRequest& request, Bytes payload) {
    if (request.wire.type != kCmdRead)
        return violation("a hole in the reply to {}", name_of(request.wire.type));
    auto hole = parse_hole_payload(payload);
    if (!hole)
        return violation("a malformed chunk with a hole in the reply to a read");
    if (auto fine = cover(request, hole->offset, hole->length, "hole"); !fine)
        return fine;
    Cursor cursor(request.data, hole->offset - request.wire.offset);
    for (uint64_t left = hole->length; left > 0;) {
        std::span<std::byte> piece = cursor.piece(left);
        std::memset(piece.data(), 0, piece.size());
        cursor.advance(piece.size());
        left -= piece.size();
    }
    return {};
}

Result<> ClientConnection::take_status(ClientRequest& request, Bytes payload, uint16_t type) {
    if (request.wire.type != kCmdBlockStatus)
        return violation("a block status in the reply to {}", name_of(request.wire.type));
    if ((type == kChunkBlockStatusExt) != (style_ == HeaderStyle::Extended))
        return violation("a block status of type {}, which does not go with the headers of this connection", type);
    auto status = parse_block_status_reply(payload, type);
    if (!status)
        return violation("a malformed chunk of block status");
    if (status->context_id != context_id_)
        return violation("a block status of the metadata context {}, which was not selected", status->context_id);
    if (request.has_extent_)
        return violation("two block statuses of one metadata context in a reply");
    request.has_extent_ = true;
    request.extent = status->extent(0);
    return {};
}

Result<> ClientConnection::take_error(ClientRequest& request, Bytes payload, uint16_t type) {
    auto error = parse_error_payload(payload, type);
    if (!error)
        return violation("a malformed chunk with an error in the reply to {}", name_of(request.wire.type));
    if (error->message.size() > kMaxString)
        return violation("an error message of {} bytes, more than the limit of {}", error->message.size(), kMaxString);
    const Request& wire = request.wire;
    if (error->offset && (*error->offset < wire.offset || *error->offset - wire.offset >= wire.length))
        return violation("an error at {} in the reply to {} of {} bytes at {}", *error->offset, name_of(wire.type),
                         wire.length, wire.offset);
    if (++request.errors_ > kMaxErrorChunks)
        return violation("more than {} errors in the reply to {}", kMaxErrorChunks, name_of(wire.type));
    if (request.result == 0)
        request.result = -errno_from_error(error->error);
    return {};
}

// The last of a reply has come.
Result<> ClientConnection::finish(ClientRequest& request) {
    if (request.result == 0 && style_ != HeaderStyle::Simple) {
        if (request.wire.type == kCmdRead && request.coverage_.bytes() != request.wire.length)
            return violation("a successful reply to a read of {} bytes brought {}", request.wire.length,
                             request.coverage_.bytes());
        if (request.wire.type == kCmdBlockStatus && !request.has_extent_)
            return violation("a successful reply to NBD_CMD_BLOCK_STATUS without a status");
    }
    // A server may answer before it has read all of the request: its memory is then still in use.
    request.answered_ = true;
    if (!request.sending_)
        complete(request);
    return {};
}

}  // namespace ashlar::nbd
