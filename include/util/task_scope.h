// TaskScope: where detached coroutines live.
//
// spawn() starts a coroutine that nobody awaits; join() suspends until all that were spawned have ended, and only then
// may the scope, and whatever the coroutines use, go away. spawn(), from any coroutine or callback of a loop, starts
// the coroutine at once on this thread; spawn_on() starts it in another context, from any thread. One joiner at a time;
// the scope can be used again afterwards.
#pragma once

#include <atomic>
#include <cassert>

#include "util/aio_context.h"
#include "util/task.h"

namespace ashlar {

class TaskScope {
public:
    TaskScope() = default;
    TaskScope(const TaskScope&) = delete;
    ~TaskScope() { assert(running() == 0); }

    void spawn(Task<void> task);
    void spawn_on(AioContext& context, Task<void> task);
    [[nodiscard]] Task<void> join();

    unsigned running() const { return running_.load(std::memory_order_acquire) & ~kJoining; }  // stale when read

private:
    static constexpr unsigned kJoining = 1u << 31;
    struct Joiner;
    void enter();
    void leave();

    std::atomic<unsigned> running_{0};
    CoWaiter joiner_;
    friend struct ScopeRoot;
};

}  // namespace ashlar
