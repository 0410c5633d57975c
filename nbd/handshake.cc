#include "nbd/handshake.h"

#include <fmt/core.h>
#include <glib.h>

#include "util/byte_order.h"

namespace ashlar::nbd {

namespace {

std::string_view as_text(Bytes bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
Bytes as_bytes(std::string_view text) {
    return std::as_bytes(std::span(text));
}

template <class T>
void append_be(std::vector<std::byte>& out, T value) {
    size_t at = out.size();
    out.resize(at + sizeof(T));
    store_be<T>(out.data() + at, value);
}

void append(std::vector<std::byte>& out, Bytes bytes) {
    out.insert(out.end(), bytes.begin(), bytes.end());
}

std::unexpected<OptionError> invalid(std::string message) {
    return std::unexpected(OptionError{kRepErrInvalid, std::move(message)});
}

// Takes fields off the front of an option's data.
class Fields {
public:
    explicit Fields(Bytes rest) : rest_(rest) {}

    template <class T>
    std::optional<T> number() {
        if (rest_.size() < sizeof(T))
            return std::nullopt;
        T value = load_be<T>(rest_.data());
        rest_ = rest_.subspan(sizeof(T));
        return value;
    }
    OptionResult<std::string_view> string(const char* what) {  // 32 bits of length, then the bytes
        auto length = number<uint32_t>();
        if (!length)
            return invalid(fmt::format("{}: the option ends before its length", what));
        if (*length > kMaxString)
            return invalid(fmt::format("{}: {} bytes exceed the limit of {}", what, *length, kMaxString));
        if (*length > rest_.size())
            return invalid(
                fmt::format("{}: {} bytes exceed what is left of the option ({})", what, *length, rest_.size()));
        std::string_view text = as_text(rest_.first(*length));
        if (!is_valid_string(text))
            return invalid(fmt::format("{}: is not valid UTF-8 without NUL", what));
        rest_ = rest_.subspan(*length);
        return text;
    }
    Bytes rest() const { return rest_; }

private:
    Bytes rest_;
};

size_t begin_option_reply(std::vector<std::byte>& out, uint32_t option, uint32_t type) {
    size_t at = out.size();
    append_be<uint64_t>(out, kOptionReplyMagic);
    append_be<uint32_t>(out, option);
    append_be<uint32_t>(out, type);
    append_be<uint32_t>(out, 0);
    return at;
}

void end_option_reply(std::vector<std::byte>& out, size_t begin) {
    store_be<uint32_t>(out.data() + begin + 16, static_cast<uint32_t>(out.size() - begin - kOptionReplyHeaderSize));
}

}  // namespace

bool is_valid_string(std::string_view text) {
    return text.size() <= kMaxString && (text.empty() || g_utf8_validate_len(text.data(), text.size(), nullptr));
}

std::array<std::byte, kGreetingSize> build_greeting(uint16_t flags) {
    std::array<std::byte, kGreetingSize> bytes;
    store_be<uint64_t>(bytes.data(), kInitMagic);
    store_be<uint64_t>(bytes.data() + 8, kOptionMagic);
    store_be<uint16_t>(bytes.data() + 16, flags);
    return bytes;
}

std::optional<Greeting> parse_greeting(std::span<const std::byte, kGreetingSize> bytes) {
    if (load_be<uint64_t>(bytes.data()) != kInitMagic || load_be<uint64_t>(bytes.data() + 8) != kOptionMagic)
        return std::nullopt;
    return Greeting{load_be<uint16_t>(bytes.data() + 16)};
}

std::optional<ClientFlags> parse_client_flags(std::span<const std::byte, kClientFlagsSize> bytes) {
    auto flags = load_be<uint32_t>(bytes.data());
    if (flags & ~(kClientFixedNewstyle | kClientNoZeroes))
        return std::nullopt;
    return ClientFlags{.fixed_newstyle = (flags & kClientFixedNewstyle) != 0,
                       .no_zeroes = (flags & kClientNoZeroes) != 0};
}

std::optional<OptionHeader> parse_option_header(std::span<const std::byte, kOptionHeaderSize> bytes) {
    if (load_be<uint64_t>(bytes.data()) != kOptionMagic)
        return std::nullopt;
    return OptionHeader{load_be<uint32_t>(bytes.data() + 8), load_be<uint32_t>(bytes.data() + 12)};
}

void append_option(std::vector<std::byte>& out, uint32_t option, Bytes data) {
    append_be<uint64_t>(out, kOptionMagic);
    append_be<uint32_t>(out, option);
    append_be<uint32_t>(out, static_cast<uint32_t>(data.size()));
    append(out, data);
}

OptionResult<std::string_view> parse_export_name(Bytes data) {
    if (data.size() > kMaxString)
        return invalid(fmt::format("export name: {} bytes exceed the limit of {}", data.size(), kMaxString));
    if (!is_valid_string(as_text(data)))
        return invalid("export name: is not valid UTF-8 without NUL");
    return as_text(data);
}

OptionResult<void> parse_no_data(Bytes data) {
    if (!data.empty())
        return invalid(fmt::format("the option takes no data, not {} bytes", data.size()));
    return {};
}

bool InfoRequest::wants(Info info) const {
    for (size_t at = 0; at < requests.size(); at += 2)
        if (load_be<uint16_t>(requests.data() + at) == info)
            return true;
    return false;
}

OptionResult<InfoRequest> parse_info_request(Bytes data) {
    Fields fields(data);
    auto name = fields.string("export name");
    if (!name)
        return std::unexpected(std::move(name).error());
    auto count = fields.number<uint16_t>();
    if (!count)
        return invalid("the option ends before the number of information requests");
    if (fields.rest().size() != *count * size_t{2})
        return invalid(fmt::format("{} information requests do not fill the {} bytes left of the option", *count,
                                   fields.rest().size()));
    return InfoRequest{*name, fields.rest()};
}

std::vector<std::byte> build_info_request(std::string_view name, std::span<const uint16_t> requests) {
    std::vector<std::byte> data;
    append_be<uint32_t>(data, static_cast<uint32_t>(name.size()));
    append(data, as_bytes(name));
    append_be<uint16_t>(data, static_cast<uint16_t>(requests.size()));
    for (uint16_t request : requests)
        append_be<uint16_t>(data, request);
    return data;
}

OptionResult<MetaContextRequest> parse_meta_context_request(Bytes data) {
    Fields fields(data);
    auto name = fields.string("export name");
    if (!name)
        return std::unexpected(std::move(name).error());
    auto count = fields.number<uint32_t>();
    if (!count)
        return invalid("the option ends before the number of queries");
    if (*count > fields.rest().size() / sizeof(uint32_t))
        return invalid(
            fmt::format("{} queries do not fit in the {} bytes left of the option", *count, fields.rest().size()));
    if (*count > kMaxQueries)
        return std::unexpected(
            OptionError{kRepErrTooBig, fmt::format("{} queries exceed the limit of {}", *count, kMaxQueries)});
    MetaContextRequest request{*name, {}};
    request.queries.reserve(*count);
    for (uint32_t i = 0; i < *count; i++) {
        auto query = fields.string("query");
        if (!query)
            return std::unexpected(std::move(query).error());
        request.queries.push_back(*query);
    }
    if (!fields.rest().empty())
        return invalid(fmt::format("{} bytes follow the last query", fields.rest().size()));
    return request;
}

std::vector<std::byte> build_meta_context_request(std::string_view name, std::span<const std::string> queries) {
    std::vector<std::byte> data;
    append_be<uint32_t>(data, static_cast<uint32_t>(name.size()));
    append(data, as_bytes(name));
    append_be<uint32_t>(data, static_cast<uint32_t>(queries.size()));
    for (const std::string& query : queries) {
        append_be<uint32_t>(data, static_cast<uint32_t>(query.size()));
        append(data, as_bytes(query));
    }
    return data;
}

void append_option_reply(std::vector<std::byte>& out, uint32_t option, uint32_t type, Bytes data) {
    size_t begin = begin_option_reply(out, option, type);
    append(out, data);
    end_option_reply(out, begin);
}

void append_option_error(std::vector<std::byte>& out, uint32_t option, const OptionError& error) {
    append_option_reply(out, option, error.reply, as_bytes(std::string_view(error.message).substr(0, kMaxString)));
}

void append_server_reply(std::vector<std::byte>& out, std::string_view name, std::string_view description) {
    size_t begin = begin_option_reply(out, kOptList, kRepServer);
    append_be<uint32_t>(out, static_cast<uint32_t>(name.size()));
    append(out, as_bytes(name));
    append(out, as_bytes(description));
    end_option_reply(out, begin);
}

void append_meta_context_reply(std::vector<std::byte>& out, uint32_t option, uint32_t id, std::string_view name) {
    size_t begin = begin_option_reply(out, option, kRepMetaContext);
    append_be<uint32_t>(out, id);
    append(out, as_bytes(name));
    end_option_reply(out, begin);
}

void append_info_export(std::vector<std::byte>& out, uint32_t option, ExportInfo info) {
    size_t begin = begin_option_reply(out, option, kRepInfo);
    append_be<uint16_t>(out, kInfoExport);
    append_be<uint64_t>(out, info.size);
    append_be<uint16_t>(out, info.flags);
    end_option_reply(out, begin);
}

void append_info_string(std::vector<std::byte>& out, uint32_t option, Info type, std::string_view text) {
    size_t begin = begin_option_reply(out, option, kRepInfo);
    append_be<uint16_t>(out, type);
    append(out, as_bytes(text));
    end_option_reply(out, begin);
}

void append_info_block_size(std::vector<std::byte>& out, uint32_t option, BlockSizes sizes) {
    size_t begin = begin_option_reply(out, option, kRepInfo);
    append_be<uint16_t>(out, kInfoBlockSize);
    append_be<uint32_t>(out, sizes.minimum);
    append_be<uint32_t>(out, sizes.preferred);
    append_be<uint32_t>(out, sizes.maximum);
    end_option_reply(out, begin);
}

void append_export_name_reply(std::vector<std::byte>& out, ExportInfo info, bool no_zeroes) {
    append_be<uint64_t>(out, info.size);
    append_be<uint16_t>(out, info.flags);
    if (!no_zeroes)
        out.resize(out.size() + kExportNameReplyZeroes);
}

ExportInfo parse_export_name_reply(std::span<const std::byte, kExportNameReplySize> bytes) {
    return {load_be<uint64_t>(bytes.data()), load_be<uint16_t>(bytes.data() + 8)};
}

std::optional<OptionReplyHeader> parse_option_reply_header(std::span<const std::byte, kOptionReplyHeaderSize> bytes) {
    if (load_be<uint64_t>(bytes.data()) != kOptionReplyMagic)
        return std::nullopt;
    return OptionReplyHeader{load_be<uint32_t>(bytes.data() + 8), load_be<uint32_t>(bytes.data() + 12),
                             load_be<uint32_t>(bytes.data() + 16)};
}

std::optional<ServerReply> parse_server_reply(Bytes data) {
    Fields fields(data);
    auto name = fields.string("export name");
    if (!name || !is_valid_string(as_text(fields.rest())))
        return std::nullopt;
    return ServerReply{*name, as_text(fields.rest())};
}

std::optional<MetaContextReply> parse_meta_context_reply(Bytes data) {
    Fields fields(data);
    auto id = fields.number<uint32_t>();
    if (!id || fields.rest().empty() || !is_valid_string(as_text(fields.rest())))
        return std::nullopt;
    return MetaContextReply{*id, as_text(fields.rest())};
}

std::optional<InfoReply> parse_info_reply(Bytes data) {
    Fields fields(data);
    auto type = fields.number<uint16_t>();
    if (!type)
        return std::nullopt;
    InfoReply reply{.type = *type};
    Bytes rest = fields.rest();
    switch (*type) {
        case kInfoExport:
            if (rest.size() != kExportNameReplySize)
                return std::nullopt;
            reply.export_info = parse_export_name_reply(rest.first<kExportNameReplySize>());
            break;
        case kInfoBlockSize:
            if (rest.size() != 12)
                return std::nullopt;
            reply.block_sizes = {load_be<uint32_t>(rest.data()), load_be<uint32_t>(rest.data() + 4),
                                 load_be<uint32_t>(rest.data() + 8)};
            break;
        case kInfoName:
        case kInfoDescription:
            if (!is_valid_string(as_text(rest)))
                return std::nullopt;
            reply.text = as_text(rest);
            break;
    }
    return reply;
}

std::string_view option_name(uint32_t option) {
    switch (option) {
        case kOptExportName:
            return "NBD_OPT_EXPORT_NAME";
        case kOptAbort:
            return "NBD_OPT_ABORT";
        case kOptList:
            return "NBD_OPT_LIST";
        case kOptStartTls:
            return "NBD_OPT_STARTTLS";
        case kOptInfo:
            return "NBD_OPT_INFO";
        case kOptGo:
            return "NBD_OPT_GO";
        case kOptStructuredReply:
            return "NBD_OPT_STRUCTURED_REPLY";
        case kOptListMetaContext:
            return "NBD_OPT_LIST_META_CONTEXT";
        case kOptSetMetaContext:
            return "NBD_OPT_SET_META_CONTEXT";
        case kOptExtendedHeaders:
            return "NBD_OPT_EXTENDED_HEADERS";
    }
    return "unknown option";
}

std::string_view option_reply_name(uint32_t type) {
    switch (type) {
        case kRepAck:
            return "NBD_REP_ACK";
        case kRepServer:
            return "NBD_REP_SERVER";
        case kRepInfo:
            return "NBD_REP_INFO";
        case kRepMetaContext:
            return "NBD_REP_META_CONTEXT";
        case kRepErrUnsup:
            return "NBD_REP_ERR_UNSUP";
        case kRepErrPolicy:
            return "NBD_REP_ERR_POLICY";
        case kRepErrInvalid:
            return "NBD_REP_ERR_INVALID";
        case kRepErrPlatform:
            return "NBD_REP_ERR_PLATFORM";
        case kRepErrTlsReqd:
            return "NBD_REP_ERR_TLS_REQD";
        case kRepErrUnknown:
            return "NBD_REP_ERR_UNKNOWN";
        case kRepErrShutdown:
            return "NBD_REP_ERR_SHUTDOWN";
        case kRepErrBlockSizeReqd:
            return "NBD_REP_ERR_BLOCK_SIZE_REQD";
        case kRepErrTooBig:
            return "NBD_REP_ERR_TOO_BIG";
        case kRepErrExtHeaderReqd:
            return "NBD_REP_ERR_EXT_HEADER_REQD";
    }
    return "unknown reply";
}

}  // namespace ashlar::nbd
