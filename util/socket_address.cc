#include "util/socket_address.h"

#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>

namespace ashlar {

namespace {

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
    Number value{};
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size())
        return std::nullopt;
    return value;
}

std::optional<bool> parse_switch(std::string_view text) {
    if (text == "on" || text == "yes" || text == "true" || text == "y")
        return true;
    if (text == "off" || text == "no" || text == "false" || text == "n")
        return false;
    return std::nullopt;
}

// One of `,to=PORT`, `,ipv4[=on|off]`, `,ipv6[=on|off]`.
Result<> parse_inet_option(std::string_view whole, std::string_view option, InetAddress& address) {
    size_t equals = option.find('=');
    std::string_view key = option.substr(0, equals);
    bool has_value = equals != option.npos;
    std::string_view value = has_value ? option.substr(equals + 1) : "on";
    if (key == "to") {
        auto to = parse_number<uint16_t>(value);
        if (!to || *to == 0)
            return fail("{}: to: '{}' is not a port number", whole, value);
        address.to = *to;
    } else if (key == "ipv4" || key == "ipv6") {
        auto on = parse_switch(value);
        if (!on)
            return fail("{}: {}: expected 'on' or 'off', not '{}'", whole, key, value);
        (key == "ipv4" ? address.ipv4 : address.ipv6) = *on;
    } else {
        return fail("{}: unknown option '{}'", whole, key);
    }
    return {};
}

Result<SocketAddress> parse_inet(std::string_view whole, std::string_view text) {
    InetAddress address;
    size_t comma = text.find(',');
    std::string_view host_port = text.substr(0, comma);
    std::string_view port;
    if (host_port.starts_with('[')) {
        size_t end = host_port.find(']');
        if (end == host_port.npos || !host_port.substr(end + 1).starts_with(':'))
            return fail("{}: expected '[IPV6-ADDRESS]:PORT'", whole);
        address.host = host_port.substr(1, end - 1);
        port = host_port.substr(end + 2);
    } else {
        size_t colon = host_port.rfind(':');
        if (colon == host_port.npos)
            return fail("{}: the port is missing (expected 'HOST:PORT')", whole);
        address.host = host_port.substr(0, colon);
        port = host_port.substr(colon + 1);
        if (address.host.contains(':'))
            return fail("{}: an IPv6 address must be in brackets ('[IPV6-ADDRESS]:PORT')", whole);
    }
    if (port.empty())
        return fail("{}: the port is missing (expected 'HOST:PORT')", whole);
    address.port = port;
    while (comma != text.npos) {
        text.remove_prefix(comma + 1);
        comma = text.find(',');
        if (auto ok = parse_inet_option(whole, text.substr(0, comma), address); !ok)
            return std::unexpected(std::move(ok).error());
    }
    return address;
}

Result<ResolvedAddress> resolve_unix(const UnixAddress& address) {
    ResolvedAddress resolved;
    auto& un = reinterpret_cast<sockaddr_un&>(resolved.storage);
    un.sun_family = AF_UNIX;
    // A path needs its terminating NUL, an abstract name its leading one.
    constexpr size_t kMaxPath = sizeof un.sun_path - 1;
    if (address.path.size() > kMaxPath)
        return fail("unix:{}: path: {} bytes exceed the limit of {}", address.path, address.path.size(), kMaxPath);
    if (address.path.empty())
        return fail("unix: path: must not be empty");
    std::memcpy(un.sun_path + (address.abstract ? 1 : 0), address.path.data(), address.path.size());
    bool padded = address.abstract && !address.tight;
    resolved.length = padded ? sizeof un : offsetof(sockaddr_un, sun_path) + address.path.size() + 1;
    return resolved;
}

Result<ResolvedAddress> resolve_vsock(const VsockAddress& address) {
    ResolvedAddress resolved;
    auto& vm = reinterpret_cast<sockaddr_vm&>(resolved.storage);
    vm.svm_family = AF_VSOCK;
    auto cid = address.cid == "any" || address.cid.empty() ? VMADDR_CID_ANY : parse_number<uint32_t>(address.cid);
    if (!cid)
        return fail("vsock:{}:{}: cid: expected a number or 'any'", address.cid, address.port);
    auto port = parse_number<uint32_t>(address.port);
    if (!port)
        return fail("vsock:{}:{}: port: expected a number", address.cid, address.port);
    vm.svm_cid = *cid;
    vm.svm_port = *port;
    resolved.length = sizeof vm;
    return resolved;
}

Result<std::vector<ResolvedAddress>> resolve_inet(const InetAddress& address, ResolveFor purpose) {
    bool ipv4 = address.ipv4.value_or(!address.ipv6.value_or(false));
    bool ipv6 = address.ipv6.value_or(!address.ipv4.value_or(false));
    if (!ipv4 && !ipv6)
        return fail("{}: ipv4 and ipv6 are both off", to_string(address));
    // The resolver would take what is left of it in 16 bits.
    const std::string& port = address.port;
    const bool is_number = !port.empty() && port.find_first_not_of("0123456789") == port.npos;
    if (is_number && !parse_number<uint16_t>(port))
        return fail("{}: port: {} exceeds the limit of {}", to_string(address), port, UINT16_MAX);
    addrinfo hints{};
    hints.ai_family = ipv4 && ipv6 ? AF_UNSPEC : ipv4 ? AF_INET : AF_INET6;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = purpose == ResolveFor::Listen ? AI_PASSIVE : 0;
    addrinfo* list = nullptr;
    const char* host = address.host.empty() ? nullptr : address.host.c_str();
    if (int error = getaddrinfo(host, address.port.c_str(), &hints, &list); error != 0)
        return fail("address resolution failed for {}:{}: {}", address.host, address.port, gai_strerror(error));
    std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, freeaddrinfo);
    std::vector<ResolvedAddress> found;
    for (; list; list = list->ai_next) {
        ResolvedAddress one;
        std::memcpy(&one.storage, list->ai_addr, list->ai_addrlen);
        one.length = list->ai_addrlen;
        found.push_back(one);
    }
    return found;
}

uint16_t& port_of(ResolvedAddress& address) {
    return address.family() == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address.storage).sin6_port
                                        : reinterpret_cast<sockaddr_in&>(address.storage).sin_port;
}

// A bound and listening socket, or a negative errno.
int listen_at(const ResolvedAddress& address, int backlog, UniqueFd& out) {
    UniqueFd fd(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd)
        return -errno;
    int on = 1;
    if (address.family() == AF_INET || address.family() == AF_INET6)
        setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address.family() == AF_INET6)
        setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd.get(), address.get(), address.length) < 0 || listen(fd.get(), backlog) < 0)
        return -errno;
    out = std::move(fd);
    return 0;
}

// Listens at every address on `port` (network order); those whose family or address this host lacks are left out.
int listen_on_port(std::span<ResolvedAddress> addresses, uint16_t port, int backlog, std::vector<UniqueFd>& out) {
    out.clear();
    int missing = 0;
    for (ResolvedAddress& address : addresses) {
        port_of(address) = port;
        UniqueFd fd;
        int ret = listen_at(address, backlog, fd);
        if (ret == -EAFNOSUPPORT || ret == -EADDRNOTAVAIL) {
            missing = ret;
            continue;
        }
        if (ret < 0)
            return ret;
        if (port == 0) {
            ResolvedAddress bound;
            bound.length = sizeof bound.storage;
            if (getsockname(fd.get(), reinterpret_cast<sockaddr*>(&bound.storage), &bound.length) < 0)
                return -errno;
            port = port_of(bound);
        }
        out.push_back(std::move(fd));
    }
    return out.empty() ? missing : 0;
}

Result<std::vector<UniqueFd>> listen_inet(const InetAddress& address, int backlog) {
    auto addresses = resolve_inet(address, ResolveFor::Listen);
    if (!addresses)
        return std::unexpected(std::move(addresses).error());
    uint16_t first = ntohs(port_of(addresses->front()));
    // The port that the kernel chose for the first address may be taken at the second: then it chooses again.
    constexpr int kAttemptsAtPort0 = 16;
    int attempts = first == 0 ? kAttemptsAtPort0 : address.to > first ? address.to - first + 1 : 1;
    std::vector<UniqueFd> listeners;
    int ret = 0;
    for (int i = 0; i < attempts; i++) {
        ret = listen_on_port(*addresses, first == 0 ? 0 : htons(first + i), backlog, listeners);
        if (ret == 0)
            return listeners;
        if (ret != -EADDRINUSE)
            break;
    }
    return fail_errno(-ret, "{}: cannot listen", to_string(address));
}

bool is_stale_socket(const std::string& path, const ResolvedAddress& address) {
    struct stat st;
    if (lstat(path.c_str(), &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    return probe && connect(probe.get(), address.get(), address.length) < 0 && errno == ECONNREFUSED;
}

Result<std::vector<UniqueFd>> only(Result<UniqueFd> one) {
    if (!one)
        return std::unexpected(std::move(one).error());
    std::vector<UniqueFd> listeners;
    listeners.push_back(std::move(*one));
    return listeners;
}

Result<UniqueFd> listen_unix(const UnixAddress& address, int backlog) {
    auto resolved = resolve_unix(address);
    if (!resolved)
        return std::unexpected(std::move(resolved).error());
    UniqueFd fd;
    int ret = listen_at(*resolved, backlog, fd);
    if (ret == -EADDRINUSE && !address.abstract && is_stale_socket(address.path, *resolved)) {
        unlink(address.path.c_str());
        ret = listen_at(*resolved, backlog, fd);
    }
    if (ret < 0)
        return fail_errno(-ret, "{}: cannot listen", to_string(address));
    return fd;
}

Result<UniqueFd> listen_vsock(const VsockAddress& address, int backlog) {
    auto resolved = resolve_vsock(address);
    if (!resolved)
        return std::unexpected(std::move(resolved).error());
    UniqueFd fd;
    if (int ret = listen_at(*resolved, backlog, fd); ret < 0)
        return fail_errno(-ret, "{}: cannot listen", to_string(address));
    return fd;
}

int socket_option(int fd, int option) {
    int value = -1;
    socklen_t length = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &length) < 0 ? -1 : value;
}

Result<UniqueFd> take_over_listener(int number) {
    if (socket_option(number, SO_TYPE) != SOCK_STREAM)
        return fail("fd:{}: is not a stream socket", number);
    if (socket_option(number, SO_ACCEPTCONN) != 1)
        return fail("fd:{}: the socket does not listen", number);
    UniqueFd fd(number);
    if (fcntl(number, F_SETFD, FD_CLOEXEC) < 0 || fcntl(number, F_SETFL, fcntl(number, F_GETFL) | O_NONBLOCK) < 0)
        return fail_errno(errno, "fd:{}: cannot be made non-blocking", number);
    return fd;
}

using NameFunction = int (*)(int, sockaddr*, socklen_t*);

std::optional<SocketAddress> address_of(int fd, NameFunction name) {
    ResolvedAddress bound;
    bound.length = sizeof bound.storage;
    if (name(fd, reinterpret_cast<sockaddr*>(&bound.storage), &bound.length) < 0)
        return std::nullopt;
    switch (bound.family()) {
        case AF_INET:
        case AF_INET6: {
            char host[NI_MAXHOST], port[NI_MAXSERV];
            if (getnameinfo(bound.get(), bound.length, host, sizeof host, port, sizeof port,
                            NI_NUMERICHOST | NI_NUMERICSERV) != 0)
                return std::nullopt;
            return InetAddress{.host = host, .port = port, .ipv4 = {}, .ipv6 = {}};
        }
        case AF_UNIX: {
            const auto& un = reinterpret_cast<const sockaddr_un&>(bound.storage);
            size_t length = bound.length - offsetof(sockaddr_un, sun_path);
            if (length > 0 && un.sun_path[0] == '\0')
                return UnixAddress{.path = std::string(un.sun_path + 1, length - 1), .abstract = true};
            return UnixAddress{.path = std::string(un.sun_path, strnlen(un.sun_path, length))};
        }
        case AF_VSOCK: {
            const auto& vm = reinterpret_cast<const sockaddr_vm&>(bound.storage);
            return VsockAddress{vm.svm_cid == VMADDR_CID_ANY ? "any" : std::to_string(vm.svm_cid),
                                std::to_string(vm.svm_port)};
        }
    }
    return std::nullopt;
}

}  // namespace

Result<SocketAddress> parse_socket_address(std::string_view text) {
    auto after = [&](std::string_view prefix) { return text.substr(prefix.size()); };
    if (text.starts_with("unix:")) {
        if (after("unix:").empty())
            return fail("{}: the path is missing (expected 'unix:PATH')", text);
        return UnixAddress{.path = std::string(after("unix:"))};
    }
    if (text.starts_with("vsock:")) {
        std::string_view rest = after("vsock:");
        size_t colon = rest.find(':');
        VsockAddress address{std::string(rest.substr(0, colon)),
                             std::string(colon == rest.npos ? std::string_view() : rest.substr(colon + 1))};
        if (address.cid.empty() || address.port.empty())
            return fail("{}: expected 'vsock:CID:PORT'", text);
        if (auto ok = resolve_vsock(address); !ok)
            return std::unexpected(std::move(ok).error());
        return address;
    }
    if (text.starts_with("fd:")) {
        auto number = parse_number<int>(after("fd:"));
        if (!number || *number < 0)
            return fail("{}: '{}' is not a file descriptor number", text, after("fd:"));
        return FdAddress{*number};
    }
    return parse_inet(text, text.starts_with("tcp:") ? after("tcp:") : text);
}

std::string to_string(const SocketAddress& address) {
    struct Visitor {
        std::string operator()(const InetAddress& a) const {
            return a.host.contains(':') ? fmt::format("[{}]:{}", a.host, a.port) : fmt::format("{}:{}", a.host, a.port);
        }
        std::string operator()(const UnixAddress& a) const {
            return fmt::format("unix:{}{}", a.abstract ? "@" : "", a.path);
        }
        std::string operator()(const VsockAddress& a) const { return fmt::format("vsock:{}:{}", a.cid, a.port); }
        std::string operator()(const FdAddress& a) const { return fmt::format("fd:{}", a.fd); }
    };
    return std::visit(Visitor{}, address);
}

Result<std::vector<ResolvedAddress>> resolve(const SocketAddress& address, ResolveFor purpose) {
    auto only = [](Result<ResolvedAddress> one) -> Result<std::vector<ResolvedAddress>> {
        if (!one)
            return std::unexpected(std::move(one).error());
        return std::vector{*one};
    };
    if (const auto* inet = std::get_if<InetAddress>(&address))
        return resolve_inet(*inet, purpose);
    if (const auto* un = std::get_if<UnixAddress>(&address))
        return only(resolve_unix(*un));
    if (const auto* vsock = std::get_if<VsockAddress>(&address))
        return only(resolve_vsock(*vsock));
    return fail("{}: a file descriptor has no address to resolve", to_string(address));
}

Result<std::vector<UniqueFd>> listen_on(const SocketAddress& address, int backlog) {
    if (const auto* inet = std::get_if<InetAddress>(&address))
        return listen_inet(*inet, backlog);
    if (const auto* un = std::get_if<UnixAddress>(&address))
        return only(listen_unix(*un, backlog));
    if (const auto* vsock = std::get_if<VsockAddress>(&address))
        return only(listen_vsock(*vsock, backlog));
    return only(take_over_listener(std::get<FdAddress>(address).fd));
}

std::optional<SocketAddress> local_address(int fd) {
    return address_of(fd, getsockname);
}
std::optional<SocketAddress> peer_address(int fd) {
    return address_of(fd, getpeername);
}

void prepare_for_requests(int fd) {
    int domain = socket_option(fd, SO_DOMAIN);
    if (domain == AF_UNIX) {  // TCP finds a size by itself
        int room = 1 << 20;
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    }
    if (domain != AF_INET && domain != AF_INET6)
        return;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

Result<std::vector<UniqueFd>> take_systemd_sockets() {
    const char* pid = getenv("LISTEN_PID");
    const char* count = getenv("LISTEN_FDS");
    std::vector<UniqueFd> sockets;
    if (!pid || !count || parse_number<long>(pid) != getpid())
        return sockets;
    auto number = parse_number<int>(count);
    if (!number || *number < 0)
        return fail("LISTEN_FDS: '{}' is not a number of file descriptors", count);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    constexpr int kFirstPassed = 3;
    for (int fd = kFirstPassed; fd < kFirstPassed + *number; fd++) {
        auto listener = take_over_listener(fd);
        if (!listener)
            return std::unexpected(std::move(listener).error().prefixed("LISTEN_FDS"));
        sockets.push_back(std::move(*listener));
    }
    return sockets;
}

void make_absolute(SocketAddress& address) {
    auto* socket = std::get_if<UnixAddress>(&address);
    if (!socket || socket->abstract)
        return;
    std::error_code failed;
    auto absolute = std::filesystem::absolute(socket->path, failed);
    if (!failed)
        socket->path = absolute.string();
}

}  // namespace ashlar
