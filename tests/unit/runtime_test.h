// What the tests of the runtime share: every promise is checked on both engines, as /PATH/io_uring and /PATH/epoll.
#pragma once

#include <glib.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "util/aio_context.h"
#include "util/io_thread.h"
#include "util/socket.h"
#include "util/sync_wait.h"
#include "util/task_scope.h"

namespace ashlar::test {

inline AioContext::EngineKind engine = AioContext::EngineKind::Epoll;  // of the test that runs

inline std::unique_ptr<AioContext> make_context() {
    auto context = AioContext::create(engine);
    if (!context)
        g_error("%s", context.error().message.c_str());
    return std::move(*context);
}

inline std::unique_ptr<IOThread> make_iothread(const std::string& id) {
    auto thread = IOThread::create(id, engine);
    if (!thread)
        g_error("%s", thread.error().message.c_str());
    return std::move(*thread);
}

struct SocketPair {
    Socket a, b;

    SocketPair() {
        int fds[2];
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
        a = Socket(UniqueFd(fds[0]));
        b = Socket(UniqueFd(fds[1]));
    }
};

inline Task<int> send_text(Socket& socket, std::string text) {
    iovec iov{text.data(), text.size()};
    co_return co_await socket.send_all(std::span(&iov, 1));
}

// Sends back what comes, until the end.
inline Task<void> echo(Socket& socket) {
    std::byte buffer[4096];
    for (;;) {
        int n = co_await socket.recv(buffer);
        if (n <= 0)
            break;
        iovec iov{buffer, static_cast<size_t>(n)};
        g_assert_cmpint(co_await socket.send_all(std::span(&iov, 1)), ==, 0);
    }
}

// A coroutine's own random numbers, from the seed that the test prints and takes (--seed).
inline std::minstd_rand random_numbers() {
    return std::minstd_rand(static_cast<unsigned>(g_test_rand_int_range(1, INT32_MAX)));
}

// The main thread's context and those of some IOThreads.
struct Contexts {
    std::unique_ptr<AioContext> home = make_context();
    std::vector<std::unique_ptr<IOThread>> threads;

    explicit Contexts(unsigned n) {
        for (unsigned i = 0; i < n; i++)
            threads.push_back(make_iothread("t" + std::to_string(i)));
    }
    unsigned count() const { return static_cast<unsigned>(threads.size()) + 1; }
    AioContext& operator[](unsigned i) const { return i == 0 ? *home : threads[i - 1]->context(); }
};

// Starts `count` coroutines made by fn(i), spread over the contexts, and waits for all of them.
template <class Fn>
Task<void> run_everywhere(Contexts& contexts, unsigned count, Fn fn) {
    TaskScope scope;
    for (unsigned i = 0; i < count; i++)
        scope.spawn_on(contexts[i % contexts.count()], fn(i));
    co_await scope.join();
}

template <AioContext::EngineKind kKind>
void run_on_engine(gconstpointer fn) {
    engine = kKind;
    if (auto context = AioContext::create(engine); !context) {
        const Error& why = context.error();
        if (why.code != ENOSYS && why.code != EPERM && why.code != EACCES)
            g_error("%s", why.message.c_str());
        return g_test_skip(why.message.c_str());  // the kernel has none, or does not let us
    }
    reinterpret_cast<void (*)()>(const_cast<void*>(fn))();
}

inline void add(const std::string& path, void (*fn)()) {
    auto* data = reinterpret_cast<gconstpointer>(fn);
    g_test_add_data_func((path + "/io_uring").c_str(), data, run_on_engine<AioContext::EngineKind::IoUring>);
    g_test_add_data_func((path + "/epoll").c_str(), data, run_on_engine<AioContext::EngineKind::Epoll>);
}

}  // namespace ashlar::test
