// A socket where somebody is talked to, by QMP or another character device.
//
//     unix:PATH[,server=on[,wait=off]]    tcp:HOST:PORT[,server=on[,wait=off]]
//
// as QEMU's character devices are written, with the older `server`, `nowait`. Without server=on it is Ashlar that
// connects, and serves the one who accepts. With wait=on (the default) start-up waits for the first client.
#pragma once

#include "util/options.h"
#include "util/socket_address.h"

namespace ashlar {

// What there is to say of it beside the address.
struct CharSocketOptions {
    bool server = false;
    std::optional<bool> wait;
    std::optional<bool> nodelay;
    std::optional<bool> ipv4;
    std::optional<bool> ipv6;
    std::optional<uint16_t> to;
    std::optional<bool> abstract;
    std::optional<bool> tight;

    static const OptionSet<CharSocketOptions>& options();
};

struct QmpAddress {
    SocketAddress socket = {};
    bool server = false;
    bool wait = true;
    bool nodelay = false;  // TCP_NODELAY

    std::string text;  // for messages
};

Result<QmpAddress> parse_qmp_address(std::string_view text);
// `address`: of a Unix or a TCP socket, without what the options say.
Result<QmpAddress> make_qmp_address(SocketAddress address, const CharSocketOptions& options);

}  // namespace ashlar
