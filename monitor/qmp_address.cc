#include "monitor/qmp_address.h"

#include "util/keyval.h"
#include "util/options.h"
#include "util/similar.h"

namespace ashlar {

namespace {

constexpr std::string_view kKinds[] = {"file", "null", "pty", "stdio", "tcp", "unix"};  // the others are no sockets

}  // namespace

const OptionSet<CharSocketOptions>& CharSocketOptions::options() {
    static const auto set = OptionSet<CharSocketOptions>("socket")
                                .optional("server", &CharSocketOptions::server, "listen instead of connecting")
                                .optional("wait", &CharSocketOptions::wait, "wait for the first client at start-up")
                                .optional("nodelay", &CharSocketOptions::nodelay, "send small packets at once")
                                .optional("ipv4", &CharSocketOptions::ipv4, "use IPv4")
                                .optional("ipv6", &CharSocketOptions::ipv6, "use IPv6")
                                .optional("to", &CharSocketOptions::to, "the last port to try")
                                .optional("abstract", &CharSocketOptions::abstract, "an abstract Unix socket")
                                .optional("tight", &CharSocketOptions::tight, "whose name is not padded");
    return set;
}

Result<QmpAddress> make_qmp_address(SocketAddress address, const CharSocketOptions& options) {
    if (options.wait && !options.server)
        return fail("'wait' option is incompatible with a socket in client mode: add server=on");
    QmpAddress result{.server = options.server, .wait = options.wait.value_or(true)};
    if (auto* unix_socket = std::get_if<UnixAddress>(&address)) {
        if (options.nodelay || options.ipv4 || options.ipv6 || options.to)
            return fail("nodelay, ipv4, ipv6 and to are for tcp:");
        unix_socket->abstract = options.abstract.value_or(false);
        unix_socket->tight = options.tight.value_or(true);
    } else {
        if (options.abstract || options.tight)
            return fail("abstract and tight are for unix:");
        auto& inet = std::get<InetAddress>(address);
        inet.ipv4 = options.ipv4;
        inet.ipv6 = options.ipv6;
        inet.to = options.to.value_or(0);
        result.nodelay = options.nodelay.value_or(false);
    }
    result.text = to_string(address);
    result.socket = std::move(address);
    make_absolute(result.socket);
    return result;
}

Result<QmpAddress> parse_qmp_address(std::string_view text) {
    std::string_view kind = text.substr(0, text.find_first_of(":,"));
    if (kind != "unix" && kind != "tcp")
        return std::unexpected(
            Error{fmt::format("'{}': unknown kind of socket '{}'{}", text, kind, did_you_mean(kind, kKinds))}.with_hint(
                "Give unix:PATH,server=on,wait=off, tcp:HOST:PORT,server=on,wait=off, stdio, pty, null or file:PATH."));
    std::string_view rest = text.substr(std::min(text.size(), kind.size() + 1));

    // The address ends at the first single comma, as everywhere in key=value.
    auto keyval = parse_keyval(fmt::format("address={}", rest), {.implied_key = {}, .flags = true});
    if (!keyval)
        return std::unexpected(std::move(keyval.error()));
    std::string address = *json_string(keyval->options["address"]);
    keyval->options.erase("address");
    auto options = CharSocketOptions::options().parse(keyval->options, Typing::Lenient);
    if (!options)
        return std::unexpected(std::move(options.error()));
    if (address.empty())
        return fail("{} is missing", kind == "unix" ? "the path of the socket" : "the port");

    if (kind == "unix")
        return make_qmp_address(UnixAddress{address}, *options);
    auto inet = parse_socket_address("tcp:" + address);
    if (!inet)
        return std::unexpected(std::move(inet.error()));
    return make_qmp_address(std::move(*inet), *options);
}

}  // namespace ashlar
