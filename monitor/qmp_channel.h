// QmpChannel: where a QMP client's bytes come from and go to: a connected socket, or standard input and output.
//
// In the main context; one read and one write at a time.
#pragma once

#include "util/socket.h"

#include <string_view>

namespace ashlar {

class QmpChannel {
public:
    explicit QmpChannel(UniqueFd socket);
    QmpChannel(UniqueFd input, UniqueFd output);

    [[nodiscard]] Task<int> read(std::span<std::byte> buffer);  // some bytes, 0 at the end, or a negative errno
    [[nodiscard]] Task<int> write(std::string_view text);       // all of it: 0, or a negative errno

    void stop_reading();  // read() ends, now and later
    void cancel();        // everything ends

private:
    Socket input_;  // the socket, if it is one
    Socket output_;
    bool is_socket_;
};

}  // namespace ashlar
