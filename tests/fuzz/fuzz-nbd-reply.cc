// What a server sends, as a client reads it. The first byte chooses what it is.
#include <cassert>

#include "nbd/handshake.h"
#include "nbd/reply.h"

using namespace ashlar::nbd;

namespace {

void check_reply(Bytes bytes, HeaderStyle style) {
    if (bytes.size() < 4)
        return;
    size_t size = reply_header_size(bytes.first<4>(), style);
    if (size == 0 || bytes.size() < size)
        return;
    auto header = parse_reply_header(bytes.first(size), style);
    assert(header);
    Bytes payload = bytes.subspan(size);
    if (header->type == kChunkBlockStatus || header->type == kChunkBlockStatusExt) {
        if (auto status = parse_block_status_reply(payload, header->type))
            for (size_t i = 0; i < status->count; i++)
                assert(status->extent(i).length != 0);
    } else if (header->type == kChunkOffsetHole) {
        if (auto hole = parse_hole_payload(payload))
            assert(hole->length != 0);
    } else if (header->type & kChunkErrorBit) {
        if (auto error = parse_error_payload(payload, header->type)) {
            assert(error->error != kSuccess && error->message.size() <= payload.size());
            assert(error->offset.has_value() == (header->type == kChunkErrorOffset));
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0)
        return 0;
    Bytes bytes = std::as_bytes(std::span(data + 1, size - 1));
    switch (data[0]) {
        case 0:
            check_reply(bytes, HeaderStyle::Simple);
            break;
        case 1:
            check_reply(bytes, HeaderStyle::Structured);
            break;
        case 2:
            check_reply(bytes, HeaderStyle::Extended);
            break;
        case 3:
            if (auto server = parse_server_reply(bytes))
                assert(is_valid_string(server->name) && is_valid_string(server->description));
            break;
        case 4:
            if (auto info = parse_info_reply(bytes))
                assert(is_valid_string(info->text));
            break;
        case 5:
            if (auto context = parse_meta_context_reply(bytes))
                assert(is_valid_string(context->name));
            break;
        default:
            if (bytes.size() >= kOptionReplyHeaderSize)
                (void)parse_option_reply_header(bytes.first<kOptionReplyHeaderSize>());
            if (bytes.size() >= kGreetingSize)
                (void)parse_greeting(bytes.first<kGreetingSize>());
    }
    return 0;
}
