#include "util/socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>

#include "tests/unit/runtime_test.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

constexpr int64_t kMs = 1'000'000;

// --- data ---

Task<void> receive_exactly(Socket& socket, size_t size, int expected, std::string data) {
    std::string buffer(size, 0);
    g_assert_cmpint(co_await socket.recv_exact(std::as_writable_bytes(std::span(buffer))), ==, expected);
    g_assert_true(buffer.starts_with(data));
}

Task<void> send_in_pieces() {
    SocketPair pair;
    TaskScope scope;
    scope.spawn(receive_exactly(pair.b, 10, 10, "0123456789"));
    for (const char* piece : {"01", "2345", "6789"}) {
        g_assert_cmpint(co_await send_text(pair.a, piece), ==, 0);
        co_await co_sleep(kMs);
    }
    co_await scope.join();
}

void recv_exact_waits_for_all_of_it() {
    auto context = make_context();
    sync_wait(*context, send_in_pieces());
}

Task<void> close_at(size_t sent, int expected) {
    SocketPair pair;
    TaskScope scope;
    scope.spawn(receive_exactly(pair.b, 10, expected, ""));
    g_assert_cmpint(co_await send_text(pair.a, std::string(sent, 'x')), ==, 0);
    pair.a.shutdown();
    co_await scope.join();
}

void recv_exact_tells_an_end_in_the_middle_from_one_before() {
    auto context = make_context();
    sync_wait(*context, close_at(0, 0));
    sync_wait(*context, close_at(1, -EPIPE));
    sync_wait(*context, close_at(9, -EPIPE));
}

std::string pattern(size_t size) {
    std::string data(size, 0);
    for (size_t i = 0; i < size; i++)
        data[i] = static_cast<char>(i * 2654435761u >> 13);
    return data;
}

Task<void> send_pattern(Socket& socket, std::string& data, size_t piece) {
    std::vector<iovec> iov;
    for (size_t at = 0; at < data.size(); at += piece)
        iov.push_back({data.data() + at, std::min(piece, data.size() - at)});
    g_assert_cmpint(co_await socket.send_all(iov), ==, 0);
}

Task<void> try_to_send() {
    SocketPair pair;
    std::string data = pattern(100'000), received(data.size(), 0);
    iovec iov[] = {{data.data(), 1000}, {data.data() + 1000, data.size() - 1000}};
    std::span<iovec> rest = iov;
    size_t sent = 0, got = 0;
    while (got < data.size()) {
        int n;
        while (!rest.empty() && (n = pair.a.try_send(rest)) >= 0) {
            rest = behind(rest, static_cast<size_t>(n));
            sent += static_cast<size_t>(n);
        }
        g_assert_true(rest.empty() || n == -EAGAIN);
        g_assert_cmpuint(got, <, sent);
        int received_now = co_await pair.b.recv(std::as_writable_bytes(std::span(received)).subspan(got, 3000));
        g_assert_cmpint(received_now, >, 0);
        got += static_cast<size_t>(received_now);
    }
    g_assert_true(received == data);
    // What is nowhere is not sent, nor is what follows it.
    iovec nowhere[] = {{data.data(), 10}, {nullptr, 10}, {data.data(), 10}};
    int n = pair.a.try_send(nowhere);
    g_assert_true(n == -EFAULT || n == 10);
    pair.b.shutdown();
    g_assert_cmpint(pair.a.try_send(iov), ==, -EPIPE);
    pair.a.cancel();
    g_assert_cmpint(pair.a.try_send(iov), ==, -ECANCELED);
}

void trying_to_send_never_waits() {
    auto context = make_context();
    sync_wait(*context, try_to_send());
}

void what_is_behind_so_many_bytes() {
    char data[10];
    auto expect = [&](size_t bytes, size_t elements, size_t first, size_t length) {
        iovec iov[] = {{data, 3}, {data + 3, 0}, {data + 3, 7}};
        std::span<iovec> rest = behind(iov, bytes);
        g_assert_cmpuint(rest.size(), ==, elements);
        if (elements > 0) {
            g_assert_true(rest[0].iov_base == data + first);
            g_assert_cmpuint(rest[0].iov_len, ==, length);
        }
    };
    expect(0, 3, 0, 3);
    expect(2, 3, 2, 1);
    expect(3, 1, 3, 7);
    expect(9, 1, 9, 1);
    expect(10, 0, 0, 0);
}

Task<void> both_ways(size_t size, size_t piece) {
    SocketPair pair;
    TaskScope scope;
    std::string data = pattern(size);
    // All four at once: each socket has one that receives and one that sends under way.
    scope.spawn(send_pattern(pair.a, data, piece));
    scope.spawn(send_pattern(pair.b, data, piece));
    scope.spawn(receive_exactly(pair.a, size, static_cast<int>(size), data));
    scope.spawn(receive_exactly(pair.b, size, static_cast<int>(size), data));
    co_await scope.join();
}

void more_than_the_kernel_buffers_goes_both_ways_at_once() {
    auto context = make_context();
    sync_wait(*context, both_ways(8 << 20, 1 << 20));
    sync_wait(*context, both_ways(1 << 20, 300));  // more pieces than one sendmsg() takes
}

Task<void> send_to_nobody() {
    SocketPair pair;
    {
        Socket closed = std::move(pair.b);
    }
    g_assert_cmpint(co_await send_text(pair.a, "x"), ==, -EPIPE);  // and no SIGPIPE
}

void sending_to_a_closed_peer_gives_EPIPE() {
    auto context = make_context();
    sync_wait(*context, send_to_nobody());
}

Task<void> receive_result(Socket& socket, int& result) {
    std::byte buffer[8];
    result = co_await socket.recv(buffer);
}

Task<void> close_while_receiving() {
    SocketPair pair;
    TaskScope scope;
    int result = -1;
    scope.spawn(receive_result(pair.a, result));
    co_await co_sleep(kMs);
    {
        Socket closed = std::move(pair.b);
    }
    co_await scope.join();
    g_assert_cmpint(result, ==, 0);
}

void a_receiver_that_waits_sees_the_peer_close() {
    auto context = make_context();
    sync_wait(*context, close_while_receiving());
}

// --- cancelling ---

Task<void> send_result(Socket& socket, std::span<char> data, int& result) {
    iovec iov{data.data(), data.size()};
    do
        result = co_await socket.send(std::span(&iov, 1));
    while (result > 0);
}

Task<void> wait_result(Socket& socket, short events, int& result) {
    result = co_await socket.wait(events);
}

Task<void> accept_result(Socket& socket, int& result) {
    result = co_await socket.accept();
}

Task<void> cancel_both_directions() {
    SocketPair pair;
    TaskScope scope;
    std::vector<char> data(1 << 20);
    int receiving = 1, sending = 1;
    scope.spawn(receive_result(pair.a, receiving));
    scope.spawn(send_result(pair.a, data, sending));
    co_await co_sleep(kMs);
    pair.a.cancel();
    co_await scope.join();
    g_assert_cmpint(receiving, ==, -ECANCELED);
    g_assert_cmpint(sending, ==, -ECANCELED);
    std::byte byte[1];
    g_assert_cmpint(co_await pair.a.recv(byte), ==, -ECANCELED);
    g_assert_cmpint(co_await pair.a.wait(POLLOUT), ==, -ECANCELED);
}

void cancel_ends_both_directions_and_what_comes_later() {
    auto context = make_context();
    sync_wait(*context, cancel_both_directions());
}

Task<void> cancel_in_the_same_turn() {
    SocketPair pair;
    TaskScope scope;
    int result = 1;
    scope.spawn(receive_result(pair.a, result));
    pair.a.cancel();
    pair.a.cancel();
    co_await scope.join();
    g_assert_cmpint(result, ==, -ECANCELED);
}

void cancel_before_the_kernel_knows_of_the_operation() {
    auto context = make_context();
    sync_wait(*context, cancel_in_the_same_turn());
}

Task<void> cancel_what_has_come() {
    SocketPair pair;
    TaskScope scope;
    int result = -1;
    scope.spawn(receive_result(pair.a, result));
    co_await co_sleep(kMs);
    g_assert_cmpint(write(pair.b.fd(), "abc", 3), ==, 3);
    pair.a.cancel();  // the kernel may have received already, or not
    co_await scope.join();
    if (result != 3)
        g_assert_cmpint(result, ==, -ECANCELED);
    char left[8];
    g_assert_cmpint(recv(pair.a.fd(), left, sizeof(left), MSG_DONTWAIT), ==, result == 3 ? -1 : 3);
}

void a_cancelled_receive_loses_no_data() {
    auto context = make_context();
    for (int i = 0; i < 20; i++)
        sync_wait(*context, cancel_what_has_come());
}

// What a coroutine received into is free to be used for something else once it has been told of the end.
Task<void> cancel_then_send() {
    SocketPair pair;
    std::string buffer(1000, 'u');
    TaskScope scope;
    struct Receiver {
        static Task<void> run(Socket& socket, std::string& into) {
            int ret = co_await socket.recv(std::as_writable_bytes(std::span(into)));
            g_assert_cmpint(ret, ==, -ECANCELED);
        }
    };
    scope.spawn(Receiver::run(pair.a, buffer));
    co_await co_sleep(kMs);
    pair.a.cancel();
    co_await scope.join();
    g_assert_cmpint(write(pair.b.fd(), "XXXXXXXX", 8), ==, 8);
    co_await co_sleep(2 * kMs);
    g_assert_true(buffer == std::string(1000, 'u'));
}

void nothing_is_written_to_a_buffer_after_its_receive_was_cancelled() {
    auto context = make_context();
    sync_wait(*context, cancel_then_send());
}

// --- waiting, descriptors ---

Task<void> wait_on(int fd, short events, int expected) {
    Socket socket{UniqueFd(dup(fd))};
    g_assert_cmpint(co_await socket.wait(events), ==, expected);
}

Task<void> wait_on_pipe() {
    int fds[2];
    g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
    UniqueFd in(fds[0]), out(fds[1]);
    TaskScope scope;
    co_await wait_on(out.get(), POLLOUT, POLLOUT);
    scope.spawn(wait_on(in.get(), POLLIN, POLLIN));
    co_await co_sleep(kMs);
    g_assert_cmpuint(scope.running(), ==, 1);
    g_assert_cmpint(write(out.get(), "x", 1), ==, 1);
    co_await scope.join();
    char byte;
    g_assert_cmpint(read(in.get(), &byte, 1), ==, 1);
    scope.spawn(wait_on(in.get(), POLLIN, POLLHUP));
    out.reset();
    co_await scope.join();
}

void pipes_can_be_waited_for() {
    auto context = make_context();
    sync_wait(*context, wait_on_pipe());
}

void a_file_is_always_ready() {
    auto context = make_context();
    UniqueFd fd(open("/tmp", O_TMPFILE | O_RDWR, 0600));
    sync_wait(*context, wait_on(fd.get(), POLLIN, POLLIN));
}

Task<void> wait_on_nothing() {
    Socket closed;
    g_assert_cmpint(co_await closed.wait(POLLIN), ==, -EBADF);
}

void a_socket_without_descriptor_gives_EBADF() {
    auto context = make_context();
    sync_wait(*context, wait_on_nothing());
}

// Two Sockets may own duplicates of one descriptor, or know the same number (one of them borrows it).
Task<void> share_a_descriptor() {
    SocketPair pair;
    Socket duplicate{UniqueFd(dup(pair.a.fd()))};
    Socket borrowed{UniqueFd(pair.a.fd())};
    TaskScope scope;
    int waited = 0, waited_too = 0, duplicated = 0;
    scope.spawn(wait_result(pair.a, POLLIN, waited));
    scope.spawn(wait_result(borrowed, POLLIN, waited_too));
    scope.spawn(wait_result(duplicate, POLLIN, duplicated));
    co_await co_sleep(kMs);
    g_assert_cmpint(write(pair.b.fd(), "x", 1), ==, 1);
    co_await scope.join();
    g_assert_cmpint(waited, ==, POLLIN);
    g_assert_cmpint(waited_too, ==, POLLIN);
    g_assert_cmpint(duplicated, ==, POLLIN);

    std::byte byte[1];
    g_assert_cmpint(co_await pair.a.recv(byte), ==, 1);
    int first = -1, second = -1;
    scope.spawn(receive_result(pair.a, first));
    scope.spawn(receive_result(borrowed, second));
    co_await co_sleep(kMs);
    g_assert_cmpint(write(pair.b.fd(), "y", 1), ==, 1);
    co_await co_sleep(kMs);
    g_assert_cmpuint(scope.running(), ==, 1);
    g_assert_cmpint(write(pair.b.fd(), "z", 1), ==, 1);
    co_await scope.join();
    g_assert_cmpint(first, ==, 1);
    g_assert_cmpint(second, ==, 1);
    borrowed.release().release();
}

void one_descriptor_may_be_waited_for_by_several() {
    auto context = make_context();
    sync_wait(*context, share_a_descriptor());
}

// A descriptor is closed while a duplicate keeps its file open, and its number comes back as another file.
Task<void> reuse_a_number() {
    SocketPair old_pair, new_pair;
    UniqueFd duplicate(dup(old_pair.a.fd()));
    TaskScope scope;
    int result = -1;
    scope.spawn(receive_result(old_pair.a, result));
    co_await co_sleep(kMs);
    g_assert_cmpint(write(old_pair.b.fd(), "x", 1), ==, 1);
    co_await scope.join();
    g_assert_cmpint(result, ==, 1);

    int number = old_pair.a.fd();
    g_assert_cmpint(dup3(new_pair.a.fd(), number, O_CLOEXEC), ==, number);
    scope.spawn(receive_result(old_pair.a, result));
    result = -1;
    g_assert_cmpint(write(old_pair.b.fd(), "y", 1), ==, 1);  // nobody's business any more
    co_await co_sleep(kMs);
    g_assert_cmpint(result, ==, -1);
    g_assert_cmpint(write(new_pair.b.fd(), "zz", 2), ==, 2);
    co_await scope.join();
    g_assert_cmpint(result, ==, 2);
}

// The same, when the first receive was cancelled.
Task<void> reuse_a_number_after_cancel() {
    SocketPair old_pair, new_pair;
    UniqueFd duplicate(dup(old_pair.a.fd()));
    TaskScope scope;
    int result = 1;
    scope.spawn(receive_result(old_pair.a, result));
    co_await co_sleep(kMs);
    old_pair.a.cancel();
    co_await scope.join();
    g_assert_cmpint(result, ==, -ECANCELED);

    int number = old_pair.a.release().release();
    g_assert_cmpint(dup3(new_pair.a.fd(), number, O_CLOEXEC), ==, number);
    Socket reborn{UniqueFd(number)};
    scope.spawn(receive_result(reborn, result));
    co_await co_sleep(kMs);
    g_assert_cmpint(write(new_pair.b.fd(), "zz", 2), ==, 2);
    co_await scope.join();
    g_assert_cmpint(result, ==, 2);
}

void a_descriptor_number_may_come_back_as_another_file() {
    auto context = make_context();
    sync_wait(*context, reuse_a_number());
    sync_wait(*context, reuse_a_number_after_cancel());
}

// --- listening and connecting ---

Socket listen_on_loopback(sockaddr_in& address, int backlog) {
    Socket listener{UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))};
    address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    g_assert_cmpint(bind(listener.fd(), reinterpret_cast<sockaddr*>(&address), length), ==, 0);
    g_assert_cmpint(listen(listener.fd(), backlog), ==, 0);
    getsockname(listener.fd(), reinterpret_cast<sockaddr*>(&address), &length);
    return listener;
}

Task<void> accept_one(Socket& listener) {
    int fd = co_await listener.accept();
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(fcntl(fd, F_GETFD), ==, FD_CLOEXEC);
    g_assert_cmpint(fcntl(fd, F_GETFL) & O_NONBLOCK, ==, 0);
    Socket socket{UniqueFd(fd)};
    g_assert_cmpint(co_await send_text(socket, "welcome"), ==, 0);
}

Task<void> connect_and_talk() {
    sockaddr_in address;
    Socket listener = listen_on_loopback(address, 10);
    TaskScope scope;
    scope.spawn(accept_one(listener));
    co_await co_sleep(kMs);
    Socket client{UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))};
    g_assert_cmpint(co_await client.connect(reinterpret_cast<sockaddr*>(&address), sizeof(address)), ==, 0);
    co_await receive_exactly(client, 7, 7, "welcome");
    co_await scope.join();
    int accepted = 0;
    scope.spawn(accept_result(listener, accepted));
    co_await co_sleep(kMs);
    listener.cancel();
    co_await scope.join();
    g_assert_cmpint(accepted, ==, -ECANCELED);
}

void accept_and_connect_meet() {
    auto context = make_context();
    sync_wait(*context, connect_and_talk());
}

Task<void> connect_to_nobody() {
    sockaddr_in address;
    {
        Socket listener = listen_on_loopback(address, 1);
    }
    Socket client{UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))};
    g_assert_cmpint(co_await client.connect(reinterpret_cast<sockaddr*>(&address), sizeof(address)), ==, -ECONNREFUSED);
}

void connecting_to_nobody_is_refused() {
    auto context = make_context();
    sync_wait(*context, connect_to_nobody());
}

Task<void> connect_to(sockaddr_un& address, int& result) {
    Socket client{UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0))};
    result = co_await client.connect(reinterpret_cast<sockaddr*>(&address), sizeof(address));
}

Socket listen_on_a_name(sockaddr_un& address) {
    snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "ashlar-test-%d-%d", getpid(), g_test_rand_int());
    Socket listener{UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0))};
    g_assert_cmpint(bind(listener.fd(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), ==, 0);
    g_assert_cmpint(listen(listener.fd(), 0), ==, 0);
    return listener;
}

Task<void> connect_to_a_busy_listener() {
    sockaddr_un address{.sun_family = AF_UNIX};
    Socket listener = listen_on_a_name(address);
    TaskScope scope;
    std::vector<int> results(5, 1);
    for (int& result : results)
        scope.spawn(connect_to(address, result));
    co_await co_sleep(kMs);
    g_assert_cmpint(results.back(), ==, 1);  // still trying
    for (size_t i = 0; i < results.size(); i++) {
        UniqueFd fd(co_await listener.accept());
        g_assert_cmpint(fd.get(), >=, 0);
    }
    co_await scope.join();
    for (int result : results)
        g_assert_cmpint(result, ==, 0);
}

void connecting_waits_while_a_unix_listener_is_busy() {
    auto context = make_context();
    sync_wait(*context, connect_to_a_busy_listener());
}

Task<void> cancel_a_connect() {
    sockaddr_un address{.sun_family = AF_UNIX};
    Socket listener = listen_on_a_name(address);
    int result = 1;
    while (result == 1) {  // until the listener's queue is full and one has to wait
        Socket client{UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0))};
        TaskScope scope;
        struct Connector {
            static Task<void> run(Socket& socket, sockaddr_un& to, int& ret) {
                ret = co_await socket.connect(reinterpret_cast<sockaddr*>(&to), sizeof(to));
            }
        };
        scope.spawn(Connector::run(client, address, result));
        if (result == 0) {
            result = 1;
            co_await scope.join();
            continue;
        }
        client.cancel();
        co_await scope.join();
    }
    g_assert_cmpint(result, ==, -ECANCELED);
}

void cancel_ends_a_connect_that_waits_for_a_busy_listener() {
    auto context = make_context();
    sync_wait(*context, cancel_a_connect());
}

// --- many at once ---

Task<void> talk(AioContext& there, std::minstd_rand random, int rounds) {
    SocketPair pair;
    TaskScope scope;
    scope.spawn_on(there, echo(pair.b));
    for (int i = 0; i < rounds; i++) {
        std::string data(1 + random() % 10000, static_cast<char>('a' + i % 26));
        TaskScope sending;
        struct Sender {
            static Task<void> run(Socket& socket, std::string text) {
                g_assert_cmpint(co_await send_text(socket, std::move(text)), ==, 0);
            }
        };
        sending.spawn(Sender::run(pair.a, data));
        co_await receive_exactly(pair.a, data.size(), static_cast<int>(data.size()), data);
        co_await sending.join();
    }
    pair.a.shutdown();
    co_await scope.join();
}

void conversations_between_many_threads() {
    Contexts contexts(3);
    auto random = random_numbers();
    sync_wait(*contexts.home, run_everywhere(contexts, 24, [&](unsigned i) {
        return talk(contexts[(i + 1) % contexts.count()], std::minstd_rand(random()), 50);
    }));
}

// Receivers that are cancelled at any moment end, once.
Task<void> cancel_at_random(std::minstd_rand random) {
    for (int i = 0; i < 50; i++) {
        SocketPair pair;
        TaskScope scope;
        int result = 1;
        scope.spawn(receive_result(pair.a, result));
        unsigned how = random() % 8;
        if (how & 1)
            g_assert_cmpint(write(pair.b.fd(), "x", 1), ==, 1);
        if (how & 2)
            co_await co_yield_now();
        if (how & 4)
            co_await co_sleep(static_cast<int64_t>(random() % 100'000));
        pair.a.cancel();
        co_await scope.join();
        g_assert_true(result == -ECANCELED || ((how & 1) && result == 1));
    }
}

void cancelling_at_any_moment_ends_once() {
    Contexts contexts(2);
    sync_wait(*contexts.home,
              run_everywhere(contexts, 60, [&](unsigned) { return cancel_at_random(random_numbers()); }));
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    add("/socket/recv-exact-waits-for-all-of-it", recv_exact_waits_for_all_of_it);
    add("/socket/recv-exact-tells-an-end-in-the-middle-from-one-before",
        recv_exact_tells_an_end_in_the_middle_from_one_before);
    add("/socket/more-than-the-kernel-buffers-goes-both-ways", more_than_the_kernel_buffers_goes_both_ways_at_once);
    add("/socket/trying-to-send-never-waits", trying_to_send_never_waits);
    add("/socket/what-is-behind-so-many-bytes", what_is_behind_so_many_bytes);
    add("/socket/sending-to-a-closed-peer-gives-EPIPE", sending_to_a_closed_peer_gives_EPIPE);
    add("/socket/a-receiver-that-waits-sees-the-peer-close", a_receiver_that_waits_sees_the_peer_close);
    add("/socket/cancel-ends-both-directions-and-what-comes-later", cancel_ends_both_directions_and_what_comes_later);
    add("/socket/cancel-before-the-kernel-knows", cancel_before_the_kernel_knows_of_the_operation);
    add("/socket/a-cancelled-receive-loses-no-data", a_cancelled_receive_loses_no_data);
    add("/socket/no-write-to-a-buffer-after-cancel", nothing_is_written_to_a_buffer_after_its_receive_was_cancelled);
    add("/socket/pipes-can-be-waited-for", pipes_can_be_waited_for);
    add("/socket/a-file-is-always-ready", a_file_is_always_ready);
    add("/socket/a-socket-without-descriptor-gives-EBADF", a_socket_without_descriptor_gives_EBADF);
    add("/socket/one-descriptor-may-be-waited-for-by-several", one_descriptor_may_be_waited_for_by_several);
    add("/socket/a-number-may-come-back-as-another-file", a_descriptor_number_may_come_back_as_another_file);
    add("/socket/accept-and-connect-meet", accept_and_connect_meet);
    add("/socket/connecting-to-nobody-is-refused", connecting_to_nobody_is_refused);
    add("/socket/connecting-waits-while-a-unix-listener-is-busy", connecting_waits_while_a_unix_listener_is_busy);
    add("/socket/cancel-ends-a-connect-that-waits", cancel_ends_a_connect_that_waits_for_a_busy_listener);
    add("/socket/stress/conversations-between-threads", conversations_between_many_threads);
    add("/socket/stress/cancelling-at-any-moment-ends-once", cancelling_at_any_moment_ends_once);
    return g_test_run();
}
