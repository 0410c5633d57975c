// SocketAddress: where a server listens or a client connects, as QMP's SocketAddress union and as the strings people
// type: `unix:/path`, `HOST:PORT`, `:PORT`, `[::1]:PORT`, `tcp:HOST:PORT`, `vsock:CID:PORT`, `fd:N`.
//
// Values; any thread. Resolving a host name and binding block the calling thread: they belong in start-up code and in
// monitor commands, not on the data path.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "util/error.h"
#include "util/unique_fd.h"

namespace ashlar {

struct InetAddress {
    std::string host;          // empty: every local address when listening, localhost when connecting
    std::string port;          // a number or a service name; "0" lets the kernel choose
    std::optional<bool> ipv4;  // QMP's ipv4/ipv6: unset means "if the host has it"
    std::optional<bool> ipv6;
    uint16_t to = 0;  // the last port to try when listening; 0: only `port`
    bool operator==(const InetAddress&) const = default;
};

struct UnixAddress {
    std::string path;  // the name without its leading NUL if `abstract`
    bool abstract = false;
    bool tight = true;  // abstract only: the name ends with its last byte instead of being padded with NULs
    bool operator==(const UnixAddress&) const = default;
};

struct VsockAddress {
    std::string cid;  // "any" or a number
    std::string port;
    bool operator==(const VsockAddress&) const = default;
};

struct FdAddress {
    int fd = -1;  // an inherited descriptor: a listening or a connected socket
    bool operator==(const FdAddress&) const = default;
};

using SocketAddress = std::variant<InetAddress, UnixAddress, VsockAddress, FdAddress>;

// What bind() and connect() take.
struct ResolvedAddress {
    sockaddr_storage storage{};
    socklen_t length = 0;

    int family() const { return storage.ss_family; }
    const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

[[nodiscard]] Result<SocketAddress> parse_socket_address(std::string_view text);

// The inverse of parse_socket_address; what messages and `query-…` show.
[[nodiscard]] std::string to_string(const SocketAddress& address);

// Makes the path of a Unix socket absolute, so that it is the same one after chdir().
void make_absolute(SocketAddress& address);

enum class ResolveFor { Listen, Connect };

// Every address that the name stands for, in the resolver's order; an FdAddress has none and fails.
[[nodiscard]] Result<std::vector<ResolvedAddress>> resolve(const SocketAddress& address, ResolveFor purpose);

// Non-blocking, close-on-exec listening sockets: one for each address that a host name stands for (IPv4 and IPv6), and
// all on the same port where port 0 was asked for. A Unix socket file that nobody listens on any more is replaced. For
// an FdAddress the descriptor is taken over if it is a listening stream socket.
[[nodiscard]] Result<std::vector<UniqueFd>> listen_on(const SocketAddress& address, int backlog = SOMAXCONN);

// The address that a bound socket has, or that the peer of a connected one has; nullopt for a family not in the union.
[[nodiscard]] std::optional<SocketAddress> local_address(int fd);
[[nodiscard]] std::optional<SocketAddress> peer_address(int fd);

// Fits a connected socket for requests and replies: a TCP socket sends small messages at once and notices a peer that
// has vanished; a Unix one takes up to 1 MiB (or what net.core.wmem_max allows) that the peer has not received yet.
void prepare_for_requests(int fd);

// The descriptors that systemd passed to this process (sd_listen_fds(3)), now close-on-exec; none if it passed none.
// The environment variables are removed, so that children do not take the descriptors for theirs.
[[nodiscard]] Result<std::vector<UniqueFd>> take_systemd_sockets();

}  // namespace ashlar
