#include "util/task_scope.h"

#include <optional>

#include "util/sync_wait.h"

namespace ashlar {

// A task is destroyed, and with it the parameters of its coroutine, before the scope is told that it has ended.
struct ScopeRoot {
    static detail::Root run(TaskScope& scope, std::optional<Task<void>> task) {
        co_await std::move(*task);
        task.reset();
        scope.leave();
    }
    static detail::Root run_on(TaskScope& scope, AioContext& context, std::optional<Task<void>> task) {
        co_await switch_to(context);
        co_await std::move(*task);
        task.reset();
        scope.leave();
    }
};

void TaskScope::enter() {
    [[maybe_unused]] unsigned before = running_.fetch_add(1, std::memory_order_relaxed);
    assert(!(before & kJoining) || before != kJoining);
}

void TaskScope::leave() {
    // The last one out may be overtaken by the joiner, which may destroy the scope: nothing is touched after wake().
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == (kJoining | 1)) {
        running_.store(0, std::memory_order_relaxed);
        joiner_.wake();
    }
}

void TaskScope::spawn(Task<void> task) {
    enter();
    ScopeRoot::run(*this, std::move(task));
}

void TaskScope::spawn_on(AioContext& context, Task<void> task) {
    enter();
    ScopeRoot::run_on(*this, context, std::move(task));
}

struct TaskScope::Joiner {
    TaskScope& scope;

    bool await_ready() const noexcept { return scope.running() == 0; }
    bool await_suspend(std::coroutine_handle<> h) {
        scope.joiner_.prepare(h);
        if (scope.running_.fetch_or(kJoining, std::memory_order_acq_rel) != 0)
            return true;
        scope.running_.store(0, std::memory_order_relaxed);  // the last one left meanwhile
        return false;
    }
    void await_resume() const noexcept {}
};

Task<void> TaskScope::join() {
    co_await Joiner{*this};
}

}  // namespace ashlar
