#include "monitor/qmp_address.h"

#include "util/keyval.h"
#include "util/options.h"
#include "util/similar.h"

namespace ashlar {

namespace {

// What QEMU's socket character devices take, as far as it makes sense here.
struct SocketOptions {
    bool server = false;
    std::optional<bool> wait;
    std::optional<bool> nodelay;
    std::optional<bool> ipv4;
    std::optional<bool> ipv6;
    std::optional<uint16_t> to;
    std::optional<bool> abstract;
    std::optional<bool> tight;

    static const OptionSet<SocketOptions>& options() {
        static const auto set = OptionSet<SocketOptions>("-qmp")
                                    .optional("server", &SocketOptions::server, "listen instead of connecting")
                                    .optional("wait", &SocketOptions::wait, "wait for the first client at start-up")
                                    .optional("nodelay", &SocketOptions::nodelay, "send small packets at once")
                                    .optional("ipv4", &SocketOptions::ipv4, "use IPv4")
                                    .optional("ipv6", &SocketOptions::ipv6, "use IPv6")
                                    .optional("to", &SocketOptions::to, "the last port to try")
                                    .optional("abstract", &SocketOptions::abstract, "an abstract Unix socket")
                                    .optional("tight", &SocketOptions::tight, "whose name is not padded");
        return set;
    }
};

}  // namespace

Result<QmpAddress> parse_qmp_address(std::string_view text) {
    std::string_view kind = text.substr(0, text.find_first_of(":,"));
    if (kind == "stdio") {
        if (text != kind)
            return fail("stdio: '{}': there are no options", text.substr(kind.size()));
        return QmpAddress{.stdio = true, .text = "stdio"};
    }
    constexpr std::string_view kKinds[] = {"stdio", "tcp", "unix"};
    if (kind != "unix" && kind != "tcp")
        return std::unexpected(
            Error{fmt::format("'{}': unknown kind of socket '{}'{}", text, kind, did_you_mean(kind, kKinds))}.with_hint(
                "Give unix:PATH,server=on,wait=off or tcp:HOST:PORT,server=on,wait=off or stdio."));
    std::string_view rest = text.substr(std::min(text.size(), kind.size() + 1));

    // The address ends at the first single comma, as everywhere in key=value.
    auto keyval = parse_keyval(fmt::format("address={}", rest), {.implied_key = {}, .flags = true});
    if (!keyval)
        return std::unexpected(std::move(keyval.error()));
    std::string address = *json_string(keyval->options["address"]);
    keyval->options.erase("address");
    auto options = SocketOptions::options().parse(keyval->options, Typing::Lenient);
    if (!options)
        return std::unexpected(std::move(options.error()));
    if (options->wait && !options->server)
        return fail("'wait' option is incompatible with a socket in client mode: add server=on");
    if (address.empty())
        return fail("{} is missing", kind == "unix" ? "the path of the socket" : "the port");

    QmpAddress result{.server = options->server, .wait = options->wait.value_or(true)};
    if (kind == "unix") {
        if (options->nodelay || options->ipv4 || options->ipv6 || options->to)
            return fail("nodelay, ipv4, ipv6 and to are for tcp:");
        result.socket = UnixAddress{address, options->abstract.value_or(false), options->tight.value_or(true)};
    } else {
        if (options->abstract || options->tight)
            return fail("abstract and tight are for unix:");
        auto parsed = parse_socket_address("tcp:" + address);
        if (!parsed)
            return std::unexpected(std::move(parsed.error()));
        auto& inet = std::get<InetAddress>(*parsed);
        inet.ipv4 = options->ipv4;
        inet.ipv6 = options->ipv6;
        inet.to = options->to.value_or(0);
        result.nodelay = options->nodelay.value_or(false);
        result.socket = std::move(inet);
    }
    result.text = to_string(result.socket);
    make_absolute(result.socket);
    return result;
}

}  // namespace ashlar
