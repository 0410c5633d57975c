#include "util/aio_context.h"

#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <sys/socket.h>

#include <string>

#include "tests/unit/runtime_test.h"
#include "util/file_io.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

Task<int> add_after_yield(int a, int b) {
    co_await co_yield_now();
    co_return a + b;
}

void sync_wait_returns_the_value() {
    auto context = make_context();
    g_assert_cmpint(sync_wait(*context, add_after_yield(2, 3)), ==, 5);
}

Task<AioContext*> context_after_yield() {
    co_await co_yield_now();
    co_return AioContext::current();
}

void a_thread_may_have_several_contexts() {
    auto first = make_context();
    auto second = make_context();
    g_assert_true(sync_wait(*second, context_after_yield()) == second.get());
    g_assert_true(sync_wait(*first, context_after_yield()) == first.get());
    first.reset();
    g_assert_true(sync_wait(*second, context_after_yield()) == second.get());
}

Task<void> sleep_and_note(int64_t ns, int id, std::string& order) {
    co_await co_sleep(ns);
    order += static_cast<char>('0' + id);
}

Task<void> sleep_three(std::string& order) {
    TaskScope scope;
    scope.spawn(sleep_and_note(30'000'000, 3, order));
    scope.spawn(sleep_and_note(10'000'000, 1, order));
    scope.spawn(sleep_and_note(20'000'000, 2, order));
    co_await scope.join();
}

void timers_fire_in_order_of_their_deadlines() {
    auto context = make_context();
    std::string order;
    sync_wait(*context, sleep_three(order));
    g_assert_cmpstr(order.c_str(), ==, "123");
}

Task<void> talk(Socket& client, Socket& server) {
    TaskScope scope;
    scope.spawn(echo(server));
    for (int i = 0; i < 100; i++) {
        char text[] = "hello";
        iovec iov{text, sizeof(text)};
        g_assert_cmpint(co_await client.send_all(std::span(&iov, 1)), ==, 0);
        std::byte reply[sizeof(text)];
        g_assert_cmpint(co_await client.recv_exact(reply), ==, sizeof(text));
        g_assert_cmpstr(reinterpret_cast<char*>(reply), ==, "hello");
    }
    client.shutdown();
    co_await scope.join();
}

void sockets_carry_data_both_ways() {
    auto context = make_context();
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    Socket a{UniqueFd(fds[0])}, b{UniqueFd(fds[1])};
    sync_wait(*context, talk(a, b));
}

Task<void> receive_until_canceled(Socket& socket, int& result) {
    std::byte buffer[64];
    result = co_await socket.recv(buffer);
}

Task<void> cancel_receiver(Socket& socket) {
    TaskScope scope;
    int result = 0;
    scope.spawn(receive_until_canceled(socket, result));
    co_await co_yield_now();
    g_assert_cmpint(result, ==, 0);
    socket.cancel();
    co_await scope.join();
    g_assert_cmpint(result, ==, -ECANCELED);
}

void cancel_ends_a_receive() {
    auto context = make_context();
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    Socket a{UniqueFd(fds[0])}, b{UniqueFd(fds[1])};
    sync_wait(*context, cancel_receiver(a));
}

Task<void> write_and_read_back(AioMode mode, int fd) {
    std::string data(10000, 'x');
    data[5000] = 'y';
    iovec out{data.data(), data.size()};
    g_assert_cmpint(co_await file_writev(mode, fd, 4096, &out, 1, 0), ==, 10000);
    g_assert_cmpint(co_await file_datasync(mode, fd), ==, 0);
    std::string back(10000, 0);
    iovec in[2] = {{back.data(), 3000}, {back.data() + 3000, 7000}};
    g_assert_cmpint(co_await file_readv(mode, fd, 4096, in, 2), ==, 10000);
    g_assert_true(back == data);
}

void files_are_written_and_read() {
    auto context = make_context();
    UniqueFd fd(open("/tmp", O_TMPFILE | O_RDWR, 0600));
    g_assert_cmpint(fd.get(), >=, 0);
    sync_wait(*context, write_and_read_back(AioMode::Threads, fd.get()));
    sync_wait(*context, write_and_read_back(AioMode::IoUring, fd.get()));
    sync_wait(*context, write_and_read_back(AioMode::Native, fd.get()));
}

Task<int> hop(AioContext& there, AioContext& home) {
    int hops = 0;
    for (int i = 0; i < 1000; i++) {
        co_await switch_to(there);
        hops += AioContext::current() == &there;
        co_await switch_to(home);
        hops += AioContext::current() == &home;
    }
    co_return hops;
}

Task<void> note_input_after_a_yield(Socket& socket, std::string& order) {
    co_await socket.wait(POLLIN);
    co_await co_yield_now();
    order += "input ";
}

Task<void> note_the_next_turn(std::string& order) {
    co_await co_next_turn();
    order += "next ";
}

Task<void> note_input_and_the_next_turn(Socket& socket, std::string& order) {
    TaskScope scope;
    scope.spawn(note_the_next_turn(order));
    scope.spawn(note_input_after_a_yield(socket, order));
    co_await scope.join();
}

void the_next_turn_comes_after_what_completes_at_once() {
    auto context = make_context();
    SocketPair pair;
    sync_wait(*context, send_text(pair.a, "x"));
    std::string order;
    sync_wait(*context, note_input_and_the_next_turn(pair.b, order));
    g_assert_cmpstr(order.c_str(), ==, "input next ");
}

void switch_to_moves_between_threads() {
    auto context = make_context();
    auto thread = make_iothread("t0");
    g_assert_cmpint(sync_wait(*context, hop(thread->context(), *context)), ==, 2000);
}

Task<void> flood(int& count) {
    TaskScope scope;
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    UniqueFd a(fds[0]), b(fds[1]);
    struct Poller {
        static Task<void> run(int fd, int& n) {
            Socket socket{UniqueFd(dup(fd))};
            co_await socket.wait(1 /* POLLIN */);
            n++;
        }
    };
    for (int i = 0; i < 5000; i++)  // more than the submission and completion queues hold
        scope.spawn(Poller::run(a.get(), count));
    co_await co_sleep(1'000'000);
    g_assert_cmpint(count, ==, 0);
    g_assert_cmpint(write(b.get(), "x", 1), ==, 1);
    co_await scope.join();
}

void more_operations_than_the_queues_hold_all_complete() {
    auto context = make_context();
    int count = 0;
    sync_wait(*context, flood(count));
    g_assert_cmpint(count, ==, 5000);
}

Task<void> cancel_a_flood(int& canceled) {
    SocketPair pair;
    TaskScope scope;
    struct Poller {
        static Task<void> run(Socket& socket, int& n) { n += co_await socket.wait(1 /* POLLIN */) == -ECANCELED; }
    };
    std::vector<Socket> sockets;
    for (int i = 0; i < 5000; i++)
        sockets.emplace_back(UniqueFd(dup(pair.a.fd())));
    for (Socket& socket : sockets)
        scope.spawn(Poller::run(socket, canceled));
    for (size_t i = 0; i < sockets.size() / 2; i++)  // some of which the kernel has never heard of
        sockets[i].cancel();
    co_await co_sleep(1'000'000);
    for (size_t i = sockets.size() / 2; i < sockets.size(); i++)
        sockets[i].cancel();
    co_await scope.join();
}

void more_operations_than_the_queues_hold_can_be_cancelled() {
    auto context = make_context();
    int canceled = 0;
    sync_wait(*context, cancel_a_flood(canceled));
    g_assert_cmpint(canceled, ==, 5000);
}

Task<void> quit_soon(GMainLoop* loop, AioContext& there, AioContext& home) {
    co_await co_sleep(2'000'000);
    g_assert_cmpint(co_await hop(there, home), ==, 2000);
    g_main_loop_quit(loop);
}

void the_gsource_runs_the_context() {
    auto context = make_context();
    auto thread = make_iothread("t0");
    GSource* source = context->make_gsource();
    g_source_attach(source, nullptr);
    GMainLoop* loop = g_main_loop_new(nullptr, FALSE);
    TaskScope scope;
    scope.spawn(quit_soon(loop, thread->context(), *context));
    g_main_loop_run(loop);
    sync_wait(*context, scope.join());
    g_main_loop_unref(loop);
    g_source_destroy(source);
    g_source_unref(source);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    add("/aio-context/sync-wait-returns-the-value", sync_wait_returns_the_value);
    add("/aio-context/a-thread-may-have-several-contexts", a_thread_may_have_several_contexts);
    add("/aio-context/timers-fire-in-order-of-their-deadlines", timers_fire_in_order_of_their_deadlines);
    add("/aio-context/sockets-carry-data-both-ways", sockets_carry_data_both_ways);
    add("/aio-context/cancel-ends-a-receive", cancel_ends_a_receive);
    add("/aio-context/files-are-written-and-read", files_are_written_and_read);
    add("/aio-context/switch-to-moves-between-threads", switch_to_moves_between_threads);
    add("/aio-context/the-next-turn-comes-after-what-completes-at-once",
        the_next_turn_comes_after_what_completes_at_once);
    add("/aio-context/more-operations-than-the-queues-hold", more_operations_than_the_queues_hold_all_complete);
    add("/aio-context/more-operations-than-the-queues-hold-can-be-cancelled",
        more_operations_than_the_queues_hold_can_be_cancelled);
    add("/aio-context/the-gsource-runs-the-context", the_gsource_runs_the_context);
    return g_test_run();
}
