#include "block/nbd/options.h"

#include "nbd/protocol.h"
#include "nbd/uri.h"
#include "util/json.h"

namespace ashlar {

const OptionSet<NbdCommonOptions>& NbdCommonOptions::options() {
    using O = NbdCommonOptions;
    static const auto set =
        OptionSet<O>("nbd")
            .optional("export", &O::export_name, "name of the export (default: the empty name)")
            .optional("tls-creds", &O::tls_creds, "id of the TLS credentials")
            .optional("tls-hostname", &O::tls_hostname, "what the server's certificate must be for")
            .optional("x-dirty-bitmap", &O::dirty_bitmap,
                      "metadata context that the block status is to show, in the place of base:allocation")
            .optional("reconnect-delay", &O::reconnect_delay,
                      "seconds for which requests wait for a lost server to come back")
            .optional("open-timeout", &O::open_timeout, "seconds for which connecting is tried again at first")
            .optional("connections", &O::connections, "connections to use, if the server can have several: 1 to 16");
    return set;
}

const OptionSet<NbdOptions>& NbdOptions::options() {
    static const auto set = OptionSet<NbdOptions>("nbd")
                                .required("server", &NbdOptions::server, "address of the server")
                                .include(&NbdOptions::common);
    return set;
}

const OptionSet<NbdFlatOptions>& NbdFlatOptions::options() {
    using O = NbdFlatOptions;
    static const auto set = OptionSet<O>("nbd")
                                .optional("server", &O::server, "address of the server")
                                .optional("host", &O::host, "name or address of the server, for server.host")
                                .optional("port", &O::port, "port of the server, for server.port (10809)")
                                .optional("path", &O::path, "path of the server's socket, for server.path")
                                .include(&O::common);
    return set;
}

Result<NbdOptions> resolve_flat_options(NbdFlatOptions flat) {
    NbdOptions options{.common = std::move(flat.common)};
    if (flat.server) {
        if (flat.host || flat.port || flat.path)
            return fail("Cannot use 'server' and path/host/port at the same time");
        options.server = std::move(*flat.server);
    } else if (flat.path) {
        if (flat.host)
            return fail("path and host may not be used at the same time");
        if (flat.port)
            return fail("port may not be used without host");
        options.server.type = SocketType::Unix;
        options.server.unix_socket.path = std::move(*flat.path);
    } else if (flat.host) {
        options.server.inet.host = std::move(*flat.host);
        options.server.inet.port = flat.port.value_or(std::to_string(nbd::kDefaultPort));
    } else {
        return fail("NBD server address missing");
    }
    return options;
}

Result<nbd::SessionOptions> session_options(const NbdOptions& options) {
    const NbdCommonOptions& common = options.common;
    if (common.tls_creds || common.tls_hostname)
        return fail("Parameter '{}': TLS is not supported yet", common.tls_creds ? "tls-creds" : "tls-hostname");
    if (common.connections < 1 || common.connections > nbd::SessionOptions::kMaxConnections)
        return fail("Parameter 'connections' expects a number from 1 to {}", nbd::SessionOptions::kMaxConnections);
    auto address = options.server.address("server");
    if (!address)
        return std::unexpected(std::move(address.error()));
    make_absolute(*address);
    constexpr int64_t kSecond = 1'000'000'000;
    std::string name = nbd_filename(*address, common.export_name);
    return nbd::SessionOptions{.name = name.empty() ? to_string(*address) : name,
                               .address = std::move(*address),
                               .export_name = common.export_name,
                               .context = common.dirty_bitmap.value_or("base:allocation"),
                               .reconnect_delay_ns = common.reconnect_delay * kSecond,
                               .open_timeout_ns = common.open_timeout * kSecond,
                               .connections = common.connections};
}

namespace {

Json server_json(const SocketAddress& address) {
    if (const auto* un = std::get_if<UnixAddress>(&address)) {
        Json server{{"type", "unix"}, {"path", un->path}};
        if (un->abstract)
            server["abstract"] = true;
        return server;
    }
    if (const auto* vsock = std::get_if<VsockAddress>(&address))
        return {{"type", "vsock"}, {"cid", vsock->cid}, {"port", vsock->port}};
    const auto& inet = std::get<InetAddress>(address);
    return {{"type", "inet"}, {"host", inet.host}, {"port", inet.port}};
}

// HOST:PORT or [HOST]:PORT, of which the port may be anything.
Result<InetAddress> parse_host_port(std::string_view text) {
    const bool bracketed = text.starts_with('[');
    const size_t end = bracketed ? text.find("]:") : text.find(':');
    if (end == text.npos)
        return fail("error parsing address '{}'", text);
    return InetAddress{.host = std::string(text.substr(bracketed ? 1 : 0, end - (bracketed ? 1 : 0))),
                       .port = std::string(text.substr(end + (bracketed ? 2 : 1)))};
}

}  // namespace

Result<Json> parse_nbd_filename(std::string_view filename) {
    if (filename.contains("://")) {
        auto uri = nbd::parse_uri(filename);
        if (!uri && filename.starts_with("nbds"))
            return std::unexpected(std::move(uri.error()));
        if (!uri)
            return std::unexpected(Error{.message = "No valid URL specified", .hint = std::move(uri.error().message)});
        Json options{{"server", server_json(uri->address)}};
        if (!uri->export_name.empty())
            options["export"] = uri->export_name;
        return options;
    }
    constexpr std::string_view kExportName = ":exportname=";
    std::string_view address = filename.substr(filename.find(':') + 1), name;
    if (size_t at = address.find(kExportName); at != address.npos) {
        name = address.substr(at + kExportName.size());
        address = name.empty() ? "" : address.substr(0, at);
    }
    if (address.empty())
        return fail("NBD server address missing");
    Json options = Json::object();
    constexpr std::string_view kUnix = "unix:";
    if (address.starts_with(kUnix)) {
        options["server"] = server_json(UnixAddress{.path = std::string(address.substr(kUnix.size()))});
    } else {
        auto inet = parse_host_port(address);
        if (!inet)
            return std::unexpected(std::move(inet.error()));
        options["server"] = server_json(std::move(*inet));
    }
    if (!name.empty())
        options["export"] = name;
    return options;
}

std::string nbd_filename(const SocketAddress& address, std::string_view export_name) {
    std::string path = export_name.empty() ? "" : fmt::format("/{}", export_name);
    if (const auto* un = std::get_if<UnixAddress>(&address))
        return un->abstract ? "" : fmt::format("nbd+unix://{}?socket={}", path, un->path);
    if (const auto* inet = std::get_if<InetAddress>(&address)) {
        std::string host = inet->host.contains(':') ? fmt::format("[{}]", inet->host) : inet->host;
        return fmt::format("nbd://{}:{}{}", host, inet->port, path);
    }
    if (const auto* vsock = std::get_if<VsockAddress>(&address))
        return fmt::format("nbd+vsock://{}:{}{}", vsock->cid, vsock->port, path);
    return "";
}

}  // namespace ashlar
