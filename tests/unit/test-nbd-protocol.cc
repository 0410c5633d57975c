#include <cstring>
#include <vector>

#include "nbd/handshake.h"
#include "nbd/reply.h"
#include "nbd/request.h"
#include "tests/unit/assert_str.h"
#include "util/byte_order.h"

using namespace ashlar;
using namespace ashlar::nbd;

namespace {

Bytes bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text));
}

std::string_view text_of(Bytes bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::vector<std::byte> be32(uint32_t value) {
    std::vector<std::byte> out(4);
    store_be<uint32_t>(out.data(), value);
    return out;
}

// --- handshake ---

void test_greeting() {
    auto bytes = build_greeting(kFlagFixedNewstyle | kFlagNoZeroes);
    assert_str(text_of(bytes), std::string_view("NBDMAGICIHAVEOPT\0\3", 18));
    g_assert_cmpuint(parse_greeting(bytes)->flags, ==, 3);
    bytes[9] = std::byte{'x'};
    g_assert_false(parse_greeting(bytes).has_value());
}

void test_client_flags() {
    auto parse = [](uint32_t value) {
        auto bytes = be32(value);
        return parse_client_flags(std::span<const std::byte, 4>(bytes));
    };
    g_assert_false(parse(0)->fixed_newstyle);
    g_assert_true(parse(1)->fixed_newstyle);
    g_assert_true(parse(3)->no_zeroes);
    for (int bit = 2; bit < 32; bit++)
        g_assert_false(parse(1u << bit).has_value());
}

void test_option_header() {
    std::vector<std::byte> out;
    append_option(out, kOptGo, bytes_of("abc"));
    g_assert_cmpuint(out.size(), ==, kOptionHeaderSize + 3);
    auto header = parse_option_header(std::span(out).first<kOptionHeaderSize>());
    g_assert_cmpuint(header->option, ==, kOptGo);
    g_assert_cmpuint(header->length, ==, 3);
    for (size_t i = 0; i < 8; i++) {
        auto bad = out;
        bad[i] ^= std::byte{1};
        g_assert_false(parse_option_header(std::span(bad).first<kOptionHeaderSize>()).has_value());
    }
}

void test_export_name() {
    assert_str(*parse_export_name(bytes_of("")), "");
    assert_str(*parse_export_name(bytes_of("größe")), "größe");
    g_assert_true(parse_export_name(bytes_of(std::string(4096, 'x'))).has_value());
    for (std::string bad : {std::string(4097, 'x'), std::string("a\0b", 3), std::string("\xff"), std::string("\xc3")})
        g_assert_cmpuint(parse_export_name(bytes_of(bad)).error().reply, ==, kRepErrInvalid);
}

void test_info_request() {
    uint16_t wanted[] = {kInfoName, kInfoBlockSize, 4711};
    auto data = build_info_request("disk", wanted);
    auto request = parse_info_request(data);
    assert_str(request->name, "disk");
    g_assert_true(request->wants(kInfoName));
    g_assert_true(request->wants(kInfoBlockSize));
    g_assert_false(request->wants(kInfoDescription));
    for (size_t n = 0; n < data.size(); n++)  // cut anywhere
        g_assert_cmpuint(parse_info_request(std::span(data).first(n)).error().reply, ==, kRepErrInvalid);
    data.push_back(std::byte{});  // or too long
    g_assert_false(parse_info_request(data).has_value());
}

void test_info_request_lengths_are_bounded() {
    for (uint32_t length : {5u, 4097u, 0x7fffffffu, 0xffffffffu}) {
        auto data = build_info_request("disk", {});
        store_be<uint32_t>(data.data(), length);
        g_assert_false(parse_info_request(data).has_value());
    }
    auto data = build_info_request("", {});
    store_be<uint16_t>(data.data() + 4, 0xffff);
    g_assert_false(parse_info_request(data).has_value());
}

void test_meta_context_request() {
    std::string queries[] = {"base:allocation", "qemu:"};
    auto data = build_meta_context_request("disk", queries);
    auto request = parse_meta_context_request(data);
    assert_str(request->name, "disk");
    g_assert_cmpuint(request->queries.size(), ==, 2);
    assert_str(request->queries[1], "qemu:");
    for (size_t n = 0; n < data.size(); n++)
        g_assert_cmpuint(parse_meta_context_request(std::span(data).first(n)).error().reply, ==, kRepErrInvalid);
    for (uint32_t count : {3u, 0xffffffffu, 0x40000000u}) {
        auto bad = data;
        store_be<uint32_t>(bad.data() + 8, count);
        g_assert_false(parse_meta_context_request(bad).has_value());
    }
    data.push_back(std::byte{});
    g_assert_false(parse_meta_context_request(data).has_value());
    std::vector<std::string> many(kMaxQueries + 1, "x:y");
    auto too_many = build_meta_context_request("", many);
    g_assert_cmpuint(parse_meta_context_request(too_many).error().reply, ==, kRepErrTooBig);
}

void test_option_replies() {
    std::vector<std::byte> out;
    append_server_reply(out, "name", "what it is");
    auto header = parse_option_reply_header(std::span(out).first<kOptionReplyHeaderSize>());
    g_assert_cmpuint(header->option, ==, kOptList);
    g_assert_cmpuint(header->type, ==, kRepServer);
    g_assert_cmpuint(header->length, ==, out.size() - kOptionReplyHeaderSize);
    auto data = std::span(out).subspan(kOptionReplyHeaderSize);
    auto server = parse_server_reply(data);
    assert_str(server->name, "name");
    assert_str(server->description, "what it is");
    store_be<uint32_t>(data.data(), 0xffffffff);
    g_assert_false(parse_server_reply(data).has_value());

    out.clear();
    append_option_error(out, kOptGo, {kRepErrUnknown, "no such export"});
    header = parse_option_reply_header(std::span(out).first<kOptionReplyHeaderSize>());
    g_assert_true(header->is_error());
    assert_str(text_of(std::span(out).subspan(kOptionReplyHeaderSize)), "no such export");

    out.clear();
    append_meta_context_reply(out, kOptSetMetaContext, 7, "base:allocation");
    auto context = parse_meta_context_reply(std::span(out).subspan(kOptionReplyHeaderSize));
    g_assert_cmpuint(context->id, ==, 7);
    assert_str(context->name, "base:allocation");
}

void test_infos() {
    std::vector<std::byte> out;
    append_info_export(out, kOptInfo, {1ull << 40, 0x1234});
    auto info = parse_info_reply(std::span(out).subspan(kOptionReplyHeaderSize));
    g_assert_cmpuint(info->export_info.size, ==, 1ull << 40);
    g_assert_cmpuint(info->export_info.flags, ==, 0x1234);
    out.clear();
    append_info_block_size(out, kOptInfo, {512, 4096, 1 << 25});
    info = parse_info_reply(std::span(out).subspan(kOptionReplyHeaderSize));
    g_assert_true((info->block_sizes == BlockSizes{512, 4096, 1 << 25}));
    g_assert_false(parse_info_reply(std::span(out).subspan(kOptionReplyHeaderSize, 13)).has_value());
    out.clear();
    append_info_string(out, kOptInfo, kInfoDescription, "text");
    info = parse_info_reply(std::span(out).subspan(kOptionReplyHeaderSize));
    assert_str(info->text, "text");
    g_assert_false(parse_info_reply({}).has_value());
    out.clear();
    append_export_name_reply(out, {5, 1}, false);
    g_assert_cmpuint(out.size(), ==, 134);
    out.clear();
    append_export_name_reply(out, {5, 1}, true);
    g_assert_cmpuint(out.size(), ==, 10);
    g_assert_cmpuint(parse_export_name_reply(std::span(out).first<10>()).size, ==, 5);
}

// --- requests ---

void test_request_round_trip() {
    for (HeaderStyle style : {HeaderStyle::Simple, HeaderStyle::Structured, HeaderStyle::Extended}) {
        Request request{.flags = 0x21, .type = kCmdWrite, .cookie = 0x0102030405060708, .offset = ~0ull, .length = 77};
        if (style == HeaderStyle::Extended)
            request.length = 1ull << 40;
        std::vector<std::byte> bytes(request_header_size(style));
        build_request(bytes.data(), request, style);
        g_assert_true(parse_request(bytes, style) == request);
        g_assert_cmpuint(payload_length(request, style), ==, request.length);
        for (size_t i = 0; i < 4; i++) {
            auto bad = bytes;
            bad[i] ^= std::byte{0x10};
            g_assert_false(parse_request(bad, style).has_value());
        }
    }
    // The other style's magic is not accepted.
    std::vector<std::byte> bytes(kExtendedRequestSize);
    build_request(bytes.data(), {}, HeaderStyle::Simple);
    g_assert_false(parse_request(bytes, HeaderStyle::Extended).has_value());
}

void test_payload_length() {
    Request read{.type = kCmdRead, .length = 5};
    Request write{.type = kCmdWrite, .length = 5};
    Request unknown{.type = 99, .length = 5};
    g_assert_cmpuint(payload_length(read, HeaderStyle::Simple), ==, 0);
    g_assert_cmpuint(payload_length(write, HeaderStyle::Structured), ==, 5);
    g_assert_cmpuint(payload_length(unknown, HeaderStyle::Structured), ==, 0);
    g_assert_cmpuint(payload_length(write, HeaderStyle::Extended), ==, 0);
    unknown.flags = kCmdFlagPayloadLen;
    g_assert_cmpuint(payload_length(unknown, HeaderStyle::Extended), ==, 5);
}

constexpr uint64_t kSize = 1 << 20;

ExportLimits writable() {
    return {.size = kSize,
            .flags =
                kHasFlags | kSendFlush | kSendFua | kSendTrim | kSendWriteZeroes | kSendDf | kSendCache | kSendFastZero,
            .style = HeaderStyle::Structured,
            .has_meta_contexts = true};
}

ErrorValue verdict(uint16_t type, uint64_t offset, uint64_t length, uint16_t flags = 0,
                   const ExportLimits& limits = writable()) {
    return validate({.flags = flags, .type = type, .offset = offset, .length = length}, limits).error;
}

constexpr uint16_t kRanged[] = {kCmdRead, kCmdWrite, kCmdTrim, kCmdCache, kCmdWriteZeroes, kCmdBlockStatus};

void test_ranges() {
    for (uint16_t type : kRanged) {
        bool writes_data = type == kCmdWrite || type == kCmdWriteZeroes;
        uint32_t past = writes_data ? kENoSpc : kEInval;
        g_assert_cmpuint(verdict(type, 0, 512), ==, 0);
        g_assert_cmpuint(verdict(type, kSize - 1, 1), ==, 0);
        g_assert_cmpuint(verdict(type, kSize, 1), ==, past);
        g_assert_cmpuint(verdict(type, kSize - 1, 2), ==, past);
        g_assert_cmpuint(verdict(type, kSize + 1, 1), ==, past);
        g_assert_cmpuint(verdict(type, ~0ull, 1), ==, past);
        g_assert_cmpuint(verdict(type, ~0ull - 511, 512), ==, past);  // offset + length is 2^64
        g_assert_cmpuint(verdict(type, ~0ull - 510, 512), ==, past);  // and wraps
        if (!writes_data)
            g_assert_cmpuint(verdict(type, 1, ~0ull), ==, kEInval);
    }
    for (uint16_t type : {kCmdRead, kCmdTrim, kCmdCache, kCmdWriteZeroes, kCmdWrite}) {
        g_assert_cmpuint(verdict(type, 0, 0), ==, 0);
        g_assert_cmpuint(verdict(type, kSize, 0), ==, 0);
    }
    g_assert_cmpuint(verdict(kCmdBlockStatus, 0, 0), ==, kEInval);
}

void test_read_only() {
    ExportLimits limits = writable();
    limits.flags |= kReadOnly;
    for (uint16_t type : {kCmdWrite, kCmdTrim, kCmdWriteZeroes}) {
        g_assert_cmpuint(verdict(type, 0, 512, 0, limits), ==, kEPerm);
        g_assert_cmpuint(verdict(type, kSize, 512, 0, limits), ==, kEPerm);
    }
    for (uint16_t type : {kCmdRead, kCmdCache, kCmdBlockStatus})
        g_assert_cmpuint(verdict(type, 0, 512, 0, limits), ==, 0);
    g_assert_cmpuint(verdict(kCmdFlush, 0, 0, 0, limits), ==, 0);
}

void test_flags() {
    for (uint16_t type : {kCmdRead, kCmdWrite, kCmdFlush, kCmdTrim, kCmdCache, kCmdWriteZeroes, kCmdBlockStatus}) {
        uint64_t length = type == kCmdFlush ? 0 : 512;
        g_assert_cmpuint(verdict(type, 0, length, kCmdFlagFua), ==, 0);
        for (int bit = 6; bit < 16; bit++)  // flags of the future
            g_assert_cmpuint(verdict(type, 0, length, 1 << bit), ==, kEInval);
        g_assert_cmpuint(verdict(type, 0, length, kCmdFlagPayloadLen), ==, kEInval);  // only with extended headers
        auto own = [&](uint16_t flag, uint16_t owner) {
            g_assert_cmpuint(verdict(type, 0, length, flag), ==, type == owner ? kSuccess : kEInval);
        };
        own(kCmdFlagDf, kCmdRead);
        own(kCmdFlagNoHole, kCmdWriteZeroes);
        own(kCmdFlagFastZero, kCmdWriteZeroes);
        own(kCmdFlagReqOne, kCmdBlockStatus);
    }
    ExportLimits plain = writable();
    plain.flags &= ~(kSendFua | kSendDf | kSendFastZero);
    g_assert_cmpuint(verdict(kCmdWrite, 0, 512, kCmdFlagFua, plain), ==, kEInval);
    g_assert_cmpuint(verdict(kCmdRead, 0, 512, kCmdFlagDf, plain), ==, kEInval);
    g_assert_cmpuint(verdict(kCmdWriteZeroes, 0, 512, kCmdFlagFastZero, plain), ==, kEInval);
}

void test_commands() {
    for (uint32_t type = 8; type < 0x10000; type++)
        g_assert_cmpuint(verdict(type, 0, 512), ==, kEInval);
    g_assert_cmpuint(verdict(kCmdFlush, 0, 1), ==, kEInval);
    g_assert_cmpuint(verdict(kCmdFlush, 1, 0), ==, kEInval);
    ExportLimits none = writable();
    none.has_meta_contexts = false;
    g_assert_cmpuint(verdict(kCmdBlockStatus, 0, 512, 0, none), ==, kEInval);
}

void test_block_sizes() {
    ExportLimits limits = writable();
    limits.size = 1ull << 40;
    limits.min_block = 4096;
    limits.max_payload = 1 << 20;
    for (uint16_t type : kRanged) {
        g_assert_cmpuint(verdict(type, 4096, 8192, 0, limits), ==, 0);
        g_assert_cmpuint(verdict(type, 4095, 8192, 0, limits), ==, kEInval);
        g_assert_cmpuint(verdict(type, 4096, 8191, 0, limits), ==, kEInval);
    }
    constexpr uint64_t kOver = (1 << 20) + 4096;
    g_assert_cmpuint(verdict(kCmdRead, 0, 1 << 20, 0, limits), ==, 0);
    g_assert_cmpuint(verdict(kCmdRead, 0, kOver, 0, limits), ==, kEInval);
    g_assert_cmpuint(verdict(kCmdRead, 0, kOver, kCmdFlagDf, limits), ==, kEOverflow);
    g_assert_cmpuint(verdict(kCmdWrite, 0, kOver, 0, limits), ==, kEInval);
    for (uint16_t type : {kCmdTrim, kCmdCache, kCmdWriteZeroes, kCmdBlockStatus})  // no payload: no such limit
        g_assert_cmpuint(verdict(type, 0, 1ull << 33, 0, limits), ==, 0);
}

void test_extended_writes() {
    ExportLimits limits = writable();
    limits.style = HeaderStyle::Extended;
    limits.flags |= kBlockStatusPayload;
    g_assert_cmpuint(verdict(kCmdWrite, 0, 512, kCmdFlagPayloadLen, limits), ==, 0);
    g_assert_cmpuint(verdict(kCmdWrite, 0, 512, 0, limits), ==, kEInval);
    g_assert_cmpuint(verdict(kCmdRead, 0, 512, kCmdFlagPayloadLen, limits), ==, kEInval);
    g_assert_cmpuint(verdict(kCmdBlockStatus, 0, 12, kCmdFlagPayloadLen, limits), ==, 0);
}

void test_block_status_payload() {
    uint32_t known[] = {1, 9};
    std::vector<std::byte> payload(16);
    store_be<uint64_t>(payload.data(), 1ull << 40);
    store_be<uint32_t>(payload.data() + 8, 9);
    store_be<uint32_t>(payload.data() + 12, 1);
    auto filter = parse_block_status_payload(payload, known);
    g_assert_cmpuint(filter->effect_length, ==, 1ull << 40);
    g_assert_cmpuint(filter->ids.size(), ==, 2);
    g_assert_cmpuint(filter->ids[0], ==, 9);
    store_be<uint32_t>(payload.data() + 12, 9);  // twice
    g_assert_false(parse_block_status_payload(payload, known).has_value());
    store_be<uint32_t>(payload.data() + 12, 2);  // unknown
    g_assert_false(parse_block_status_payload(payload, known).has_value());
    for (size_t n : {0, 7, 9, 11, 13})
        g_assert_false(parse_block_status_payload(std::span(payload).first(n), known).has_value());
    g_assert_cmpuint(parse_block_status_payload(std::span(payload).first(8), known)->ids.size(), ==, 0);
    payload.resize(20);
    g_assert_false(parse_block_status_payload(payload, known).has_value());
}

// --- replies ---

constexpr HeaderStyle kChunked[] = {HeaderStyle::Structured, HeaderStyle::Extended};

ReplyHeader header_of(Bytes bytes, HeaderStyle style) {
    size_t size = reply_header_size(bytes.first<4>(), style);
    g_assert_cmpuint(size, !=, 0);
    auto header = parse_reply_header(bytes.first(size), style);
    g_assert_true(header.has_value());
    g_assert_cmpuint(header->cookie, ==, 42);
    if (!header->simple)
        g_assert_cmpuint(size + header->payload_length, ==, bytes.size());
    return *header;
}

void test_simple_replies() {
    std::byte out[kMaxErrorReply];
    Reply reply{HeaderStyle::Simple, 42, 0};
    size_t n = build_success(out, reply, true);
    g_assert_cmpuint(n, ==, 16);
    g_assert_true(header_of({out, n}, HeaderStyle::Simple).simple);
    n = build_error(out, reply, kENoSpc, "ignored");
    g_assert_cmpuint(n, ==, 16);
    g_assert_cmpuint(header_of({out, n}, HeaderStyle::Simple).error, ==, kENoSpc);
    g_assert_cmpuint(build_data_header(out, reply, 0, 5, 512), ==, 16);
}

void test_success_after_structured_negotiation() {
    std::byte out[kMaxChunkHeader];
    size_t n = build_success(out, {HeaderStyle::Structured, 42, 0}, true);
    g_assert_false(header_of({out, n}, HeaderStyle::Structured).simple);  // never a simple reply to READ
    n = build_success(out, {HeaderStyle::Structured, 42, 0}, false);
    g_assert_true(header_of({out, n}, HeaderStyle::Structured).simple);
    n = build_success(out, {HeaderStyle::Extended, 42, 7}, false);
    auto header = header_of({out, n}, HeaderStyle::Extended);
    g_assert_cmpuint(header.offset, ==, 7);
    g_assert_cmpuint(header.flags, ==, kReplyFlagDone);
    // Simple replies do not exist with extended headers.
    n = build_simple_reply(out, 42, 0);
    g_assert_cmpuint(reply_header_size(std::span<const std::byte>(out, n).first<4>(), HeaderStyle::Extended), ==, 0);
}

void test_chunks() {
    for (HeaderStyle style : kChunked) {
        std::byte out[kMaxErrorOffsetReply];
        Reply reply{style, 42, 1000};
        size_t n = build_data_header(out, reply, kReplyFlagDone, 1024, 512);
        auto header = parse_reply_header({out, n - 8}, style);
        g_assert_cmpuint(header->type, ==, kChunkOffsetData);
        g_assert_cmpuint(header->payload_length, ==, 520);
        g_assert_cmpuint(load_be<uint64_t>(out + n - 8), ==, 1024);

        n = build_hole(out, reply, 0, 2048, 4096);
        header = header_of({out, n}, style);
        auto hole = parse_hole_payload(Bytes(out, n).last(header->payload_length));
        g_assert_cmpuint(hole->offset, ==, 2048);
        g_assert_cmpuint(hole->length, ==, 4096);

        n = build_error(out, reply, kEIo, "it broke");
        header = header_of({out, n}, style);
        g_assert_cmpuint(header->type, ==, kChunkError);
        auto error = parse_error_payload(Bytes(out, n).last(header->payload_length), header->type);
        g_assert_cmpuint(error->error, ==, kEIo);
        assert_str(error->message, "it broke");

        n = build_error_offset(out, reply, kReplyFlagDone, kEIo, std::string(500, 'x'), 1111);
        header = header_of({out, n}, style);
        error = parse_error_payload(Bytes(out, n).last(header->payload_length), header->type);
        g_assert_cmpuint(*error->offset, ==, 1111);
        g_assert_cmpuint(error->message.size(), ==, kMaxErrorMessage);
    }
}

void test_block_status() {
    Extent extents[] = {{4096, 0}, {0xffffffff, kStateHole | kStateZero}};
    for (HeaderStyle style : kChunked) {
        std::vector<std::byte> out(block_status_size(style, 2));
        size_t n = build_block_status(out.data(), {style, 42, 0}, kReplyFlagDone, 3, extents);
        g_assert_cmpuint(n, ==, out.size());
        auto header = header_of(out, style);
        auto payload = Bytes(out).last(header.payload_length);
        auto status = parse_block_status_reply(payload, header.type);
        g_assert_cmpuint(status->context_id, ==, 3);
        g_assert_cmpuint(status->count, ==, 2);
        g_assert_true(status->extent(0) == extents[0]);
        g_assert_true(status->extent(1) == extents[1]);
        g_assert_false(parse_block_status_reply(payload.first(payload.size() - 1), header.type).has_value());
        Extent empty[] = {{0, 1}};
        n = build_block_status(out.data(), {style, 42, 0}, 0, 3, empty);
        payload = Bytes(out).first(n);
        g_assert_false(
            parse_block_status_reply(payload.subspan(reply_header_size(payload.first<4>(), style)), header.type)
                .has_value());
    }
}

void test_malformed_chunks() {
    g_assert_false(parse_error_payload(bytes_of(std::string_view("\0\0\0\5\0", 5)), kChunkError).has_value());
    g_assert_false(parse_error_payload(bytes_of(std::string_view("\0\0\0\0\0\0", 6)), kChunkError).has_value());
    g_assert_false(parse_error_payload(bytes_of(std::string_view("\0\0\0\5\0\1", 6)), kChunkError).has_value());
    g_assert_false(parse_error_payload(bytes_of(std::string_view("\0\0\0\5\0\0", 6)), kChunkErrorOffset).has_value());
    g_assert_false(parse_hole_payload(bytes_of(std::string_view("\0\0\0\0\0\0\0\0\0\0\0\0", 12))).has_value());
    g_assert_false(parse_hole_payload(bytes_of(std::string_view("\0\0\0\0\0\0\0\0\0\0\0", 11))).has_value());
}

void test_errors() {
    g_assert_cmpuint(error_from_errno(EDQUOT), ==, kENoSpc);
    g_assert_cmpuint(error_from_errno(EFBIG), ==, kENoSpc);
    g_assert_cmpuint(error_from_errno(EROFS), ==, kEPerm);
    g_assert_cmpuint(error_from_errno(ENOTSUP), ==, kEInval);
    g_assert_cmpuint(error_from_errno(ENOTSUP, true), ==, kENotSup);
    g_assert_cmpuint(error_from_errno(EOVERFLOW), ==, kEInval);
    g_assert_cmpuint(error_from_errno(EIO), ==, kEIo);
    g_assert_cmpuint(error_from_errno(ENOENT), ==, kEIo);
    for (int code : {EPERM, EIO, ENOMEM, EINVAL, ENOSPC, ESHUTDOWN})
        g_assert_cmpint(errno_from_error(error_from_errno(code)), ==, code);
    g_assert_cmpint(errno_from_error(4711), ==, EINVAL);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/nbd/handshake/greeting", test_greeting);
    g_test_add_func("/nbd/handshake/unknown-client-flags-are-refused", test_client_flags);
    g_test_add_func("/nbd/handshake/option-header-needs-its-magic", test_option_header);
    g_test_add_func("/nbd/handshake/export-names-are-utf8-of-at-most-4096-bytes", test_export_name);
    g_test_add_func("/nbd/handshake/info-request-is-exactly-as-long-as-it-says", test_info_request);
    g_test_add_func("/nbd/handshake/info-request-lengths-are-bounded", test_info_request_lengths_are_bounded);
    g_test_add_func("/nbd/handshake/meta-context-request-is-exactly-as-long-as-it-says", test_meta_context_request);
    g_test_add_func("/nbd/handshake/option-replies", test_option_replies);
    g_test_add_func("/nbd/handshake/infos", test_infos);
    g_test_add_func("/nbd/request/round-trip-and-magic", test_request_round_trip);
    g_test_add_func("/nbd/request/payload-length-follows-style-and-flag", test_payload_length);
    g_test_add_func("/nbd/request/ranges-and-their-errors-up-to-2^64", test_ranges);
    g_test_add_func("/nbd/request/writes-to-a-read-only-export-get-EPERM", test_read_only);
    g_test_add_func("/nbd/request/flags-are-valid-only-where-documented", test_flags);
    g_test_add_func("/nbd/request/unknown-commands-get-EINVAL", test_commands);
    g_test_add_func("/nbd/request/block-sizes", test_block_sizes);
    g_test_add_func("/nbd/request/extended-writes-need-the-payload-flag", test_extended_writes);
    g_test_add_func("/nbd/request/block-status-payload", test_block_status_payload);
    g_test_add_func("/nbd/reply/simple", test_simple_replies);
    g_test_add_func("/nbd/reply/success-after-structured-negotiation", test_success_after_structured_negotiation);
    g_test_add_func("/nbd/reply/chunks", test_chunks);
    g_test_add_func("/nbd/reply/block-status-in-32-and-64-bits", test_block_status);
    g_test_add_func("/nbd/reply/malformed-chunks-are-refused", test_malformed_chunks);
    g_test_add_func("/nbd/reply/errors-are-those-of-the-protocol", test_errors);
    return g_test_run();
}
