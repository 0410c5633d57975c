// sync_wait: runs a coroutine to its end from blocking code, turning the loop of its AioContext meanwhile.
//
// For main(), tools and tests, in the context's own thread and never inside a coroutine or a callback of the loop: that
// is checked, because a nested loop could wait for what only its caller can finish.
#pragma once

#include <optional>

#include "util/aio_context.h"
#include "util/task.h"

namespace ashlar {

namespace detail {

// A coroutine that nobody awaits and that frees itself: what TaskScope and sync_wait start.
struct Root {
    struct promise_type : PromiseBase {
        Root get_return_object() noexcept { return {}; }
        std::suspend_never initial_suspend() const noexcept { return {}; }
        std::suspend_never final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
    };
};

template <class T>
Root run_root(AioContext& home, Task<T> task, std::optional<T>& result) {
    co_await switch_to(home);  // which need not be the thread's current one
    T value = co_await std::move(task);
    co_await switch_to(home);
    result.emplace(std::move(value));
}
inline Root run_root(AioContext& home, Task<void> task, bool& done) {
    co_await switch_to(home);
    co_await std::move(task);
    co_await switch_to(home);
    done = true;
}

void check_may_block(AioContext& context);

}  // namespace detail

template <class T>
T sync_wait(AioContext& context, Task<T> task) {
    detail::check_may_block(context);
    std::optional<T> result;
    detail::run_root(context, std::move(task), result);
    while (!result)
        context.poll(true);
    return std::move(*result);
}

inline void sync_wait(AioContext& context, Task<void> task) {
    detail::check_may_block(context);
    bool done = false;
    detail::run_root(context, std::move(task), done);
    while (!done)
        context.poll(true);
}

}  // namespace ashlar
