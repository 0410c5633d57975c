#include "util/socket_options.h"

#include "util/size.h"

namespace ashlar {

const OptionSet<InetSocketOptions>& InetSocketOptions::options() {
    using Inet = InetSocketOptions;
    static const auto set =
        OptionSet<Inet>("InetSocketAddress")
            .required("host", &Inet::host, "name or address; empty: every local address, or localhost")
            .required("port", &Inet::port, "number or service name; 0: any that is free")
            .optional("to", &Inet::to, "the last port to try")
            .optional("ipv4", &Inet::ipv4, "use IPv4 (default: if there is an address)")
            .optional("ipv6", &Inet::ipv6, "use IPv6 (default: if there is an address)");
    return set;
}

const OptionSet<UnixSocketOptions>& UnixSocketOptions::options() {
    using Unix = UnixSocketOptions;
    static const auto set = OptionSet<Unix>("UnixSocketAddress")
                                .required("path", &Unix::path, "path of the socket")
                                .optional("abstract", &Unix::abstract, "a name that is not in the file system")
                                .optional("tight", &Unix::tight, "an abstract name that is not padded");
    return set;
}

const OptionSet<VsockSocketOptions>& VsockSocketOptions::options() {
    static const auto set = OptionSet<VsockSocketOptions>("VsockSocketAddress")
                                .required("cid", &VsockSocketOptions::cid, "number of the machine, or any")
                                .required("port", &VsockSocketOptions::port, "number of the port");
    return set;
}

const OptionSet<FdSocketOptions>& FdSocketOptions::options() {
    static const auto set = OptionSet<FdSocketOptions>("FdSocketAddress")
                                .required("str", &FdSocketOptions::str, "number of an inherited socket");
    return set;
}

const OptionSet<SocketOptions>& SocketOptions::options() {
    static const auto set = OptionSet<SocketOptions>("SocketAddress")
                                .required("type", &SocketOptions::type, "kind of the socket")
                                .variant("inet", &SocketOptions::inet)
                                .variant("unix", &SocketOptions::unix_socket)
                                .variant("vsock", &SocketOptions::vsock)
                                .variant("fd", &SocketOptions::fd);
    return set;
}

InetAddress InetSocketOptions::address() const {
    return {host, port, ipv4, ipv6, to.value_or(0)};
}

UnixAddress UnixSocketOptions::address() const {
    return {path, abstract, tight};
}

VsockAddress VsockSocketOptions::address() const {
    return {cid, port};
}

Result<FdAddress> FdSocketOptions::address(std::string_view name) const {
    auto number = parse_int64(str);
    if (!number || *number < 0 || *number > INT32_MAX)
        return fail("Parameter '{}' expects the number of a file descriptor", name);
    return FdAddress{static_cast<int>(*number)};
}

Result<SocketAddress> SocketOptions::address(std::string_view name) const {
    switch (type) {
        case SocketType::Inet:
            return inet.address();
        case SocketType::Unix:
            return unix_socket.address();
        case SocketType::Vsock:
            return vsock.address();
        case SocketType::Fd:
            break;
    }
    auto number = fd.address(fmt::format("{}.str", name));
    if (!number)
        return std::unexpected(std::move(number.error()));
    return *number;
}

}  // namespace ashlar
