#include "nbd/client.h"

#include <fcntl.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "util/thread_pool.h"

namespace ashlar::nbd {

namespace {

constexpr uint16_t kWantedInfos[] = {kInfoName, kInfoDescription, kInfoBlockSize};

struct OptionReplyMessage {
    OptionReplyHeader header;
    std::vector<std::byte> data;

    std::string text() const { return {reinterpret_cast<const char*>(data.data()), data.size()}; }
};

std::unexpected<Error> broken(int ret) {
    if (ret == 0 || ret == -EPIPE)
        return std::unexpected(Error{.message = "the NBD server closed the connection", .code = ECONNRESET});
    return fail_errno(-ret, "the NBD server cannot be reached");
}

std::unexpected<Error> refused(const OptionReplyMessage& reply) {
    bool has_text = is_valid_string(reply.text()) && !reply.data.empty();
    Error error;
    if (reply.header.option == kOptGo && reply.header.type == kRepErrUnknown) {
        error.message = "Requested export not available";
        if (has_text)
            error.hint = "server reported: " + reply.text();
    } else {
        error = fail("the NBD server refused {}: {}", option_name(reply.header.option),
                     has_text ? reply.text() : std::string(option_reply_name(reply.header.type)))
                    .error();
    }
    error.code = reply.header.type == kRepErrShutdown  ? ESHUTDOWN
                 : reply.header.type == kRepErrUnknown ? ENOENT
                                                       : EPERM;
    return std::unexpected(std::move(error));
}

std::unexpected<Error> malformed(const OptionReplyMessage& reply) {
    return fail("the NBD server answered {} with a malformed {}", option_name(reply.header.option),
                option_reply_name(reply.header.type));
}

// One side of the conversation after the greeting.
class Conversation {
public:
    explicit Conversation(Socket& socket) : socket_(socket) {}

    Task<Result<>> co_greet();
    Task<Result<>> co_send_option(uint32_t option, std::vector<std::byte> data);
    Task<Result<OptionReplyMessage>> co_reply(uint32_t option);
    // For an option that is answered with ACK or an error: whether it was accepted.
    Task<Result<bool>> co_ask(uint32_t option);
    // An export that the server refuses is an Error of the class DeviceNotFound; of the class CommandNotFound, if it
    // does not know the option.
    Task<Result<ExportDetails>> co_info(uint32_t option, std::string name);
    Task<Result<std::vector<MetaContext>>> co_contexts(uint32_t option, std::string name,
                                                       std::vector<std::string> queries);
    Task<Result<ExportDetails>> co_export_name(std::string name);

    bool fixed_newstyle() const { return greeting_.flags & kFlagFixedNewstyle; }

private:
    Socket& socket_;
    Greeting greeting_;
};

Task<Result<>> Conversation::co_greet() {
    std::array<std::byte, kGreetingSize> bytes;
    if (int ret = co_await socket_.recv_exact(bytes); ret <= 0)
        co_return broken(ret);
    auto greeting = parse_greeting(bytes);
    if (!greeting)
        co_return fail("the server does not speak the NBD protocol (newstyle)");
    greeting_ = *greeting;
    uint32_t flags = (greeting->flags & kFlagFixedNewstyle ? kClientFixedNewstyle : 0) |
                     (greeting->flags & kFlagNoZeroes ? kClientNoZeroes : 0);
    std::byte out[4] = {std::byte{}, std::byte{}, std::byte{}, static_cast<std::byte>(flags)};
    iovec iov{out, sizeof out};
    if (int ret = co_await socket_.send_all({&iov, 1}); ret < 0)
        co_return broken(ret);
    co_return {};
}

Task<Result<>> Conversation::co_send_option(uint32_t option, std::vector<std::byte> data) {
    std::vector<std::byte> out;
    append_option(out, option, data);
    iovec iov{out.data(), out.size()};
    if (int ret = co_await socket_.send_all({&iov, 1}); ret < 0)
        co_return broken(ret);
    co_return {};
}

Task<Result<OptionReplyMessage>> Conversation::co_reply(uint32_t option) {
    std::array<std::byte, kOptionReplyHeaderSize> bytes;
    if (int ret = co_await socket_.recv_exact(bytes); ret <= 0)
        co_return broken(ret);
    auto header = parse_option_reply_header(bytes);
    if (!header || header->option != option)
        co_return fail("the NBD server answered {} with something that is not its reply", option_name(option));
    if (header->length > kMaxOptionReply)
        co_return fail("the NBD server answered {} with {} bytes, more than the limit of {}", option_name(option),
                       header->length, kMaxOptionReply);
    OptionReplyMessage reply{*header, std::vector<std::byte>(header->length)};
    if (header->length > 0) {
        if (int ret = co_await socket_.recv_exact(reply.data); ret <= 0)
            co_return broken(ret);
    }
    co_return reply;
}

Task<Result<bool>> Conversation::co_ask(uint32_t option) {
    if (auto sent = co_await co_send_option(option, {}); !sent)
        co_return std::unexpected(std::move(sent).error());
    auto reply = co_await co_reply(option);
    if (!reply)
        co_return std::unexpected(std::move(reply).error());
    if (reply->header.type != kRepAck && !reply->header.is_error())
        co_return malformed(*reply);
    co_return reply->header.type == kRepAck;
}

Task<Result<ExportDetails>> Conversation::co_info(uint32_t option, std::string name) {
    if (auto sent = co_await co_send_option(option, build_info_request(name, kWantedInfos)); !sent)
        co_return std::unexpected(std::move(sent).error());
    ExportDetails details{.name = name};
    bool has_export = false;
    size_t infos = 0;
    for (;;) {
        auto reply = co_await co_reply(option);
        if (!reply)
            co_return std::unexpected(std::move(reply).error());
        if (reply->header.is_error())
            co_return std::unexpected(refused(*reply).error().with_class(
                reply->header.type == kRepErrUnsup ? ErrorClass::CommandNotFound : ErrorClass::DeviceNotFound));
        if (reply->header.type == kRepAck)
            break;
        if (infos++ == kMaxInfos)
            co_return fail("the NBD server answered {} with more than {} informations", option_name(option), kMaxInfos);
        auto info = reply->header.type == kRepInfo ? parse_info_reply(reply->data) : std::nullopt;
        if (!info)
            co_return malformed(*reply);
        switch (info->type) {
            case kInfoExport:
                details.info = info->export_info;
                has_export = true;
                break;
            case kInfoName:
                details.name = info->text;
                break;
            case kInfoDescription:
                details.description = info->text;
                break;
            case kInfoBlockSize:
                details.block_sizes = info->block_sizes;
                break;
        }
    }
    if (!has_export)
        co_return fail("the NBD server acknowledged {} without the size of the export", option_name(option));
    co_return details;
}

Task<Result<std::vector<MetaContext>>> Conversation::co_contexts(uint32_t option, std::string name,
                                                                 std::vector<std::string> queries) {
    if (auto sent = co_await co_send_option(option, build_meta_context_request(name, queries)); !sent)
        co_return std::unexpected(std::move(sent).error());
    std::vector<MetaContext> contexts;
    for (;;) {
        auto reply = co_await co_reply(option);
        if (!reply)
            co_return std::unexpected(std::move(reply).error());
        if (reply->header.is_error())
            co_return std::vector<MetaContext>{};  // not supported, or not for this export
        if (reply->header.type == kRepAck)
            co_return contexts;
        auto context = reply->header.type == kRepMetaContext ? parse_meta_context_reply(reply->data) : std::nullopt;
        if (!context)
            co_return malformed(*reply);
        if (contexts.size() == kMaxListed)
            co_return fail("the NBD server lists more than {} metadata contexts", kMaxListed);
        if (option == kOptSetMetaContext) {
            if (std::ranges::find(queries, context->name) == queries.end())
                co_return fail("the NBD server selected the metadata context '{}', for which it was not asked",
                               context->name);
            for (const MetaContext& other : contexts)
                if (other.id == context->id || other.name == context->name)
                    co_return fail("the NBD server selected the metadata contexts '{}' and '{}' with the ids {} and {}",
                                   other.name, context->name, other.id, context->id);
        }
        contexts.push_back({context->id, std::string(context->name)});
    }
}

Task<Result<ExportDetails>> Conversation::co_export_name(std::string name) {
    Bytes bytes = std::as_bytes(std::span(name));
    if (auto sent = co_await co_send_option(kOptExportName, {bytes.begin(), bytes.end()}); !sent)
        co_return std::unexpected(std::move(sent).error());
    std::array<std::byte, kExportNameReplySize> reply;
    if (int ret = co_await socket_.recv_exact(reply); ret <= 0)
        co_return ret == 0 ? fail("the NBD server has no export '{}'", name) : broken(ret);
    if (!(greeting_.flags & kFlagNoZeroes)) {
        std::array<std::byte, kExportNameReplyZeroes> zeroes;
        if (int ret = co_await socket_.recv_exact(zeroes); ret <= 0)
            co_return broken(ret);
    }
    co_return ExportDetails{.name = name, .info = parse_export_name_reply(reply)};
}

}  // namespace

namespace {

// As QEMU writes it in this message.
std::string shown(const SocketAddress& address) {
    if (const auto* inet = std::get_if<InetAddress>(&address))
        return fmt::format("{}:{}", inet->host, inet->port);
    if (const auto* un = std::get_if<UnixAddress>(&address); un && !un->abstract)
        return un->path;
    if (const auto* vsock = std::get_if<VsockAddress>(&address))
        return fmt::format("{}:{}", vsock->cid, vsock->port);
    return ashlar::to_string(address);
}

Result<> take_inherited(ConnectionAttempt& attempt, int number) {
    UniqueFd fd(fcntl(number, F_DUPFD_CLOEXEC, 0));
    int type = 0;
    socklen_t size = sizeof type;
    if (!fd || getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_STREAM)
        return fail("File descriptor '{}' is not a stream socket", number);
    attempt.socket = Socket(std::move(fd));
    return {};
}

// What the server says must make sense before it is used.
Result<> check_details(ExportDetails& details) {
    constexpr uint32_t kMaxMinimum = 64u << 10;
    if (details.info.size > static_cast<uint64_t>(INT64_MAX))
        return fail("the NBD server's export has {} bytes, more than the limit of {}", details.info.size, INT64_MAX);
    if (!details.block_sizes)
        return {};
    auto& [minimum, preferred, maximum] = *details.block_sizes;
    if (!std::has_single_bit(minimum) || minimum > kMaxMinimum)
        return fail("the NBD server's minimum block size of {} is not a power of two of at most {}", minimum,
                    kMaxMinimum);
    if (details.info.size % minimum != 0)
        return fail("the size of the NBD server's export, {}, is not a multiple of its minimum block size of {}",
                    details.info.size, minimum);
    if (maximum < minimum)
        return fail("the NBD server's maximum block size of {} is below its minimum of {}", maximum, minimum);
    maximum -= maximum % minimum;
    if (!std::has_single_bit(preferred) || preferred < minimum)
        preferred = minimum;
    return {};
}

}  // namespace

Task<Result<>> co_connect(ConnectionAttempt& attempt, SocketAddress address) {
    if (const auto* inherited = std::get_if<FdAddress>(&address))
        co_return take_inherited(attempt, inherited->fd);
    auto resolved = std::holds_alternative<InetAddress>(address)
                        ? co_await run_blocking([&] { return resolve(address, ResolveFor::Connect); })
                        : resolve(address, ResolveFor::Connect);
    if (!resolved)
        co_return std::unexpected(std::move(resolved).error());
    int error = -ECANCELED;
    for (const ResolvedAddress& one : *resolved) {
        if (attempt.given_up)
            break;
        UniqueFd fd(::socket(one.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (!fd) {
            error = -errno;
            continue;
        }
        attempt.socket = Socket(std::move(fd));
        error = co_await attempt.socket.connect(one.get(), one.length);
        if (error == 0) {
            prepare_for_requests(attempt.socket.fd());
            co_return {};
        }
    }
    co_return fail_errno(-error, "Failed to connect to '{}'", shown(address));
}

Task<Result<Socket>> co_connect(SocketAddress address) {
    ConnectionAttempt attempt;
    if (auto connected = co_await co_connect(attempt, std::move(address)); !connected)
        co_return std::unexpected(std::move(connected).error());
    co_return std::move(attempt.socket);
}

Task<Result<Entered>> co_enter(Socket& socket, EnterOptions options) {
    if (!is_valid_string(options.export_name))
        co_return fail("the export name must be UTF-8 without NUL, of at most {} bytes", kMaxString);
    Conversation server(socket);
    if (auto greeted = co_await server.co_greet(); !greeted)
        co_return std::unexpected(std::move(greeted).error());
    Entered entered;
    if (!server.fixed_newstyle()) {
        auto details = co_await server.co_export_name(options.export_name);
        if (!details)
            co_return std::unexpected(std::move(details).error());
        entered.details = std::move(*details);
        if (auto sane = check_details(entered.details); !sane)
            co_return std::unexpected(std::move(sane).error());
        co_return entered;
    }
    if (options.extended) {
        auto accepted = co_await server.co_ask(kOptExtendedHeaders);
        if (!accepted)
            co_return std::unexpected(std::move(accepted).error());
        if (*accepted)
            entered.style = HeaderStyle::Extended;
    }
    if (options.structured && entered.style == HeaderStyle::Simple) {
        auto accepted = co_await server.co_ask(kOptStructuredReply);
        if (!accepted)
            co_return std::unexpected(std::move(accepted).error());
        if (*accepted)
            entered.style = HeaderStyle::Structured;
    }
    std::vector<MetaContext> contexts;
    if (!options.contexts.empty() && entered.style != HeaderStyle::Simple) {
        auto selected = co_await server.co_contexts(kOptSetMetaContext, options.export_name, options.contexts);
        if (!selected)
            co_return std::unexpected(std::move(selected).error());
        contexts = std::move(*selected);
    }
    auto details = co_await server.co_info(kOptGo, options.export_name);
    if (!details && details.error().error_class == ErrorClass::CommandNotFound)  // an old server
        details = co_await server.co_export_name(options.export_name);
    if (!details) {
        details.error().error_class = ErrorClass::Generic;
        co_return std::unexpected(std::move(details).error());
    }
    entered.details = std::move(*details);
    entered.details.contexts = std::move(contexts);
    if (auto sane = check_details(entered.details); !sane)
        co_return std::unexpected(std::move(sane).error());
    co_return entered;
}

Task<Result<std::vector<ExportDetails>>> co_list(Socket& socket) {
    Conversation server(socket);
    if (auto greeted = co_await server.co_greet(); !greeted)
        co_return std::unexpected(std::move(greeted).error());
    if (!server.fixed_newstyle())
        co_return fail("the NBD server is too old to list its exports");
    auto structured = co_await server.co_ask(kOptStructuredReply);
    if (!structured)
        co_return std::unexpected(std::move(structured).error());

    if (auto sent = co_await server.co_send_option(kOptList, {}); !sent)
        co_return std::unexpected(std::move(sent).error());
    std::vector<ExportDetails> exports;
    for (;;) {
        auto reply = co_await server.co_reply(kOptList);
        if (!reply)
            co_return std::unexpected(std::move(reply).error());
        if (reply->header.is_error())
            co_return refused(*reply);
        if (reply->header.type == kRepAck)
            break;
        auto one = reply->header.type == kRepServer ? parse_server_reply(reply->data) : std::nullopt;
        if (!one)
            co_return malformed(*reply);
        if (exports.size() == kMaxListed)
            co_return fail("the NBD server lists more than {} exports", kMaxListed);
        exports.push_back({.name = std::string(one->name), .description = std::string(one->description)});
    }
    for (ExportDetails& one : exports) {
        auto details = co_await server.co_info(kOptInfo, one.name);
        if (!details) {
            if (details.error().error_class == ErrorClass::Generic)
                co_return std::unexpected(std::move(details).error());
            continue;
        }
        std::string description = std::move(one.description);
        one = std::move(*details);
        if (one.description.empty())
            one.description = std::move(description);
        if (*structured) {
            auto contexts = co_await server.co_contexts(kOptListMetaContext, one.name, {});
            if (!contexts)
                co_return std::unexpected(std::move(contexts).error());
            one.contexts = std::move(*contexts);
        }
    }
    // The server may close instead of answering; either way nothing is left to do.
    (void)co_await server.co_ask(kOptAbort);
    co_return exports;
}

}  // namespace ashlar::nbd
