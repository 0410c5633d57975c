// Socket: a stream socket (or a listening one) for coroutines.
//
// Each operation first tries without waiting and suspends only when the kernel would block. At most one operation that
// receives (recv, accept, wait(POLLIN)) and one that sends (send, connect, wait(POLLOUT)) may be under way. Operations
// run in the context of the coroutine that awaits them; cancel() and the destructor are called there too, or when no
// operation is under way. Results are a byte count (0: the peer closed) or a negative errno; -ECANCELED after cancel().
//
// wait() is for any pollable descriptor, a terminal or a pipe included; the rest is for sockets.
#pragma once

#include <cerrno>
#include <coroutine>
#include <cstddef>
#include <span>

#include "util/aio_context.h"
#include "util/io_op.h"
#include "util/unique_fd.h"

namespace ashlar {

class PagePipe;

class Socket {
public:
    Socket() = default;
    explicit Socket(UniqueFd fd);  // in blocking mode, whatever the operations do
    Socket(Socket&& other) noexcept;
    Socket& operator=(Socket&& other) noexcept;

    class RecvAwaiter;
    class SendAwaiter;
    class WaitAwaiter;

    [[nodiscard]] RecvAwaiter recv(std::span<std::byte> buffer);      // some bytes
    [[nodiscard]] int try_recv(std::span<const iovec> iov);           // what is there by now; -EAGAIN: nothing
    [[nodiscard]] int try_send(std::span<const iovec> iov);           // what there is room for; -EAGAIN: nothing
    [[nodiscard]] SendAwaiter send(std::span<const iovec> iov);       // some bytes; at most IOV_MAX elements
    [[nodiscard]] WaitAwaiter wait(short events);                     // POLLIN or POLLOUT: the events that came
    [[nodiscard]] Task<int> accept();                                 // a descriptor (blocking mode, close-on-exec)
    [[nodiscard]] Task<int> recv_exact(std::span<std::byte> buffer);  // buffer.size(), or 0: closed before the first
                                                                      // byte, -EPIPE: closed in the middle
    [[nodiscard]] Task<int> send_all(std::span<iovec> iov);           // 0; uses up `iov`; any number of elements
    [[nodiscard]] Task<int> send_pages(PagePipe& pages);              // 0; uses up `pages`
    [[nodiscard]] Task<int> connect(const sockaddr* address, socklen_t length);  // 0

    void cancel();    // ends what is under way and makes what comes later fail, with -ECANCELED
    void shutdown();  // both directions: what is under way and what comes later ends. Any thread

    int fd() const { return fd_.get(); }
    explicit operator bool() const { return static_cast<bool>(fd_); }
    UniqueFd release() { return std::move(fd_); }

private:
    class Awaiter;

    UniqueFd fd_;
    IoOp* receiving_ = nullptr;
    IoOp* sending_ = nullptr;
    bool canceled_ = false;
};

// What there is of `iov` behind its first `bytes`; changes the element in which that begins.
[[nodiscard]] std::span<iovec> behind(std::span<iovec> iov, size_t bytes);

class Socket::Awaiter : public IoOp {
public:
    Awaiter(const Awaiter&) = delete;
    void await_suspend(std::coroutine_handle<> h);
    int await_resume() const noexcept { return result_; }

protected:
    Awaiter(Socket& socket, IoOp*& slot, Kind k);
    // Takes the result of a system call that did not wait; true if that settles it.
    bool tried(long result);

    Socket& socket_;
    IoOp*& slot_;
    int result_ = -ECANCELED;
    std::coroutine_handle<> coroutine_;
};

class Socket::RecvAwaiter : public Awaiter {
public:
    RecvAwaiter(Socket& socket, std::span<std::byte> buffer);
    bool await_ready();

private:
    iovec buffer_;
};

class Socket::SendAwaiter : public Awaiter {
public:
    SendAwaiter(Socket& socket, std::span<const iovec> iov);
    bool await_ready();

private:
    msghdr message_{};
};

class Socket::WaitAwaiter : public Awaiter {
public:
    WaitAwaiter(Socket& socket, short wanted);
    bool await_ready();
};

inline Socket::RecvAwaiter Socket::recv(std::span<std::byte> buffer) {
    return {*this, buffer};
}
inline Socket::SendAwaiter Socket::send(std::span<const iovec> iov) {
    return {*this, iov};
}
inline Socket::WaitAwaiter Socket::wait(short events) {
    return {*this, events};
}

}  // namespace ashlar
