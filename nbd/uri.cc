#include "nbd/uri.h"

#include <glib.h>

#include <charconv>
#include <memory>
#include <optional>

#include "nbd/handshake.h"

namespace ashlar::nbd {

namespace {

constexpr std::string_view kSchemes[] = {"nbd", "nbd+tcp", "nbd+unix", "nbd+vsock", "nbds", "nbds+unix", "nbds+vsock"};
constexpr std::string_view kDefaultCid = "2";  // VMADDR_CID_HOST

template <auto free>
struct Free {
    template <class T>
    void operator()(T* p) const {
        free(p);
    }
};

std::string_view scheme_of(std::string_view text) {
    size_t end = text.find(':');
    return end == text.npos ? std::string_view() : text.substr(0, end);
}

// Percent-decoding; unlike g_uri_unescape_string it gives back %00 too.
std::optional<std::string> decode(const char* text) {
    if (!text)
        return std::string();
    std::unique_ptr<GBytes, Free<g_bytes_unref>> bytes(g_uri_unescape_bytes(text, -1, nullptr, nullptr));
    if (!bytes)
        return std::nullopt;
    size_t size = 0;
    const char* data = static_cast<const char*>(g_bytes_get_data(bytes.get(), &size));
    return std::string(data, size);
}

std::string encode(std::string_view text, const char* reserved_allowed) {
    std::string out;
    for (size_t begin = 0; begin <= text.size();) {  // g_uri_escape_string stops at a NUL
        size_t end = std::min(text.find('\0', begin), text.size());
        std::string piece(text.substr(begin, end - begin));
        std::unique_ptr<char, Free<g_free>> escaped(g_uri_escape_string(piece.c_str(), reserved_allowed, false));
        out += escaped.get();
        if (end == text.size())
            break;
        out += "%00";
        begin = end + 1;
    }
    return out;
}

// RFC 3986, 3.2.2, and RFC 6874: an IPv6 address stands in brackets, the '%' before its zone is encoded too.
std::string encode_host(const std::string& host) {
    std::string address = host.substr(0, host.find('%'));
    bool is_ipv6 = address.contains(':') && g_hostname_is_ip_address(address.c_str());
    return is_ipv6 ? '[' + encode(host, ":") + ']' : encode(host, "");
}

// The value of the query parameter `socket`; every other parameter is refused but for experimental ones.
Result<std::optional<std::string>> parse_query(std::string_view uri, std::string_view query) {
    std::optional<std::string> socket;
    while (!query.empty()) {
        size_t end = query.find_first_of("&;");
        std::string pair(query.substr(0, end));
        query.remove_prefix(end == query.npos ? query.size() : end + 1);
        size_t equals = pair.find('=');
        std::string key = pair.substr(0, equals);
        auto value = decode(equals == pair.npos ? "" : pair.c_str() + equals + 1);
        if (!value)
            return fail("{}: {}: the percent-encoding is malformed", uri, key);
        if (key == "socket") {
            if (socket)
                return fail("{}: socket: is given twice", uri);
            socket = *value;
        } else if (!key.starts_with("x-") && !key.empty()) {
            return fail("{}: unknown parameter '{}'", uri, key);
        }
    }
    return socket;
}

}  // namespace

bool is_uri(std::string_view text) {
    std::string_view scheme = scheme_of(text);
    for (std::string_view known : kSchemes)
        if (scheme == known && (text.substr(scheme.size()).starts_with("://")))
            return true;
    return false;
}

Result<Uri> parse_uri(std::string_view text) {
    std::string_view scheme = scheme_of(text);
    if (!is_uri(text))
        return fail("{}: is not an NBD URI (expected nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH)",
                    text);
    if (scheme.starts_with("nbds"))
        return std::unexpected(
            fail("{}: TLS is not supported yet", text)
                .error()
                .with_hint("Use 'nbd" + std::string(scheme.substr(4)) + "://' on a network that you trust."));
    if (text.contains('\0'))
        return fail("an NBD URI must not contain NUL");

    char *host = nullptr, *path = nullptr, *query = nullptr, *fragment = nullptr, *userinfo = nullptr;
    int port = -1;
    GError* error = nullptr;
    bool split = g_uri_split(std::string(text).c_str(), G_URI_FLAGS_ENCODED, nullptr, &userinfo, &host, &port, &path,
                             &query, &fragment, &error);
    std::unique_ptr<char, Free<g_free>> own_host(host), own_path(path), own_query(query), own_fragment(fragment),
        own_userinfo(userinfo);
    std::unique_ptr<GError, Free<g_error_free>> own_error(error);
    if (!split)
        return fail("{}: {}", text, error->message);
    if (fragment)
        return fail("{}: an NBD URI has no fragment ('#{}')", text, fragment);

    std::string decoded_host = host ? host : "";  // GLib has decoded it
    if (!is_valid_string(decoded_host))
        return fail("{}: the host must be UTF-8 without NUL, of at most {} bytes", text, kMaxString);
    if (decoded_host.ends_with('%'))
        return fail("{}: the host '{}' lacks the zone after '%'", text, decoded_host);

    Uri uri;
    auto name = decode(path && path[0] == '/' ? path + 1 : path);
    if (!name)
        return fail("{}: the percent-encoding is malformed", text);
    if (!is_valid_string(*name))
        return fail("{}: the export name must be UTF-8 without NUL, of at most {} bytes", text, kMaxString);
    uri.export_name = *name;
    auto socket = parse_query(text, query ? query : "");
    if (!socket)
        return std::unexpected(std::move(socket).error());

    if (scheme == "nbd+unix") {
        if (!*socket || (*socket)->empty())
            return fail("{}: the parameter 'socket' is missing", text);
        if (!decoded_host.empty() || port >= 0)
            return fail("{}: a Unix socket has no host ('nbd+unix:///…')", text);
        bool abstract = (*socket)->front() == '\0';
        uri.address = UnixAddress{.path = abstract ? (*socket)->substr(1) : **socket, .abstract = abstract};
        return uri;
    }
    if (*socket)
        return fail("{}: the parameter 'socket' needs the scheme nbd+unix", text);
    std::string port_text = std::to_string(port >= 0 ? port : kDefaultPort);
    if (scheme == "nbd+vsock" && decoded_host.find_first_not_of("0123456789") != std::string::npos)
        return fail("{}: the host of nbd+vsock is a context identifier, a number", text);
    if (scheme == "nbd+vsock")
        uri.address = VsockAddress{decoded_host.empty() ? std::string(kDefaultCid) : decoded_host, port_text};
    else
        uri.address = InetAddress{.host = decoded_host, .port = port_text, .ipv4 = {}, .ipv6 = {}};
    return uri;
}

std::string to_string(const Uri& uri) {
    std::string name = encode(uri.export_name, "!$&'()*+,;=:@/");
    if (const auto* un = std::get_if<UnixAddress>(&uri.address)) {
        std::string path = un->abstract ? std::string(1, '\0') + un->path : un->path;
        return fmt::format("nbd+unix:///{}?socket={}", name, encode(path, "!$'()*,:@/"));
    }
    if (const auto* vsock = std::get_if<VsockAddress>(&uri.address))
        return fmt::format("nbd+vsock://{}:{}/{}", vsock->cid, vsock->port, name);
    if (const auto* inet = std::get_if<InetAddress>(&uri.address)) {
        return fmt::format("nbd://{}:{}/{}", encode_host(inet->host), inet->port, name);
    }
    return fmt::format("{}/{}", ashlar::to_string(uri.address), name);
}

}  // namespace ashlar::nbd
