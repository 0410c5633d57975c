// Requests of the transmission phase: parsing, validation and building.
//
// Pure functions. parse_request reads a header; payload_length says how many bytes follow it on the wire, whatever the
// request's fate; validate says which error a request gets in place of being carried out. They agree with each other: a
// request whose payload is to be refused is drained, never misread as the next header.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "nbd/protocol.h"

namespace ashlar::nbd {

inline constexpr size_t kCompactRequestSize = 28;
inline constexpr size_t kExtendedRequestSize = 32;

struct Request {
    uint16_t flags = 0;
    uint16_t type = 0;
    uint64_t cookie = 0;
    uint64_t offset = 0;
    uint64_t length = 0;
    bool operator==(const Request&) const = default;
};

[[nodiscard]] constexpr size_t request_header_size(HeaderStyle style) {
    return style == HeaderStyle::Extended ? kExtendedRequestSize : kCompactRequestSize;
}

// `header` has request_header_size(style) bytes. nullopt: wrong magic, the connection cannot go on.
[[nodiscard]] std::optional<Request> parse_request(Bytes header, HeaderStyle style);
// Writes request_header_size(style) bytes; a compact header cannot hold a length of more than 32 bits.
void build_request(std::byte* out, const Request& request, HeaderStyle style);

[[nodiscard]] constexpr uint64_t payload_length(const Request& request, HeaderStyle style) {
    bool has_payload = style == HeaderStyle::Extended ? (request.flags & kCmdFlagPayloadLen) != 0  //
                                                      : request.type == kCmdWrite;
    return has_payload ? request.length : 0;
}

// What validation needs to know of the connection and its export.
struct ExportLimits {
    uint64_t size = 0;
    uint16_t flags = kHasFlags;  // transmission flags as sent to this client
    uint32_t min_block = 1;      // a power of two; what this client agreed to, else 1
    uint32_t max_payload = kMaxPayload;
    HeaderStyle style = HeaderStyle::Simple;
    bool has_meta_contexts = false;
};

struct Refusal {
    ErrorValue error = kSuccess;    // kSuccess: the request may be carried out
    const char* message = nullptr;  // for the client's user
    explicit operator bool() const { return error != kSuccess; }
};
[[nodiscard]] Refusal validate(const Request& request, const ExportLimits& limits);

// BLOCK_STATUS with a payload (extended headers only): the effect length and the contexts that the answer is to cover.
inline constexpr size_t kBlockStatusPayloadMin = 8;
struct BlockStatusFilter {
    uint64_t effect_length = 0;
    std::vector<uint32_t> ids;
};
// nullopt: the length is not 8 + 4n, or an id is not among `known` or stands twice.
[[nodiscard]] std::optional<BlockStatusFilter> parse_block_status_payload(Bytes payload,
                                                                          std::span<const uint32_t> known);

}  // namespace ashlar::nbd
