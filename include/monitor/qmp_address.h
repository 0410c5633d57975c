// Where a QMP server talks to its clients: the argument of -qmp.
//
//     unix:PATH[,server=on[,wait=off]]    tcp:HOST:PORT[,server=on[,wait=off]]    stdio
//
// as QEMU's character devices are written, with the older `server`, `nowait`. Without server=on it is Ashlar that
// connects, and serves the one who accepts. With wait=on (the default) start-up waits for the first client.
#pragma once

#include "util/socket_address.h"

namespace ashlar {

struct QmpAddress {
    bool stdio = false;
    SocketAddress socket = {};
    bool server = false;
    bool wait = true;
    bool nodelay = false;  // TCP_NODELAY

    std::string text;  // for messages
};

Result<QmpAddress> parse_qmp_address(std::string_view text);

}  // namespace ashlar
