// Replies of the transmission phase: builders for the server, parsers for the client.
//
// Pure functions over caller-owned bytes. A builder writes the header and the fixed fields of one reply or chunk and
// returns how many bytes that was; bulk data (read payloads) is not copied but gathered behind them. Which of the three
// header styles is written follows from the Reply given.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "nbd/protocol.h"

namespace ashlar::nbd {

inline constexpr size_t kSimpleReplySize = 16;
inline constexpr size_t kStructuredChunkSize = 20;
inline constexpr size_t kExtendedChunkSize = 32;
inline constexpr size_t kMaxChunkHeader = kExtendedChunkSize;
inline constexpr size_t kMaxDataHeader = kMaxChunkHeader + 8;
inline constexpr size_t kMaxHoleChunk = kMaxChunkHeader + 12;

// What every reply to one request repeats.
struct Reply {
    HeaderStyle style = HeaderStyle::Simple;
    uint64_t cookie = 0;
    uint64_t offset = 0;  // the request's
};

[[nodiscard]] size_t build_simple_reply(std::byte* out, uint64_t cookie, uint32_t error);
[[nodiscard]] size_t build_chunk_header(std::byte* out, const Reply& reply, uint16_t flags, uint16_t type,
                                        uint64_t payload_length);

// Success without payload: a simple reply, or in the extended style a final chunk of type NONE. (In the structured
// style a simple reply is allowed for every command but READ, and shorter; `is_read` says which it is.)
[[nodiscard]] size_t build_success(std::byte* out, const Reply& reply, bool is_read);

// The header of `length` bytes of read data at `offset`, which follow on the wire: a successful simple reply, or a
// chunk OFFSET_DATA. In the simple style `flags` has no meaning and the data is all that was asked for.
[[nodiscard]] size_t build_data_header(std::byte* out, const Reply& reply, uint16_t flags, uint64_t offset,
                                       uint32_t length);
// A chunk OFFSET_HOLE; not for the simple style.
[[nodiscard]] size_t build_hole(std::byte* out, const Reply& reply, uint16_t flags, uint64_t offset, uint32_t length);

// The final reply to a failed request: an error chunk with the message, cut at kMaxErrorMessage bytes; in the simple
// style a simple reply.
inline constexpr size_t kMaxErrorMessage = 88;
inline constexpr size_t kMaxErrorReply = kMaxChunkHeader + 6 + kMaxErrorMessage;
[[nodiscard]] size_t build_error(std::byte* out, const Reply& reply, uint32_t error, std::string_view message);
// The same as an ERROR_OFFSET chunk: `where` lies within the request. Not for the simple style.
inline constexpr size_t kMaxErrorOffsetReply = kMaxErrorReply + 8;
[[nodiscard]] size_t build_error_offset(std::byte* out, const Reply& reply, uint16_t flags, uint32_t error,
                                        std::string_view message, uint64_t where);

// A status chunk: BLOCK_STATUS in the structured style, BLOCK_STATUS_EXT in the extended one.
struct Extent {
    uint64_t length = 0;  // not 0; in the structured style below 2^32
    uint32_t status = 0;
    bool operator==(const Extent&) const = default;
};
[[nodiscard]] size_t block_status_size(HeaderStyle style, size_t extents);
[[nodiscard]] size_t build_block_status(std::byte* out, const Reply& reply, uint16_t flags, uint32_t context_id,
                                        std::span<const Extent> extents);

// The NBD error for a positive errno. EOVERFLOW and ENOTSUP have no general meaning in the protocol and become EINVAL;
// `fast_zero` is the one case in which ENOTSUP may be said.
[[nodiscard]] ErrorValue error_from_errno(int code, bool fast_zero = false);
// A positive errno for an error from the wire; an unknown one is EINVAL.
[[nodiscard]] int errno_from_error(uint32_t error);

// The client's side.
struct ReplyHeader {
    uint32_t error = 0;  // simple replies
    uint16_t flags = 0;  // chunks
    uint16_t type = 0;   // chunks
    uint64_t cookie = 0;
    uint64_t offset = 0;          // extended chunks
    uint64_t payload_length = 0;  // chunks
    bool simple = false;
};
// How long the header that starts with these 4 bytes is; 0: not a reply of this style.
[[nodiscard]] size_t reply_header_size(std::span<const std::byte, 4> magic, HeaderStyle style);
// `header` has reply_header_size bytes.
[[nodiscard]] std::optional<ReplyHeader> parse_reply_header(Bytes header, HeaderStyle style);

struct ErrorPayload {
    uint32_t error = 0;
    std::string_view message;
    std::optional<uint64_t> offset;  // ERROR_OFFSET
};
[[nodiscard]] std::optional<ErrorPayload> parse_error_payload(Bytes payload, uint16_t type);

struct HolePayload {
    uint64_t offset = 0;
    uint32_t length = 0;
};
[[nodiscard]] std::optional<HolePayload> parse_hole_payload(Bytes payload);

struct BlockStatusReply {
    uint32_t context_id = 0;
    size_t count = 0;
    Bytes descriptors;
    bool extended = false;
    [[nodiscard]] Extent extent(size_t index) const;
};
// nullopt: a malformed payload or an extent of length 0.
[[nodiscard]] std::optional<BlockStatusReply> parse_block_status_reply(Bytes payload, uint16_t type);

}  // namespace ashlar::nbd
