#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <sys/un.h>

#include "tests/unit/assert_str.h"
#include "util/socket_address.h"

using namespace ashlar;

namespace {

SocketAddress parsed(std::string_view text) {
    auto address = parse_socket_address(text);
    g_assert_true(address.has_value());
    return *address;
}

std::string refusal(std::string_view text) {
    auto address = parse_socket_address(text);
    g_assert_false(address.has_value());
    return address.error().message;
}

void test_strings() {
    g_assert_true(parsed("unix:/run/a.sock") == SocketAddress(UnixAddress{.path = "/run/a.sock"}));
    g_assert_true(parsed("localhost:10809") == SocketAddress(InetAddress{"localhost", "10809", {}, {}}));
    g_assert_true(parsed(":0") == SocketAddress(InetAddress{"", "0", {}, {}}));
    g_assert_true(parsed("tcp:[::1]:nbd") == SocketAddress(InetAddress{"::1", "nbd", {}, {}}));
    g_assert_true(parsed("127.0.0.1:1,to=9,ipv4") == SocketAddress(InetAddress{"127.0.0.1", "1", true, {}, 9}));
    g_assert_true(parsed("h:1,ipv6=off") == SocketAddress(InetAddress{"h", "1", {}, false}));
    g_assert_true(parsed("vsock:2:10809") == SocketAddress(VsockAddress{"2", "10809"}));
    g_assert_true(parsed("fd:7") == SocketAddress(FdAddress{7}));
    for (const char* text : {"unix:/run/a.sock", "localhost:10809", "[::1]:nbd", "vsock:any:1", "fd:3"})
        assert_str(to_string(parsed(text)), text);
}

void test_refusals() {
    assert_str(refusal("host"), "host: the port is missing (expected 'HOST:PORT')");
    assert_str(refusal("host:"), "host:: the port is missing (expected 'HOST:PORT')");
    assert_str(refusal("::1:5"), "::1:5: an IPv6 address must be in brackets ('[IPV6-ADDRESS]:PORT')");
    assert_str(refusal("[::1]5"), "[::1]5: expected '[IPV6-ADDRESS]:PORT'");
    assert_str(refusal("h:1,too=9"), "h:1,too=9: unknown option 'too'");
    assert_str(refusal("h:1,to=70000"), "h:1,to=70000: to: '70000' is not a port number");
    assert_str(refusal("unix:"), "unix:: the path is missing (expected 'unix:PATH')");
    assert_str(refusal("fd:x"), "fd:x: 'x' is not a file descriptor number");
    assert_str(refusal("vsock:2"), "vsock:2: expected 'vsock:CID:PORT'");
    assert_str(refusal("vsock:x:1"), "vsock:x:1: cid: expected a number or 'any'");
}

void test_port_zero_is_one_port_for_all() {
    auto listeners = listen_on(InetAddress{"localhost", "0", {}, {}});
    g_assert_true(listeners.has_value());
    g_assert_cmpuint(listeners->size(), >=, 1);
    std::string port;
    for (const UniqueFd& fd : *listeners) {
        auto local = local_address(fd.get());
        const auto& inet = std::get<InetAddress>(*local);
        g_assert_cmpstr(inet.port.c_str(), !=, "0");
        if (!port.empty())
            assert_str(inet.port, port);
        port = inet.port;
    }
    auto taken = listen_on(InetAddress{"localhost", port, {}, {}});
    g_assert_cmpint(taken.error().code, ==, EADDRINUSE);
    auto next =
        listen_on(InetAddress{"localhost", port, {}, {}, static_cast<uint16_t>(std::min(65535, std::stoi(port) + 50))});
    g_assert_true(next.has_value());
}

void test_port_has_16_bits() {
    for (const char* port : {"65536", "99999", "99999999999999999999"}) {
        auto refused = listen_on(InetAddress{"localhost", port, {}, {}});
        assert_str(refused.error().message, fmt::format("localhost:{0}: port: {0} exceeds the limit of 65535", port));
    }
}

struct TempDir {
    std::string path;
    TempDir() {
        char name[] = "/tmp/ashlar-addr-XXXXXX";
        path = g_mkdtemp(name);
    }
    ~TempDir() { g_rmdir(path.c_str()); }
};

void test_stale_unix_socket_is_replaced() {
    TempDir dir;
    UnixAddress address{.path = dir.path + "/s"};
    {
        auto first = listen_on(address);
        g_assert_true(first.has_value());
        g_assert_cmpint(listen_on(address).error().code, ==, EADDRINUSE);  // somebody listens
    }
    auto again = listen_on(address);  // nobody does: only the file is left
    g_assert_true(again.has_value());
    g_assert_true(*local_address(again->front().get()) == SocketAddress(address));
    g_unlink(address.path.c_str());

    g_assert_true(g_file_set_contents(address.path.c_str(), "precious", -1, nullptr));
    g_assert_cmpint(listen_on(address).error().code, ==, EADDRINUSE);
    g_assert_true(g_file_test(address.path.c_str(), G_FILE_TEST_IS_REGULAR));
    g_unlink(address.path.c_str());
}

void test_long_and_abstract_names() {
    g_assert_true(listen_on(UnixAddress{.path = std::string(108, 'x')})
                      .error()
                      .message.ends_with("path: 108 bytes exceed the limit of 107"));
    UnixAddress address{.path = std::string("ashlar\0test-", 12) + std::to_string(getpid()), .abstract = true};
    auto listeners = listen_on(address);
    g_assert_true(listeners.has_value());
    g_assert_true(*local_address(listeners->front().get()) == SocketAddress(address));
}

void test_inherited() {
    auto listeners = listen_on(InetAddress{"127.0.0.1", "0", {}, {}});
    int number = listeners->front().release();
    auto taken = listen_on(FdAddress{number});
    g_assert_true(taken.has_value());
    g_assert_cmpint(taken->front().get(), ==, number);
    int pair[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    UniqueFd a(pair[0]), b(pair[1]);
    g_assert_true(listen_on(FdAddress{pair[0]}).error().message.ends_with("the socket does not listen"));
    int file = open("/dev/null", O_RDONLY);
    g_assert_true(listen_on(FdAddress{file}).error().message.ends_with("is not a stream socket"));
    close(file);
}

int send_room(int fd) {
    int room = 0;
    socklen_t size = sizeof room;
    g_assert_cmpint(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, &size), ==, 0);
    return room;
}

void test_prepared_unix_socket_takes_more() {
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    prepare_for_requests(fds[0]);
    g_assert_cmpint(send_room(fds[0]), >, send_room(fds[1]));
    close(fds[0]);
    close(fds[1]);
}

void test_systemd() {
    g_unsetenv("LISTEN_PID");
    g_assert_cmpuint(take_systemd_sockets()->size(), ==, 0);
    g_setenv("LISTEN_PID", "1", true);  // another process's
    g_setenv("LISTEN_FDS", "1", true);
    g_assert_cmpuint(take_systemd_sockets()->size(), ==, 0);
    g_setenv("LISTEN_PID", std::to_string(getpid()).c_str(), true);
    g_setenv("LISTEN_FDS", "many", true);
    assert_str(take_systemd_sockets().error().message, "LISTEN_FDS: 'many' is not a number of file descriptors");
    int saved = dup(3);
    auto listeners = listen_on(InetAddress{"127.0.0.1", "0", {}, {}});
    g_assert_cmpint(dup2(listeners->front().get(), 3), ==, 3);
    if (listeners->front().get() == 3)
        listeners->front().release();
    g_setenv("LISTEN_FDS", "1", true);
    {
        auto taken = take_systemd_sockets();
        g_assert_true(taken.has_value());
        g_assert_cmpuint(taken->size(), ==, 1);
        g_assert_cmpint(taken->front().get(), ==, 3);
        g_assert_cmpint(fcntl(3, F_GETFD), ==, FD_CLOEXEC);
        g_assert_null(g_getenv("LISTEN_FDS"));
    }
    if (saved >= 0) {
        dup2(saved, 3);
        close(saved);
    }
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/socket-address/strings-are-understood-and-given-back", test_strings);
    g_test_add_func("/socket-address/bad-strings-are-refused-with-the-reason", test_refusals);
    g_test_add_func("/socket-address/port-0-is-one-port-for-all-addresses", test_port_zero_is_one_port_for_all);
    g_test_add_func("/socket-address/a-port-has-16-bits", test_port_has_16_bits);
    g_test_add_func("/socket-address/a-stale-unix-socket-is-replaced-and-nothing-else",
                    test_stale_unix_socket_is_replaced);
    g_test_add_func("/socket-address/long-and-abstract-unix-names", test_long_and_abstract_names);
    g_test_add_func("/socket-address/inherited-descriptors-must-listen", test_inherited);
    g_test_add_func("/socket-address/a-prepared-unix-socket-takes-more-unreceived-data",
                    test_prepared_unix_socket_takes_more);
    g_test_add_func("/socket-address/systemd-activation", test_systemd);
    return g_test_run();
}
