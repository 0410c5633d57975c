// That a loop which sleeps is woken, whoever has something for it and however it sleeps.
#include <fcntl.h>

#include <atomic>

#include "tests/unit/runtime_test.h"
#include "util/buffer_pool.h"
#include "util/file_io.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

// The main loop with the context in it.
struct MainLoop {
    GSource* source;
    GMainLoop* loop = g_main_loop_new(nullptr, FALSE);

    explicit MainLoop(AioContext& context) : source(context.make_gsource()) { g_source_attach(source, nullptr); }
    ~MainLoop() {
        g_source_destroy(source);
        g_source_unref(source);
        g_main_loop_unref(loop);
    }
    void run(AioContext& context, Task<void> task) {
        TaskScope scope;
        scope.spawn(quit_after(std::move(task), loop));
        g_main_loop_run(loop);
        sync_wait(context, scope.join());
    }
    static Task<void> quit_after(Task<void> task, GMainLoop* loop) {
        co_await std::move(task);
        g_main_loop_quit(loop);
    }
};

Task<void> hop_with_pauses(AioContext& there, AioContext& home, std::minstd_rand random, int rounds) {
    for (int i = 0; i < rounds; i++) {
        AioContext& here = i % 2 ? home : there;
        co_await switch_to(here);
        if (random() % 4 == 0)
            co_await co_sleep(static_cast<int64_t>(random() % 60'000));  // long enough for the other to fall asleep
        else if (random() % 4 == 0)
            co_await run_blocking([] { return 0; });
        g_assert_true(AioContext::current() == &here);
    }
    co_await switch_to(home);
}

Task<void> hop_in_parallel(Contexts& contexts, std::minstd_rand random, int rounds) {
    TaskScope scope;
    for (unsigned i = 1; i < contexts.count(); i++)
        scope.spawn(hop_with_pauses(contexts[i], *contexts.home, std::minstd_rand(random()), rounds));
    co_await scope.join();
}

void contexts_wake_each_other() {
    Contexts contexts(2);
    sync_wait(*contexts.home, hop_in_parallel(contexts, random_numbers(), 1000));
}

void contexts_wake_each_other_without_spinning() {
    Contexts contexts(2);
    for (unsigned i = 0; i < contexts.count(); i++)
        contexts[i].set_poll_parameters({.max_ns = 0});
    sync_wait(*contexts.home, hop_in_parallel(contexts, random_numbers(), 1000));
}

void contexts_wake_the_main_loop() {
    Contexts contexts(2);
    MainLoop main(*contexts.home);
    main.run(*contexts.home, hop_in_parallel(contexts, random_numbers(), 1000));
}

gboolean stay_busy(gpointer turns) {
    ++*static_cast<int*>(turns);
    return G_SOURCE_CONTINUE;
}

gboolean block_in_context(gpointer context) {
    struct Napper {
        static Task<void> run() {
            co_await run_blocking([] { return g_usleep(50), 0; });
        }
    };
    sync_wait(*static_cast<AioContext*>(context), Napper::run());
    return G_SOURCE_CONTINUE;
}

// A source that is always ready and goes first has GLib skip the second half of our source's turn.
void a_busy_source_of_higher_priority_loses_no_wake_up() {
    Contexts contexts(2);
    MainLoop main(*contexts.home);
    int turns = 0;
    guint busy = g_timeout_add_full(G_PRIORITY_HIGH, 0, stay_busy, &turns, nullptr);
    // Blocking code between turns sleeps in the engine itself, not on its descriptor.
    guint blocking = g_timeout_add_full(G_PRIORITY_HIGH, 0, block_in_context, contexts.home.get(), nullptr);
    g_source_set_can_recurse(g_main_context_find_source_by_id(nullptr, blocking), FALSE);
    main.run(*contexts.home, hop_in_parallel(contexts, random_numbers(), 100));
    g_source_remove(busy);
    g_source_remove(blocking);
    g_assert_cmpint(turns, >, 0);
}

Task<void> read_direct(AioMode mode, int fd, int rounds) {
    Buffer buffer(4096);
    iovec iov{buffer.data(), buffer.size()};
    for (int i = 0; i < rounds; i++) {
        g_assert_cmpint(co_await file_readv(mode, fd, 4096 * (i % 256), &iov, 1), ==, 4096);
        if (i % 8 == 0)
            co_await co_sleep(50'000);
    }
}

Task<void> read_in_every_mode(int fd) {
    constexpr AioMode kModes[] = {AioMode::Threads, AioMode::Native, AioMode::IoUring};
    for (AioMode mode : kModes)  // each alone, so that nothing else wakes the loop
        co_await read_direct(mode, fd, 50);
    TaskScope scope;
    for (AioMode mode : kModes)
        scope.spawn(read_direct(mode, fd, 200));
    co_await scope.join();
}

void file_io_wakes_a_loop(void (*run)(AioContext&, Task<void>)) {
    auto context = make_context();
    UniqueFd fd(open(g_get_tmp_dir(), O_TMPFILE | O_RDWR | O_CLOEXEC | O_DIRECT, 0600));
    if (!fd)
        return g_test_skip("the temporary directory has no O_DIRECT");
    g_assert_cmpint(fallocate(fd.get(), 0, 0, 1 << 20), ==, 0);
    run(*context, read_in_every_mode(fd.get()));
    context->set_poll_parameters({.max_ns = 0});
    run(*context, read_in_every_mode(fd.get()));
}

void file_io_wakes_a_sleeping_context() {
    file_io_wakes_a_loop([](AioContext& context, Task<void> task) { sync_wait(context, std::move(task)); });
}

void file_io_wakes_the_main_loop() {
    file_io_wakes_a_loop([](AioContext& context, Task<void> task) { MainLoop(context).run(context, std::move(task)); });
}

struct Counter : Runnable {
    std::atomic<bool> queued{false};
    std::atomic<unsigned> runs{0};

    Counter() {
        run = [](Runnable& r) {
            auto& self = static_cast<Counter&>(r);
            self.queued = false;
            self.runs++;
        };
    }
};

// Every schedule() is followed by a run, also when the loop is just falling asleep.
void no_schedule_is_lost_while_the_loop_falls_asleep() {
    auto thread = make_iothread("t");
    AioContext& context = thread->context();
    auto random = random_numbers();
    Counter counter;
    for (unsigned i = 1; i <= 5000; i++) {
        context.set_poll_parameters({.max_ns = random() % 2 ? 0 : PollParameters{}.max_ns});
        counter.queued = true;
        context.schedule(counter);
        while (counter.queued || counter.runs != i) {
        }
        for (unsigned spins = random() % 3000; spins > 0; spins--)
            g_atomic_int_get(reinterpret_cast<const int*>(&spins));
    }
    g_assert_cmpuint(counter.runs, ==, 5000);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    add("/wakeups/contexts-wake-each-other", contexts_wake_each_other);
    add("/wakeups/contexts-wake-each-other-without-spinning", contexts_wake_each_other_without_spinning);
    add("/wakeups/contexts-wake-the-main-loop", contexts_wake_the_main_loop);
    add("/wakeups/a-busy-source-of-higher-priority", a_busy_source_of_higher_priority_loses_no_wake_up);
    add("/wakeups/file-io-wakes-a-sleeping-context", file_io_wakes_a_sleeping_context);
    add("/wakeups/file-io-wakes-the-main-loop", file_io_wakes_the_main_loop);
    add("/wakeups/no-schedule-is-lost-while-the-loop-falls-asleep", no_schedule_is_lost_while_the_loop_falls_asleep);
    return g_test_run();
}
