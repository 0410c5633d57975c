// SerialPlace: what -serial and -monitor say, and the backend that is made of it.
#pragma once

#include "monitor/qmp_address.h"
#include "tools/machine/stream_backend.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace ashlar {

struct SerialPlace {
    enum class Kind : uint8_t { Null, Stdio, File, Socket } kind = Kind::Null;
    bool with_monitor = false;  // mon:
    std::string path;           // of a file
    QmpAddress address = {};
};

Result<SerialPlace> parse_serial_place(std::string_view text);

// Main context. `connected` is set when the first client of a socket has come; nothing waits for it here. The path of a
// Unix socket that was made is to be removed at the end.
struct OpenedPlace {
    std::unique_ptr<StreamBackend> backend;
    std::string socket_path;
};
[[nodiscard]] Task<Result<OpenedPlace>> co_open_serial_place(SerialPlace place, CoEvent* connected);

}  // namespace ashlar
