#include "util/socket.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "util/page_pipe.h"

namespace ashlar {

Socket::Socket(UniqueFd fd) : fd_(std::move(fd)) {}

Socket::Socket(Socket&& other) noexcept : fd_(std::move(other.fd_)), canceled_(other.canceled_) {
    assert(!other.receiving_ && !other.sending_);
}

Socket& Socket::operator=(Socket&& other) noexcept {
    assert(!receiving_ && !sending_ && !other.receiving_ && !other.sending_);
    fd_ = std::move(other.fd_);
    canceled_ = other.canceled_;
    return *this;
}

void Socket::cancel() {
    canceled_ = true;
    if (receiving_)
        AioContext::current()->cancel(*receiving_);
    if (sending_)
        AioContext::current()->cancel(*sending_);
}

int Socket::try_recv(std::span<const iovec> iov) {
    if (canceled_)
        return -ECANCELED;
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(iov.data());
    message.msg_iovlen = iov.size();
    const ssize_t n = ::recvmsg(fd(), &message, MSG_DONTWAIT);
    return n >= 0 ? static_cast<int>(n) : errno == EINTR ? -EAGAIN : -errno;
}

int Socket::try_send(std::span<const iovec> iov) {
    if (canceled_)
        return -ECANCELED;
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(iov.data());
    message.msg_iovlen = std::min<size_t>(iov.size(), IOV_MAX);
    const ssize_t n = ::sendmsg(fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n >= 0 ? static_cast<int>(n) : errno == EINTR ? -EAGAIN : -errno;
}

void Socket::shutdown() {
    ::shutdown(fd_.get(), SHUT_RDWR);
}

// --- awaiters ---

Socket::Awaiter::Awaiter(Socket& socket, IoOp*& slot, Kind k) : IoOp{.kind = k}, socket_(socket), slot_(slot) {
    fd = socket.fd();
}

bool Socket::Awaiter::tried(long result) {
    if (result >= 0)
        result_ = static_cast<int>(result);
    else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
        result_ = -errno;
    else
        return false;
    return true;
}

void Socket::Awaiter::await_suspend(std::coroutine_handle<> h) {
    assert(!slot_);
    coroutine_ = h;
    slot_ = this;
    done = [](IoOp& op, int result) {
        auto& self = static_cast<Awaiter&>(op);
        self.slot_ = nullptr;
        self.result_ = result;
        self.coroutine_.resume();
    };
    AioContext::current()->submit(*this);
}

Socket::RecvAwaiter::RecvAwaiter(Socket& socket, std::span<std::byte> buffer)
    : Awaiter(socket, socket.receiving_, Kind::Recv), buffer_{buffer.data(), buffer.size()} {
    iov = &buffer_;
}

bool Socket::RecvAwaiter::await_ready() {
    return socket_.canceled_ || tried(::recv(fd, buffer_.iov_base, buffer_.iov_len, MSG_DONTWAIT));
}

Socket::SendAwaiter::SendAwaiter(Socket& socket, std::span<const iovec> vector)
    : Awaiter(socket, socket.sending_, Kind::Send) {
    message_.msg_iov = const_cast<iovec*>(vector.data());
    message_.msg_iovlen = vector.size();
    msg = &message_;
}

bool Socket::SendAwaiter::await_ready() {
    return socket_.canceled_ || tried(::sendmsg(fd, &message_, MSG_DONTWAIT | MSG_NOSIGNAL));
}

Socket::WaitAwaiter::WaitAwaiter(Socket& socket, short wanted)
    : Awaiter(socket, wanted & POLLIN ? socket.receiving_ : socket.sending_, Kind::Poll) {
    events = static_cast<uint32_t>(wanted);
}

bool Socket::WaitAwaiter::await_ready() {
    return socket_.canceled_;
}

// --- coroutines ---

namespace {

// io_uring fails what would block on a descriptor that is in non-blocking mode instead of waiting: where data flows the
// descriptor stays in blocking mode and every try says MSG_DONTWAIT.
void set_nonblocking(int fd, bool on) {
    int flags = fcntl(fd, F_GETFL);
    if (((flags & O_NONBLOCK) != 0) != on)
        fcntl(fd, F_SETFL, flags ^ O_NONBLOCK);
}

constexpr int64_t kBusyListenerRetryNs = 5'000'000;

}  // namespace

Task<int> Socket::accept() {
    set_nonblocking(fd(), true);
    while (!canceled_) {
        int accepted = accept4(fd(), nullptr, nullptr, SOCK_CLOEXEC);
        if (accepted >= 0)
            co_return accepted;
        if (errno == ECONNABORTED || errno == EINTR)
            continue;
        if (errno != EAGAIN)
            co_return -errno;
        if (int ret = co_await wait(POLLIN); ret < 0)
            co_return ret;
    }
    co_return -ECANCELED;
}

Task<int> Socket::connect(const sockaddr* address, socklen_t length) {
    set_nonblocking(fd(), true);
    int ret;
    while ((ret = ::connect(fd(), address, length) < 0 ? -errno : 0) == -EAGAIN && !canceled_)
        co_await co_sleep(kBusyListenerRetryNs);  // a Unix socket's backlog is full: there is nothing to poll for
    if (ret == -EINPROGRESS && (ret = co_await wait(POLLOUT)) >= 0) {
        socklen_t size = sizeof(ret);
        getsockopt(fd(), SOL_SOCKET, SO_ERROR, &ret, &size);
        ret = -ret;
    }
    set_nonblocking(fd(), false);
    co_return canceled_ && (ret == 0 || ret == -EAGAIN) ? -ECANCELED : ret;
}

Task<int> Socket::recv_exact(std::span<std::byte> buffer) {
    size_t got = 0;
    while (got < buffer.size()) {
        int n = co_await recv(buffer.subspan(got));
        if (n < 0)
            co_return n;
        if (n == 0)
            co_return got == 0 ? 0 : -EPIPE;
        got += static_cast<size_t>(n);
    }
    co_return static_cast<int>(got);
}

std::span<iovec> behind(std::span<iovec> iov, size_t bytes) {
    while (!iov.empty() && bytes >= iov.front().iov_len) {
        bytes -= iov.front().iov_len;
        iov = iov.subspan(1);
    }
    if (!iov.empty()) {
        iov.front().iov_base = static_cast<char*>(iov.front().iov_base) + bytes;
        iov.front().iov_len -= bytes;
    }
    return iov;
}

Task<int> Socket::send_all(std::span<iovec> iov) {
    while (!iov.empty()) {
        int n = co_await send(iov.first(std::min<size_t>(iov.size(), IOV_MAX)));
        if (n < 0)
            co_return n;
        iov = behind(iov, static_cast<size_t>(n));
    }
    co_return 0;
}

Task<int> Socket::send_pages(PagePipe& pages) {
    int n = 0;
    while (pages.size() > 0 && n >= 0) {
        if (canceled_)
            co_return -ECANCELED;
        fcntl(fd(), F_SETFL, O_NONBLOCK);  // splice() knows no other way not to wait
        do
            n = pages.move_to(fd());
        while (n > 0 && pages.size() > 0);
        fcntl(fd(), F_SETFL, 0);
        if (n == -EAGAIN)
            n = co_await wait(POLLOUT);
    }
    co_return std::min(n, 0);
}

}  // namespace ashlar
