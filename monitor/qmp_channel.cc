#include "monitor/qmp_channel.h"

#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace ashlar {

namespace {

// A file is always ready, and cannot be polled.
bool is_pollable(int fd) {
    struct stat info;
    return fstat(fd, &info) == 0 && !S_ISREG(info.st_mode);
}

}  // namespace

QmpChannel::QmpChannel(UniqueFd socket) : input_(std::move(socket)), is_socket_(true) {}

QmpChannel::QmpChannel(UniqueFd input, UniqueFd output)
    : input_(std::move(input)), output_(std::move(output)), is_socket_(false) {}

Task<int> QmpChannel::read(std::span<std::byte> buffer) {
    if (is_socket_)
        co_return co_await input_.recv(buffer);
    if (is_pollable(input_.fd())) {
        int ready = co_await input_.wait(POLLIN);
        if (ready < 0)
            co_return ready;
    }
    ssize_t got = ::read(input_.fd(), buffer.data(), buffer.size());
    co_return got < 0 ? -errno : static_cast<int>(got);
}

Task<int> QmpChannel::write(std::string_view text) {
    if (is_socket_) {
        iovec iov{const_cast<char*>(text.data()), text.size()};
        co_return co_await input_.send_all(std::span(&iov, 1));
    }
    bool pollable = is_pollable(output_.fd());
    while (!text.empty()) {
        if (pollable) {
            int ready = co_await output_.wait(POLLOUT);
            if (ready < 0)
                co_return ready;
        }
        // A pipe that is writable takes this many bytes without blocking.
        ssize_t done = ::write(output_.fd(), text.data(), std::min<size_t>(text.size(), PIPE_BUF));
        if (done < 0 && errno != EINTR && errno != EAGAIN)
            co_return -errno;
        text.remove_prefix(static_cast<size_t>(std::max<ssize_t>(done, 0)));
    }
    co_return 0;
}

void QmpChannel::stop_reading() {
    if (is_socket_)
        ::shutdown(input_.fd(), SHUT_RD);
    else
        input_.cancel();
}

void QmpChannel::cancel() {
    input_.cancel();
    if (!is_socket_)
        output_.cancel();
}

}  // namespace ashlar
