#include "util/task_scope.h"

#include "util/sync_wait.h"

namespace ashlar {

struct ScopeRoot {
    static detail::Root run(TaskScope& scope, Task<void> task) {
        co_await std::move(task);
        scope.leave();
    }
    static detail::Root run_on(TaskScope& scope, AioContext& context, Task<void> task) {
        co_await switch_to(context);
        co_await std::move(task);
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
