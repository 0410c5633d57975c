// What the driver `nbd` is told: as options, or as a file name, which stands for some of them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "nbd/client_session.h"
#include "util/json_fwd.h"
#include "util/options.h"
#include "util/socket_options.h"

namespace ashlar {

struct NbdCommonOptions {
    std::string export_name;
    std::optional<std::string> tls_creds;
    std::optional<std::string> tls_hostname;
    std::optional<std::string> dirty_bitmap;
    uint32_t reconnect_delay = 0;  // seconds
    uint32_t open_timeout = 0;     // seconds
    uint32_t connections = 1;

    static const OptionSet<NbdCommonOptions>& options();
};

// QMP's BlockdevOptionsNbd.
struct NbdOptions {
    SocketOptions server;
    NbdCommonOptions common;

    static const OptionSet<NbdOptions>& options();
};

// The same, with what command lines may write in the place of `server`.
struct NbdFlatOptions {
    std::optional<SocketOptions> server;
    std::optional<std::string> host;
    std::optional<std::string> port;
    std::optional<std::string> path;
    NbdCommonOptions common;

    static const OptionSet<NbdFlatOptions>& options();
};

Result<NbdOptions> resolve_flat_options(NbdFlatOptions flat);
Result<nbd::SessionOptions> session_options(const NbdOptions& options);

// nbd://…, nbd+unix://…, nbd+vsock://…; nbd:HOST:PORT and nbd:unix:PATH with `:exportname=NAME` behind it.
Result<Json> parse_nbd_filename(std::string_view filename);
// The name that the options are, as QEMU writes it; "" if there is none.
std::string nbd_filename(const SocketAddress& address, std::string_view export_name);

}  // namespace ashlar
