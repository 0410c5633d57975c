// Sparse reads: holes of the export go out as holes.
//
// Asking where the holes are costs a call of the backend for each request, so it is asked only where it can pay: for
// reads large enough that a hole saves more than the question costs, of a backend that can have holes, by a client that
// can be told (structured replies, no DF). The answer "this is data" is asked for far beyond the request and kept, so
// that a sequential reader of a dense export asks once in kLookAhead bytes. "This is a hole" is never kept: a write may
// fill it.
#include <algorithm>
#include <cerrno>

#include "nbd/transmission.h"

namespace ashlar::nbd {

namespace {

constexpr uint64_t kMinSparseRead = 64u << 10;
constexpr uint64_t kMinHole = 4096;  // a smaller one is sent as data: a chunk's header, and what it makes of the read
constexpr uint64_t kLookAhead = 64u << 20;
constexpr size_t kMaxPieces = 64;  // of one read; the rest of it is data

}  // namespace

bool Transmission::may_be_sparse(const ServerRequest& request) const {
    const Request& wire = request.wire;
    if (wire.length < kMinSparseRead || limits_.style == HeaderStyle::Simple || (wire.flags & kCmdFlagDf))
        return false;
    if (wire.offset >= known_data_begin_ && wire.offset + wire.length <= known_data_end_)
        return false;
    return backend_.may_have_holes();
}

// Cuts the range into pieces of data and of zeroes, in order; 0 or a negative errno.
Task<int> Transmission::co_find_pieces(uint64_t offset, uint64_t length, std::vector<Piece>& pieces) {
    uint64_t end = offset + length;
    while (offset < end) {
        if (pieces.size() == kMaxPieces) {
            pieces.push_back({offset, end - offset, false});
            break;
        }
        uint64_t ask = std::min(std::max(end - offset, kLookAhead), limits_.size - offset);
        BlockStatus status =
            co_await backend_.co_block_status_above(static_cast<int64_t>(offset), static_cast<int64_t>(ask));
        if (status.ret < 0 || status.bytes <= 0)
            co_return -EIO;  // whichever: the read itself will tell
        auto found = static_cast<uint64_t>(status.bytes);
        Piece piece{offset, std::min(found, end - offset), status.has(BlockStatus::Zero)};
        if (!piece.zero) {
            known_data_begin_ = offset;
            known_data_end_ = offset + found;
        } else if (piece.length < kMinHole) {
            piece.zero = false;
        }
        if (!pieces.empty() && pieces.back().zero == piece.zero)
            pieces.back().length += piece.length;
        else
            pieces.push_back(piece);
        offset += piece.length;
    }
    co_return 0;
}

Task<void> Transmission::co_sparse_read(ServerRequest& request) {
    std::vector<Piece> pieces;
    int ret = co_await co_find_pieces(request.wire.offset, request.wire.length, pieces);
    if (ret < 0 || (pieces.size() == 1 && !pieces.front().zero)) {
        submit_read(request);  // a status that cannot be had is no reason not to read
        co_return;
    }
    uint64_t data = 0;
    for (const Piece& piece : pieces)
        data += piece.zero ? 0 : piece.length;
    if (data > 0 && !request.allocate(data)) {
        refuse(request, kENoMem, "there is no memory for the data");
        co_return;
    }
    std::byte* to = request.data.data();
    for (const Piece& piece : pieces) {
        if (piece.zero)
            continue;
        iovec iov{to, piece.length};
        ret = co_await backend_.co_preadv(static_cast<int64_t>(piece.offset), static_cast<int64_t>(piece.length),
                                          IoVector(iov));
        if (ret < 0) {
            finish(request, ret);
            co_return;
        }
        to += piece.length;
    }
    send_pieces(request, pieces);
}

void Transmission::send_pieces(ServerRequest& request, std::span<const Piece> pieces) {
    request.chunks = std::make_unique<ChunkedReply>();
    auto& [headers, iov] = *request.chunks;
    headers.resize(pieces.size() * std::max(kMaxDataHeader, kMaxHoleChunk));
    Reply reply = request.reply(limits_.style);
    std::byte* header = headers.data();
    std::byte* data = request.data.data();
    for (size_t i = 0; i < pieces.size(); i++) {
        const Piece& piece = pieces[i];
        uint16_t flags = i + 1 == pieces.size() ? kReplyFlagDone : 0;
        auto length = static_cast<uint32_t>(piece.length);
        size_t size = piece.zero ? build_hole(header, reply, flags, piece.offset, length)
                                 : build_data_header(header, reply, flags, piece.offset, length);
        iov.push_back({header, size});
        header += size;
        if (!piece.zero) {
            iov.push_back({data, piece.length});
            data += piece.length;
        }
    }
    queue_.push(request);
}

}  // namespace ashlar::nbd
