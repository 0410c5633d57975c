#include "nbd/negotiation.h"

#include <algorithm>

#include "util/trace.h"

namespace ashlar::nbd {

namespace {

constexpr size_t kReadAtOnce = 4096;

// An option that declares more data than this is an attack, not a mistake: it is not even drained.
constexpr uint32_t kMaxDrained = kMaxPayload;

constexpr std::string_view kBitmapPrefix = "qemu:dirty-bitmap:";

struct OfferedContext {
    uint32_t id;
    std::string name;
};
std::vector<OfferedContext> contexts_of(const NbdExport& exported) {
    std::vector<OfferedContext> contexts = {{kContextBaseAllocation, "base:allocation"}};
    if (exported.has_allocation_depth())
        contexts.push_back({kContextAllocationDepth, "qemu:allocation-depth"});
    uint32_t id = kContextFirstBitmap;
    for (const auto& bitmap : exported.bitmaps())
        contexts.push_back({id++, std::string(kBitmapPrefix) + bitmap->name()});
    return contexts;
}

// LIST also answers to a namespace with its colon, and to all bitmaps; SET only to the whole name.
bool matches(std::string_view query, std::string_view name, uint32_t option) {
    if (query == name)
        return true;
    const bool is_group = query == kBitmapPrefix || query.find(':') + 1 == query.size();
    return option == kOptListMetaContext && !query.empty() && is_group && name.starts_with(query);
}

void trace_replies(const void* connection, Bytes replies) {
    if (!trace_enabled(TraceEvent::nbd_option_reply))
        return;
    while (!replies.empty()) {
        auto header = parse_option_reply_header(replies.first<kOptionReplyHeaderSize>());
        trace_nbd_option_reply(connection, header->option, header->type, header->length);
        replies = replies.subspan(kOptionReplyHeaderSize + header->length);
    }
}

}  // namespace

Task<std::optional<Negotiation::Outcome>> Negotiation::co_run() {
    auto greeting = build_greeting(kFlagFixedNewstyle | kFlagNoZeroes);
    if (!co_await co_send({greeting.begin(), greeting.end()}))
        co_return std::nullopt;
    std::array<std::byte, kClientFlagsSize> flags;
    if (co_await socket_.recv_exact(flags) <= 0)
        co_return std::nullopt;
    auto client = parse_client_flags(flags);
    if (!client)
        co_return std::nullopt;
    client_ = *client;

    Next next;
    do
        next = co_await co_option();
    while (next == Next::Option);
    co_return next == Next::Transmission ? std::move(outcome_) : std::nullopt;
}

Task<Negotiation::Next> Negotiation::co_option() {
    std::array<std::byte, kOptionHeaderSize> bytes;
    if (co_await socket_.recv_exact(bytes) <= 0)
        co_return Next::Close;
    auto header = parse_option_header(bytes);
    // Without fixed newstyle a client cannot read the reply to any other option.
    if (!header || (!client_.fixed_newstyle && header->option != kOptExportName))
        co_return Next::Close;

    trace_nbd_option(&socket_, header->option, header->length);
    std::vector<std::byte> out;
    if (header->length > kMaxOptionLength) {
        if (header->option == kOptExportName || header->length > kMaxDrained || !co_await co_discard(header->length))
            co_return Next::Close;
        if (header->option == kOptSetMetaContext)
            contexts_.clear();
        append_option_error(out, header->option,
                            {kRepErrTooBig, fmt::format("{} bytes of option data exceed the limit of {}",
                                                        header->length, kMaxOptionLength)});
        trace_replies(&socket_, out);
        co_return co_await co_send(std::move(out)) ? Next::Option : Next::Close;
    }
    std::vector<std::byte> data;
    if (!co_await co_read_data(header->length, data))
        co_return Next::Close;
    Next next = handle(header->option, data, out);
    if (header->option != kOptExportName)
        trace_replies(&socket_, out);
    if (!out.empty() && !co_await co_send(std::move(out)))
        co_return Next::Close;
    co_return next;
}

Task<bool> Negotiation::co_read_data(uint32_t length, std::vector<std::byte>& data) {
    while (data.size() < length) {
        size_t at = data.size();
        data.resize(at + std::min<size_t>(kReadAtOnce, length - at));
        if (co_await socket_.recv_exact(std::span(data).subspan(at)) <= 0)
            co_return false;
    }
    co_return true;
}

Task<bool> Negotiation::co_discard(uint32_t length) {
    std::vector<std::byte> scratch(kReadAtOnce);
    while (length > 0) {
        int n = co_await socket_.recv(std::span(scratch).first(std::min<size_t>(scratch.size(), length)));
        if (n <= 0)
            co_return false;
        length -= static_cast<uint32_t>(n);
    }
    co_return true;
}

Task<bool> Negotiation::co_send(std::vector<std::byte> out) {
    iovec iov{out.data(), out.size()};
    co_return co_await socket_.send_all({&iov, 1}) == 0;
}

Negotiation::Next Negotiation::handle(uint32_t option, Bytes data, std::vector<std::byte>& out) {
    if (stopping_ && option != kOptAbort) {
        if (option == kOptExportName)
            return Next::Close;
        append_option_error(out, option, {kRepErrShutdown, "the server is shutting down"});
        return Next::Option;
    }
    switch (option) {
        case kOptExportName:
            return handle_export_name(data, out);
        case kOptAbort:  // whatever data it has is ignored
            append_option_reply(out, option, kRepAck);
            return Next::Close;
        case kOptList:
            handle_list(data, out);
            return Next::Option;
        case kOptStartTls:
            if (auto ok = parse_no_data(data); !ok)
                append_option_error(out, option, ok.error());
            else
                append_option_error(out, option, {kRepErrUnsup, "this server does not offer TLS"});
            return Next::Option;
        case kOptInfo:
        case kOptGo:
            return handle_info(option, data, out);
        case kOptStructuredReply:
        case kOptExtendedHeaders:
            handle_style(option, data, out);
            return Next::Option;
        case kOptListMetaContext:
        case kOptSetMetaContext:
            handle_meta_context(option, data, out);
            return Next::Option;
    }
    append_option_error(out, option, {kRepErrUnsup, fmt::format("unknown option {}", option)});
    return Next::Option;
}

bool Negotiation::has_contexts_for(const NbdExport& exported) const {
    return !contexts_.empty() && context_export_ == exported.name();
}

void Negotiation::choose(std::shared_ptr<NbdExport> exported, bool block_sizes_agreed) {
    bool has_contexts = has_contexts_for(*exported);
    ExportInfo info = exported->info(style_, has_contexts);
    BlockSizes sizes = exported->block_sizes(block_sizes_agreed);
    TransmissionSettings settings{.limits = {.size = info.size,
                                             .flags = info.flags,
                                             .min_block = sizes.minimum,
                                             .max_payload = sizes.maximum,
                                             .style = style_,
                                             .has_meta_contexts = has_contexts},
                                  .contexts = has_contexts ? std::move(contexts_) : std::vector<uint32_t>(),
                                  .max_requests = server_.options().max_requests,
                                  .max_bytes = server_.options().max_bytes,
                                  .stop_timeout_ns = server_.options().stop_timeout_ns};
    outcome_.emplace(std::move(exported), std::move(settings));
}

// This option cannot be answered with an error: a client that gets it wrong is disconnected.
Negotiation::Next Negotiation::handle_export_name(Bytes data, std::vector<std::byte>& out) {
    auto name = parse_export_name(data);
    if (!name || style_ == HeaderStyle::Extended)
        return Next::Close;
    auto exported = server_.find_export(std::string(*name));
    if (!exported)
        return Next::Close;
    append_export_name_reply(out, exported->info(style_, has_contexts_for(*exported)), client_.no_zeroes);
    choose(std::move(exported), false);
    return Next::Transmission;
}

Negotiation::Next Negotiation::handle_info(uint32_t option, Bytes data, std::vector<std::byte>& out) {
    auto request = parse_info_request(data);
    if (!request) {
        append_option_error(out, option, request.error());
        return Next::Option;
    }
    auto exported = server_.find_export(std::string(request->name));
    if (!exported) {
        append_option_error(out, option, {kRepErrUnknown, fmt::format("export '{}' not present", request->name)});
        return Next::Option;
    }
    bool block_sizes_agreed = request->wants(kInfoBlockSize);
    if (request->wants(kInfoName))
        append_info_string(out, option, kInfoName, exported->name());
    if (request->wants(kInfoDescription) && !exported->description().empty())
        append_info_string(out, option, kInfoDescription, exported->description());
    append_info_block_size(out, option, exported->block_sizes(block_sizes_agreed));
    append_info_export(out, option, exported->info(style_, has_contexts_for(*exported)));
    append_option_reply(out, option, kRepAck);
    if (option == kOptInfo)
        return Next::Option;
    choose(std::move(exported), block_sizes_agreed);
    return Next::Transmission;
}

void Negotiation::handle_list(Bytes data, std::vector<std::byte>& out) {
    if (auto ok = parse_no_data(data); !ok)
        return append_option_error(out, kOptList, ok.error());
    for (const auto& [name, exported] : server_.exports())
        append_server_reply(out, name, exported->description());
    append_option_reply(out, kOptList, kRepAck);
}

void Negotiation::handle_style(uint32_t option, Bytes data, std::vector<std::byte>& out) {
    if (auto ok = parse_no_data(data); !ok)
        return append_option_error(out, option, ok.error());
    if (option == kOptStructuredReply && style_ == HeaderStyle::Extended)
        return append_option_error(out, option, {kRepErrExtHeaderReqd, "extended headers are already negotiated"});
    HeaderStyle wanted = option == kOptExtendedHeaders ? HeaderStyle::Extended : HeaderStyle::Structured;
    if (style_ == wanted)
        return append_option_error(out, option,
                                   {kRepErrInvalid, fmt::format("{} is already negotiated", option_name(option))});
    style_ = wanted;
    append_option_reply(out, option, kRepAck);
}

void Negotiation::handle_meta_context(uint32_t option, Bytes data, std::vector<std::byte>& out) {
    bool set = option == kOptSetMetaContext;
    if (set)
        contexts_.clear();  // whatever becomes of this request
    if (style_ == HeaderStyle::Simple)
        return append_option_error(out, option,
                                   {kRepErrInvalid, "structured replies or extended headers must be negotiated first"});
    auto request = parse_meta_context_request(data);
    if (!request)
        return append_option_error(out, option, request.error());
    auto exported = server_.find_export(std::string(request->name));
    if (!exported)
        return append_option_error(out, option,
                                   {kRepErrUnknown, fmt::format("export '{}' not present", request->name)});
    for (const OfferedContext& context : contexts_of(*exported)) {
        bool wanted = std::ranges::any_of(request->queries, [&](std::string_view query) {  //
            return matches(query, context.name, option);
        });
        if (!set && request->queries.empty())
            wanted = true;
        if (!wanted)
            continue;
        append_meta_context_reply(out, option, set ? context.id : 0, context.name);
        if (set)
            contexts_.push_back(context.id);
    }
    if (set)
        context_export_ = request->name;
    append_option_reply(out, option, kRepAck);
}

}  // namespace ashlar::nbd
