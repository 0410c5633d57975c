// What the runtime's parts cost; docs/devel/runtime.md has figures.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "util/co_mutex.h"
#include "util/file_io.h"
#include "util/gate.h"
#include "util/io_thread.h"
#include "util/socket.h"
#include "util/sync_wait.h"
#include "util/task_scope.h"

using namespace ashlar;

namespace {

using Engine = AioContext::EngineKind;

std::unique_ptr<AioContext> make_context(Engine engine = Engine::Auto) {
    auto context = AioContext::create(engine);
    if (!context) {
        std::fprintf(stderr, "%s\n", context.error().message.c_str());
        std::exit(1);
    }
    return std::move(*context);
}

void frame_alloc_and_free(benchmark::State& state) {
    for (auto _ : state) {
        void* frame = frame_alloc(200);
        benchmark::DoNotOptimize(frame);
        frame_free(frame, 200);
    }
}
BENCHMARK(frame_alloc_and_free);

// Not inlined, so that each has a frame of its own.
[[gnu::noinline]] Task<int> give(int value) {
    co_return value;
}

Task<void> create_and_finish_loop(benchmark::State& state) {
    for (auto _ : state)
        benchmark::DoNotOptimize(co_await give(1));
}

void create_and_finish(benchmark::State& state) {
    sync_wait(*make_context(), create_and_finish_loop(state));
}
BENCHMARK(create_and_finish);

[[gnu::noinline]] Task<int> nest(int depth) {
    if (depth == 0)
        co_return 0;
    co_return 1 + co_await nest(depth - 1);
}

Task<void> nested_loop(benchmark::State& state) {
    for (auto _ : state)
        benchmark::DoNotOptimize(co_await nest(9));
}

void ten_nested_awaits(benchmark::State& state) {
    sync_wait(*make_context(), nested_loop(state));
}
BENCHMARK(ten_nested_awaits);

Task<void> yield_loop(benchmark::State& state) {
    for (auto _ : state)
        co_await co_yield_now();
}

void yield(benchmark::State& state) {
    sync_wait(*make_context(), yield_loop(state));
}
BENCHMARK(yield);

Task<void> mutex_loop(benchmark::State& state) {
    CoMutex mutex;
    for (auto _ : state)
        auto guard = co_await mutex.co_lock();
}

void co_mutex_uncontended(benchmark::State& state) {
    sync_wait(*make_context(), mutex_loop(state));
}
BENCHMARK(co_mutex_uncontended);

Task<void> lock_and_yield(CoMutex& mutex, const bool& stop) {
    while (!stop) {
        auto guard = co_await mutex.co_lock();
        co_await co_yield_now();
    }
}

Task<void> handoff_loop(benchmark::State& state) {
    CoMutex mutex;
    bool stop = false;
    TaskScope scope;
    scope.spawn(lock_and_yield(mutex, stop));
    for (auto _ : state) {
        auto guard = co_await mutex.co_lock();
        co_await co_yield_now();
    }
    stop = true;
    co_await scope.join();
}

// An iteration is two handoffs and two yields.
void co_mutex_handoff(benchmark::State& state) {
    sync_wait(*make_context(), handoff_loop(state));
}
BENCHMARK(co_mutex_handoff);

Task<void> gate_loop(benchmark::State& state) {
    Gate gate;
    for (auto _ : state)
        auto pass = co_await gate.enter();
}

void gate_enter_and_leave(benchmark::State& state) {
    sync_wait(*make_context(), gate_loop(state));
}
BENCHMARK(gate_enter_and_leave);

Task<void> hop_loop(benchmark::State& state, AioContext& there, AioContext& home) {
    for (auto _ : state) {
        co_await switch_to(there);
        co_await switch_to(home);
    }
}

// To another thread and back: two wake-ups. The argument is poll_max_ns.
void cross_thread_round_trip(benchmark::State& state) {
    auto context = make_context();
    auto thread = IOThread::create("bench");
    context->set_poll_parameters({.max_ns = state.range(0)});
    (*thread)->context().set_poll_parameters({.max_ns = state.range(0)});
    sync_wait(*context, hop_loop(state, (*thread)->context(), *context));
}
BENCHMARK(cross_thread_round_trip)->Arg(0)->Arg(PollParameters{}.max_ns)->Arg(1'000'000)->UseRealTime();

Task<void> echo(Socket& socket) {
    std::byte byte[1];
    while (co_await socket.recv(byte) == 1) {
        iovec iov{byte, 1};
        if (co_await socket.send(std::span(&iov, 1)) != 1)
            break;
    }
}

Task<void> ping_pong_loop(benchmark::State& state) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
        std::abort();
    Socket a{UniqueFd(fds[0])}, b{UniqueFd(fds[1])};
    TaskScope scope;
    scope.spawn(echo(b));
    std::byte byte[1] = {};
    for (auto _ : state) {
        iovec iov{byte, 1};
        if (co_await a.send(std::span(&iov, 1)) != 1 || co_await a.recv(byte) != 1)
            std::abort();
    }
    a.shutdown();
    co_await scope.join();
}

// One byte to an echo in the same loop and back: both receivers have to wait.
void socket_ping_pong_uring(benchmark::State& state) {
    sync_wait(*make_context(Engine::IoUring), ping_pong_loop(state));
}
BENCHMARK(socket_ping_pong_uring);

void socket_ping_pong_epoll(benchmark::State& state) {
    sync_wait(*make_context(Engine::Epoll), ping_pong_loop(state));
}
BENCHMARK(socket_ping_pong_epoll);

Task<void> read_byte(AioMode mode, int fd) {
    char byte;
    iovec iov{&byte, 1};
    benchmark::DoNotOptimize(co_await file_readv(mode, fd, 0, &iov, 1));
}

Task<void> read_loop(benchmark::State& state, AioMode mode) {
    UniqueFd fd(open("/dev/zero", O_RDONLY | O_CLOEXEC));
    int64_t depth = state.range(0);
    for (auto _ : state) {
        TaskScope scope;
        for (int64_t i = 0; i < depth; i++)
            scope.spawn(read_byte(mode, fd.get()));
        co_await scope.join();
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) * depth);
}

// A byte of /dev/zero: what a file operation costs besides the file. The argument is the number under way at a time.
void file_read_uring(benchmark::State& state) {
    sync_wait(*make_context(Engine::IoUring), read_loop(state, AioMode::IoUring));
}
BENCHMARK(file_read_uring)->Arg(1)->Arg(32);

void file_read_linux_aio(benchmark::State& state) {
    sync_wait(*make_context(), read_loop(state, AioMode::Native));
}
BENCHMARK(file_read_linux_aio)->Arg(1)->Arg(32);

void file_read_thread_pool(benchmark::State& state) {
    sync_wait(*make_context(), read_loop(state, AioMode::Threads));
}
BENCHMARK(file_read_thread_pool)->Arg(1)->Arg(32)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
