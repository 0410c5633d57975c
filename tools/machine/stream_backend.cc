#include "tools/machine/stream_backend.h"

#include "util/timer.h"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <array>

namespace ashlar {

namespace {

// As much as a terminal that is ready takes without blocking.
constexpr size_t kChunk = 256;

}  // namespace

StreamBackend::~StreamBackend() = default;

void StreamBackend::serve(UniqueFd input, UniqueFd output) {
    scope_.spawn(co_serve(std::move(input), std::move(output)));
}

void StreamBackend::listen(std::vector<UniqueFd> listeners, CoEvent* connected) {
    for (UniqueFd& listener : listeners)
        scope_.spawn(co_accept(std::move(listener), connected));
}

void StreamBackend::serve_pty(UniqueFd master) {
    scope_.spawn(co_serve_pty(std::move(master)));
}

void StreamBackend::connect(CharacterDevice* device) {
    device_ = device;
    room_.pulse();
}

size_t StreamBackend::write(std::span<const uint8_t> bytes) {
    if (connections_.empty())
        return bytes.size();
    const size_t count = std::min(bytes.size(), kMaxOutput - output_.size());
    output_.append(reinterpret_cast<const char*>(bytes.data()), count);
    full_ |= count < bytes.size();
    wanted_.pulse();
    return count;
}

void StreamBackend::ready_to_receive() {
    room_.pulse();
}

Task<void> StreamBackend::co_read(Connection& connection) {
    std::array<uint8_t, kChunk> bytes;
    while (!connection.gone && !closing_ && !device_)
        co_await room_.wait();
    if (device_)
        device_->opened();
    for (;;) {
        while (!connection.gone && !closing_ && !(device_ && device_->room() > 0))
            co_await room_.wait();
        if (connection.gone || closing_)
            co_return;
        // The ring cannot wait (EINVAL) for a pseudo-terminal that is just being opened: it is to be served anew.
        if (co_await connection.input.wait(POLLIN) < 0)
            break;
        const size_t room = device_ ? device_->room() : 0;
        if (room == 0)
            continue;
        const ssize_t got = read(connection.input.fd(), bytes.data(), std::min(bytes.size(), room));
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (got <= 0)
            break;
        device_->receive({bytes.data(), static_cast<size_t>(got)});
    }
    // The end of a file is the end of the input; that of a connection is its end.
    if (!connection.output) {
        connection.gone = true;
        wanted_.pulse();
    }
}

Task<void> StreamBackend::co_write(Connection& connection) {
    Socket& out = connection.out();
    while (!connection.gone && !(closing_ && output_.empty())) {
        if (output_.empty()) {
            co_await wanted_.wait();
            continue;
        }
        if (co_await out.wait(POLLOUT) < 0)
            break;
        const ssize_t put = ::write(out.fd(), output_.data(), std::min(output_.size(), kChunk));
        if (put < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (put < 0)
            break;
        output_.erase(0, static_cast<size_t>(put));
        if (std::exchange(full_, false) && device_)
            device_->ready_to_send();
    }
}

Task<void> StreamBackend::co_serve(UniqueFd input, UniqueFd output) {
    Connection connection{Socket(std::move(input)), output ? Socket(std::move(output)) : Socket()};
    connections_.push_back(&connection);
    TaskScope reading;
    if (connection.input)
        reading.spawn(co_read(connection));
    co_await co_write(connection);
    std::erase(connections_, &connection);
    output_.clear();
    if (std::exchange(full_, false) && device_)
        device_->ready_to_send();
    connection.gone = true;
    connection.input.cancel();
    room_.pulse();
    co_await reading.join();
}

// That nobody has the other side open is a hang-up, whose end there is no event for.
Task<void> StreamBackend::co_serve_pty(UniqueFd master) {
    constexpr int64_t kPause = 100'000'000;
    while (!closing_) {
        pollfd state{master.get(), POLLOUT, 0};
        if (poll(&state, 1, 0) == 1 && !(state.revents & POLLHUP))
            co_await co_serve(UniqueFd(fcntl(master.get(), F_DUPFD_CLOEXEC, 3)), {});
        else
            co_await co_sleep(kPause);
    }
}

Task<void> StreamBackend::co_accept(UniqueFd descriptor, CoEvent* connected) {
    Socket listener(std::move(descriptor));
    listeners_.push_back(&listener);
    while (!closing_) {
        const int fd = co_await listener.accept();
        if (fd == -ECANCELED)
            break;
        if (fd < 0)
            continue;
        if (connected)
            std::exchange(connected, nullptr)->set();
        co_await co_serve(UniqueFd(fd), {});
    }
    std::erase(listeners_, &listener);
}

Task<void> StreamBackend::co_close() {
    constexpr int64_t kPatience = 500'000'000, kStep = 5'000'000;
    const int64_t deadline = now_ns() + kPatience;
    while (!connections_.empty() && !output_.empty() && now_ns() < deadline)
        co_await co_sleep(kStep);
    closing_ = true;
    output_.clear();
    wanted_.pulse();
    room_.pulse();
    for (Connection* connection : connections_) {
        connection->input.cancel();
        connection->out().cancel();
    }
    for (Socket* listener : listeners_)
        listener->cancel();
    co_await scope_.join();
}

}  // namespace ashlar
