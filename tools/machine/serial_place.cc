#include "tools/machine/serial_place.h"

#include "nbd/client.h"

#include <fcntl.h>

namespace ashlar {

Result<SerialPlace> parse_serial_place(std::string_view text) {
    SerialPlace place;
    if (text.starts_with("mon:")) {
        place.with_monitor = true;
        text.remove_prefix(4);
    }
    if (text == "null" || text == "none")
        return place;
    if (text == "stdio") {
        place.kind = SerialPlace::Kind::Stdio;
        return place;
    }
    if (text.starts_with("file:") && text.size() > 5) {
        place.kind = SerialPlace::Kind::File;
        place.path = text.substr(5);
        return place;
    }
    if (!text.starts_with("unix:") && !text.starts_with("tcp:"))
        return std::unexpected(
            Error{fmt::format("could not connect serial device to character backend '{}'", text)}.with_hint(
                "Give [mon:]stdio, null, file:PATH, unix:PATH,server=on,wait=off, "
                "tcp:HOST:PORT,server=on,wait=off or none."));
    auto address = parse_qmp_address(text);
    if (!address)
        return std::unexpected(std::move(address.error()));
    place.kind = SerialPlace::Kind::Socket;
    place.address = std::move(*address);
    return place;
}

Task<Result<OpenedPlace>> co_open_serial_place(SerialPlace place, CoEvent* connected) {
    OpenedPlace opened{std::make_unique<StreamBackend>(), {}};
    switch (place.kind) {
        case SerialPlace::Kind::Null:
            break;
        case SerialPlace::Kind::Stdio:
            opened.backend->serve(UniqueFd(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)),
                                  UniqueFd(fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)));
            break;
        case SerialPlace::Kind::File: {
            UniqueFd file(open(place.path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
            if (!file)
                co_return fail_errno(errno, "could not open '{}'", place.path);
            opened.backend->serve(UniqueFd(), std::move(file));
            break;
        }
        case SerialPlace::Kind::Socket:
            if (!place.address.server) {
                auto socket = co_await nbd::co_connect(place.address.socket);
                if (!socket)
                    co_return std::unexpected(std::move(socket.error()));
                opened.backend->serve(socket->release(), UniqueFd());
                break;
            }
            auto listeners = listen_on(place.address.socket);
            if (!listeners)
                co_return std::unexpected(std::move(listeners.error()));
            if (const auto* unix_socket = std::get_if<UnixAddress>(&place.address.socket);
                unix_socket && !unix_socket->abstract)
                opened.socket_path = unix_socket->path;
            opened.backend->listen(std::move(*listeners), connected);
            break;
    }
    co_return opened;
}

}  // namespace ashlar
