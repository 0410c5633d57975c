#include "nbd/request.h"

#include <algorithm>

#include "util/byte_order.h"

namespace ashlar::nbd {

namespace {

// The flags that a command may carry on this connection.
uint16_t allowed_flags(const Request& request, const ExportLimits& limits) {
    uint16_t allowed = limits.flags & kSendFua ? kCmdFlagFua : 0;
    switch (request.type) {
        case kCmdRead:
            if (limits.flags & kSendDf)
                allowed |= kCmdFlagDf;
            break;
        case kCmdWrite:
            if (limits.style == HeaderStyle::Extended)
                allowed |= kCmdFlagPayloadLen;
            break;
        case kCmdWriteZeroes:
            allowed |= kCmdFlagNoHole;
            if (limits.flags & kSendFastZero)
                allowed |= kCmdFlagFastZero;
            break;
        case kCmdBlockStatus:
            allowed |= kCmdFlagReqOne;
            if (limits.flags & kBlockStatusPayload)
                allowed |= kCmdFlagPayloadLen;
            break;
    }
    return allowed;
}

bool is_write(uint16_t type) {
    return type == kCmdWrite || type == kCmdTrim || type == kCmdWriteZeroes;
}

// Range, alignment and size of the request's effect; for BLOCK_STATUS with a payload the caller put the effect length
// in place of the payload's.
Refusal validate_range(const Request& request, const ExportLimits& limits) {
    if (request.offset > limits.size || request.length > limits.size - request.offset) {
        bool writes_data = request.type == kCmdWrite || request.type == kCmdWriteZeroes;
        return {writes_data ? kENoSpc : kEInval, "the request goes past the end of the export"};
    }
    if ((request.offset | request.length) & (limits.min_block - 1))
        return {kEInval, "offset and length must be multiples of the minimum block size"};
    return {};
}

}  // namespace

std::optional<Request> parse_request(Bytes header, HeaderStyle style) {
    const std::byte* p = header.data();
    bool extended = style == HeaderStyle::Extended;
    if (load_be<uint32_t>(p) != (extended ? kExtendedRequestMagic : kRequestMagic))
        return std::nullopt;
    return Request{.flags = load_be<uint16_t>(p + 4),
                   .type = load_be<uint16_t>(p + 6),
                   .cookie = load_be<uint64_t>(p + 8),
                   .offset = load_be<uint64_t>(p + 16),
                   .length = extended ? load_be<uint64_t>(p + 24) : load_be<uint32_t>(p + 24)};
}

void build_request(std::byte* out, const Request& request, HeaderStyle style) {
    bool extended = style == HeaderStyle::Extended;
    store_be<uint32_t>(out, extended ? kExtendedRequestMagic : kRequestMagic);
    store_be<uint16_t>(out + 4, request.flags);
    store_be<uint16_t>(out + 6, request.type);
    store_be<uint64_t>(out + 8, request.cookie);
    store_be<uint64_t>(out + 16, request.offset);
    if (extended)
        store_be<uint64_t>(out + 24, request.length);
    else
        store_be<uint32_t>(out + 24, static_cast<uint32_t>(request.length));
}

Refusal validate(const Request& request, const ExportLimits& limits) {
    if (request.type > kCmdBlockStatus)
        return {kEInval, "unknown command"};
    if (request.flags & ~allowed_flags(request, limits))
        return {kEInval, "a command flag is unknown or not valid here"};
    bool extended = limits.style == HeaderStyle::Extended;
    switch (request.type) {
        case kCmdDisc:
            return {};
        case kCmdFlush:
            if (request.offset != 0 || request.length != 0)
                return {kEInval, "offset and length of a flush must be 0"};
            return {};
        case kCmdWrite:
            if (extended && !(request.flags & kCmdFlagPayloadLen))
                return {kEInval, "a write needs NBD_CMD_FLAG_PAYLOAD_LEN with extended headers"};
            break;
        case kCmdBlockStatus:
            if (!limits.has_meta_contexts)
                return {kEInval, "no metadata context was negotiated for this export"};
            if (request.length == 0)
                return {kEInval, "a block status request must not be empty"};
            break;
    }
    if (is_write(request.type) && (limits.flags & kReadOnly))
        return {kEPerm, "the export is read-only"};
    if (request.type == kCmdBlockStatus && (request.flags & kCmdFlagPayloadLen))
        return {};  // the length is the payload's: validated again when the effect length is known
    if (request.type == kCmdWrite && request.length > limits.max_payload)
        return {kEInval, "the payload exceeds the maximum block size"};
    if (auto refusal = validate_range(request, limits))
        return refusal;
    if (request.type == kCmdRead && request.length > limits.max_payload)
        return {request.flags & kCmdFlagDf ? kEOverflow : kEInval, "the read exceeds the maximum block size"};
    return {};
}

std::optional<BlockStatusFilter> parse_block_status_payload(Bytes payload, std::span<const uint32_t> known) {
    if (payload.size() < kBlockStatusPayloadMin || (payload.size() - kBlockStatusPayloadMin) % sizeof(uint32_t) != 0)
        return std::nullopt;
    size_t count = (payload.size() - kBlockStatusPayloadMin) / sizeof(uint32_t);
    if (count > known.size())  // one would stand twice
        return std::nullopt;
    BlockStatusFilter filter{load_be<uint64_t>(payload.data()), {}};
    for (size_t i = 0; i < count; i++) {
        auto id = load_be<uint32_t>(payload.data() + kBlockStatusPayloadMin + i * sizeof(uint32_t));
        if (std::ranges::find(known, id) == known.end() || std::ranges::find(filter.ids, id) != filter.ids.end())
            return std::nullopt;
        filter.ids.push_back(id);
    }
    return filter;
}

}  // namespace ashlar::nbd
