// NBD URIs (uri.md of the NBD project): nbd://HOST:PORT/EXPORT, nbd+unix:///EXPORT?socket=PATH,
// nbd+vsock://CID:PORT/EXPORT.
//
// Values and pure functions. The TLS schemes (nbds, …) are recognised and refused until TLS is there.
#pragma once

#include <string>
#include <string_view>

#include "util/error.h"
#include "util/socket_address.h"

namespace ashlar::nbd {

struct Uri {
    SocketAddress address;
    std::string export_name;
    bool operator==(const Uri&) const = default;
};

[[nodiscard]] bool is_uri(std::string_view text);  // has one of the NBD schemes; it may still be malformed
[[nodiscard]] Result<Uri> parse_uri(std::string_view text);
// An inherited descriptor has no URI: then the result is for display only.
[[nodiscard]] std::string to_string(const Uri& uri);

}  // namespace ashlar::nbd
