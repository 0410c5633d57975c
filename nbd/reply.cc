#include "nbd/reply.h"

#include <cassert>
#include <cerrno>
#include <cstring>

#include "util/byte_order.h"

namespace ashlar::nbd {

namespace {

constexpr size_t kStatusPrefix = 4, kStatusDescriptor = 8;
constexpr size_t kStatusExtPrefix = 8, kStatusExtDescriptor = 16;

size_t put_error_fields(std::byte* out, uint32_t error, std::string_view message) {
    store_be<uint32_t>(out, error);
    store_be<uint16_t>(out + 4, static_cast<uint16_t>(message.size()));
    std::memcpy(out + 6, message.data(), message.size());
    return 6 + message.size();
}

}  // namespace

size_t build_simple_reply(std::byte* out, uint64_t cookie, uint32_t error) {
    store_be<uint32_t>(out, kSimpleReplyMagic);
    store_be<uint32_t>(out + 4, error);
    store_be<uint64_t>(out + 8, cookie);
    return kSimpleReplySize;
}

size_t build_chunk_header(std::byte* out, const Reply& reply, uint16_t flags, uint16_t type, uint64_t payload_length) {
    bool extended = reply.style == HeaderStyle::Extended;
    store_be<uint32_t>(out, extended ? kExtendedReplyMagic : kStructuredReplyMagic);
    store_be<uint16_t>(out + 4, flags);
    store_be<uint16_t>(out + 6, type);
    store_be<uint64_t>(out + 8, reply.cookie);
    if (!extended) {
        store_be<uint32_t>(out + 16, static_cast<uint32_t>(payload_length));
        return kStructuredChunkSize;
    }
    store_be<uint64_t>(out + 16, reply.offset);
    store_be<uint64_t>(out + 24, payload_length);
    return kExtendedChunkSize;
}

size_t build_success(std::byte* out, const Reply& reply, bool is_read) {
    if (reply.style == HeaderStyle::Extended || (reply.style == HeaderStyle::Structured && is_read))
        return build_chunk_header(out, reply, kReplyFlagDone, kChunkNone, 0);
    return build_simple_reply(out, reply.cookie, 0);
}

size_t build_data_header(std::byte* out, const Reply& reply, uint16_t flags, uint64_t offset, uint32_t length) {
    if (reply.style == HeaderStyle::Simple)
        return build_simple_reply(out, reply.cookie, 0);
    size_t size = build_chunk_header(out, reply, flags, kChunkOffsetData, uint64_t{8} + length);
    store_be<uint64_t>(out + size, offset);
    return size + 8;
}

size_t build_hole(std::byte* out, const Reply& reply, uint16_t flags, uint64_t offset, uint32_t length) {
    assert(reply.style != HeaderStyle::Simple && length > 0);
    size_t size = build_chunk_header(out, reply, flags, kChunkOffsetHole, 12);
    store_be<uint64_t>(out + size, offset);
    store_be<uint32_t>(out + size + 8, length);
    return size + 12;
}

size_t build_error(std::byte* out, const Reply& reply, uint32_t error, std::string_view message) {
    assert(error != kSuccess);
    if (reply.style == HeaderStyle::Simple)
        return build_simple_reply(out, reply.cookie, error);
    message = message.substr(0, kMaxErrorMessage);
    size_t size = build_chunk_header(out, reply, kReplyFlagDone, kChunkError, 6 + message.size());
    return size + put_error_fields(out + size, error, message);
}

size_t build_error_offset(std::byte* out, const Reply& reply, uint16_t flags, uint32_t error, std::string_view message,
                          uint64_t where) {
    assert(error != kSuccess && reply.style != HeaderStyle::Simple);
    message = message.substr(0, kMaxErrorMessage);
    size_t size = build_chunk_header(out, reply, flags, kChunkErrorOffset, 14 + message.size());
    size += put_error_fields(out + size, error, message);
    store_be<uint64_t>(out + size, where);
    return size + 8;
}

size_t block_status_size(HeaderStyle style, size_t extents) {
    return style == HeaderStyle::Extended ? kExtendedChunkSize + kStatusExtPrefix + extents * kStatusExtDescriptor
                                          : kStructuredChunkSize + kStatusPrefix + extents * kStatusDescriptor;
}

size_t build_block_status(std::byte* out, const Reply& reply, uint16_t flags, uint32_t context_id,
                          std::span<const Extent> extents) {
    assert(reply.style != HeaderStyle::Simple && !extents.empty());
    bool extended = reply.style == HeaderStyle::Extended;
    size_t total = block_status_size(reply.style, extents.size());
    size_t header = extended ? kExtendedChunkSize : kStructuredChunkSize;
    size_t size =
        build_chunk_header(out, reply, flags, extended ? kChunkBlockStatusExt : kChunkBlockStatus, total - header);
    store_be<uint32_t>(out + size, context_id);
    size += 4;
    if (extended) {
        store_be<uint32_t>(out + size, static_cast<uint32_t>(extents.size()));
        size += 4;
    }
    for (const Extent& extent : extents) {
        if (extended) {
            store_be<uint64_t>(out + size, extent.length);
            store_be<uint64_t>(out + size + 8, extent.status);
            size += kStatusExtDescriptor;
        } else {
            store_be<uint32_t>(out + size, static_cast<uint32_t>(extent.length));
            store_be<uint32_t>(out + size + 4, extent.status);
            size += kStatusDescriptor;
        }
    }
    return size;
}

ErrorValue error_from_errno(int code, bool fast_zero) {
    switch (code) {
        case 0:
            return kSuccess;
        case EPERM:
        case EACCES:
        case EROFS:
            return kEPerm;
        case ENOMEM:
            return kENoMem;
        case ENOSPC:
        case EDQUOT:
        case EFBIG:
            return kENoSpc;
        case EINVAL:
        case EOVERFLOW:
            return kEInval;
        case ENOTSUP:
            return fast_zero ? kENotSup : kEInval;
        case ESHUTDOWN:
            return kEShutdown;
    }
    return kEIo;
}

int errno_from_error(uint32_t error) {
    switch (error) {
        case kSuccess:
            return 0;
        case kEPerm:
            return EPERM;
        case kEIo:
            return EIO;
        case kENoMem:
            return ENOMEM;
        case kENoSpc:
            return ENOSPC;
        case kEOverflow:
            return EOVERFLOW;
        case kENotSup:
            return ENOTSUP;
        case kEShutdown:
            return ESHUTDOWN;
    }
    return EINVAL;
}

size_t reply_header_size(std::span<const std::byte, 4> magic, HeaderStyle style) {
    switch (load_be<uint32_t>(magic.data())) {
        case kSimpleReplyMagic:
            return style == HeaderStyle::Extended ? 0 : kSimpleReplySize;
        case kStructuredReplyMagic:
            return style == HeaderStyle::Structured ? kStructuredChunkSize : 0;
        case kExtendedReplyMagic:
            return style == HeaderStyle::Extended ? kExtendedChunkSize : 0;
    }
    return 0;
}

std::optional<ReplyHeader> parse_reply_header(Bytes header, HeaderStyle style) {
    if (header.size() < 4 || header.size() != reply_header_size(header.first<4>(), style))
        return std::nullopt;
    const std::byte* p = header.data();
    ReplyHeader reply{.cookie = load_be<uint64_t>(p + 8)};
    if (header.size() == kSimpleReplySize) {
        reply.simple = true;
        reply.error = load_be<uint32_t>(p + 4);
        return reply;
    }
    reply.flags = load_be<uint16_t>(p + 4);
    reply.type = load_be<uint16_t>(p + 6);
    if (style == HeaderStyle::Structured) {
        reply.payload_length = load_be<uint32_t>(p + 16);
    } else {
        reply.offset = load_be<uint64_t>(p + 16);
        reply.payload_length = load_be<uint64_t>(p + 24);
    }
    return reply;
}

std::optional<ErrorPayload> parse_error_payload(Bytes payload, uint16_t type) {
    if (payload.size() < 6)
        return std::nullopt;
    ErrorPayload error{.error = load_be<uint32_t>(payload.data())};
    auto length = load_be<uint16_t>(payload.data() + 4);
    Bytes rest = payload.subspan(6);
    if (error.error == kSuccess || length > rest.size())
        return std::nullopt;
    error.message = {reinterpret_cast<const char*>(rest.data()), length};
    rest = rest.subspan(length);
    if (type == kChunkErrorOffset) {
        if (rest.size() != 8)
            return std::nullopt;
        error.offset = load_be<uint64_t>(rest.data());
    }
    return error;
}

std::optional<HolePayload> parse_hole_payload(Bytes payload) {
    if (payload.size() != 12)
        return std::nullopt;
    HolePayload hole{load_be<uint64_t>(payload.data()), load_be<uint32_t>(payload.data() + 8)};
    if (hole.length == 0)
        return std::nullopt;
    return hole;
}

Extent BlockStatusReply::extent(size_t index) const {
    assert(index < count);
    const std::byte* p = descriptors.data() + index * (extended ? kStatusExtDescriptor : kStatusDescriptor);
    if (extended)
        return {load_be<uint64_t>(p), load_be<uint32_t>(p + 12)};
    return {load_be<uint32_t>(p), load_be<uint32_t>(p + 4)};
}

std::optional<BlockStatusReply> parse_block_status_reply(Bytes payload, uint16_t type) {
    bool extended = type == kChunkBlockStatusExt;
    size_t prefix = extended ? kStatusExtPrefix : kStatusPrefix;
    size_t descriptor = extended ? kStatusExtDescriptor : kStatusDescriptor;
    if (payload.size() < prefix + descriptor || (payload.size() - prefix) % descriptor != 0)
        return std::nullopt;
    BlockStatusReply reply{.context_id = load_be<uint32_t>(payload.data()),
                           .count = (payload.size() - prefix) / descriptor,
                           .descriptors = payload.subspan(prefix),
                           .extended = extended};
    if (extended) {
        auto count = load_be<uint32_t>(payload.data() + 4);
        if (count != 0 && count != reply.count)
            return std::nullopt;
    }
    for (size_t i = 0; i < reply.count; i++)
        if (reply.extent(i).length == 0)
            return std::nullopt;
    return reply;
}

}  // namespace ashlar::nbd
