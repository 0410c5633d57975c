#include "util/io_thread.h"

#include <unistd.h>

#include "tests/unit/runtime_test.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

Task<int> thread_id_in(AioContext& there, AioContext& home) {
    co_await switch_to(there);
    int id = gettid();
    co_await switch_to(home);
    co_return id;
}

void its_context_runs_in_a_thread_of_its_own() {
    Contexts contexts(2);
    for (auto& thread : contexts.threads) {
        int id = sync_wait(*contexts.home, thread_id_in(thread->context(), *contexts.home));
        g_assert_cmpint(id, ==, thread->thread_id());
        g_assert_cmpint(id, !=, gettid());
    }
    g_assert_cmpint(contexts.threads[0]->thread_id(), !=, contexts.threads[1]->thread_id());
}

// stop() comes before the loop runs, while it spins, and while it sleeps.
void it_can_be_stopped_at_any_moment() {
    auto context = make_context();
    auto random = random_numbers();
    for (int i = 0; i < 300; i++) {
        auto thread = make_iothread("t");
        if (random() % 2)
            sync_wait(*context, thread_id_in(thread->context(), *context));
        if (random() % 4 == 0)
            g_usleep(random() % 200);
    }
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    add("/io-thread/its-context-runs-in-a-thread-of-its-own", its_context_runs_in_a_thread_of_its_own);
    add("/io-thread/it-can-be-stopped-at-any-moment", it_can_be_stopped_at_any_moment);
    return g_test_run();
}
