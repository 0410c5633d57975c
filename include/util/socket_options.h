// QAPI's SocketAddress as options: {"type": "unix", "path": "/x"}. The parts are also those of SocketAddressLegacy.
#pragma once

#include "util/options.h"
#include "util/socket_address.h"

namespace ashlar {

enum class SocketType : uint8_t { Inet, Unix, Vsock, Fd };
constexpr auto enum_names(SocketType) {
    return std::to_array<EnumName<SocketType>>({
        {SocketType::Inet, "inet"},
        {SocketType::Unix, "unix"},
        {SocketType::Vsock, "vsock"},
        {SocketType::Fd, "fd"},
    });
}

struct InetSocketOptions {
    std::string host;
    std::string port;
    std::optional<uint16_t> to;
    std::optional<bool> ipv4;
    std::optional<bool> ipv6;

    static const OptionSet<InetSocketOptions>& options();
    InetAddress address() const;
};

struct UnixSocketOptions {
    std::string path;
    bool abstract = false;
    bool tight = true;

    static const OptionSet<UnixSocketOptions>& options();
    UnixAddress address() const;
};

struct VsockSocketOptions {
    std::string cid;
    std::string port;

    static const OptionSet<VsockSocketOptions>& options();
    VsockAddress address() const;
};

struct FdSocketOptions {
    std::string str;  // the number of an inherited descriptor

    static const OptionSet<FdSocketOptions>& options();
    // Fails if it is no number; `name` is what the option is called in the message.
    Result<FdAddress> address(std::string_view name) const;
};

struct SocketOptions {
    SocketType type = SocketType::Inet;
    InetSocketOptions inet;
    UnixSocketOptions unix_socket;
    VsockSocketOptions vsock;
    FdSocketOptions fd;

    static const OptionSet<SocketOptions>& options();
    Result<SocketAddress> address(std::string_view name) const;
};

}  // namespace ashlar
