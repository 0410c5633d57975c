// A program that stops, with SIGTRAP, while coroutines are suspended in a known nest; gdb-coroutines.py looks at them.
#include <csignal>

#include "util/co_mutex.h"
#include "util/sync_wait.h"
#include "util/task_scope.h"

using namespace ashlar;

namespace nest {

Task<int> innermost(CoMutex& mutex) {
    auto guard = co_await mutex.co_lock();  // leaf
    co_return 1;
}

Task<int> middle(CoMutex& mutex, int depth) {
    if (depth > 0)
        co_return 1 + co_await middle(mutex, depth - 1);  // again
    co_return 1 + co_await innermost(mutex);              // middle
}

Task<void> outer(CoMutex& mutex) {
    int ret = co_await middle(mutex, 2);  // outer
    if (ret != 4)
        std::abort();
}

Task<void> sleeper() {
    co_await co_sleep(20'000'000);  // sleeper
}

Task<void> stop_in_the_middle() {
    CoMutex mutex;
    TaskScope scope;
    {
        auto guard = co_await mutex.co_lock();
        scope.spawn(outer(mutex));
        scope.spawn(sleeper());
        co_await co_yield_now();
        std::raise(SIGTRAP);
    }
    co_await scope.join();
}

}  // namespace nest

int main() {
    auto context = AioContext::create();
    if (!context)
        return 1;
    sync_wait(**context, nest::stop_in_the_middle());
}
