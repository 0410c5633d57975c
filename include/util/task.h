// Task<T>: a lazy coroutine that gives one T to the coroutine that awaits it.
//
// Nothing runs until it is awaited, where it was made; the awaiting coroutine owns it and is resumed, on the thread where
// it finished, when it ends. Its parameters are values, or references to what the awaiting parent keeps alive; a lambda
// that captures must not be a coroutine. Exceptions do not leave a Task: the program ends.
//
// Detached work is spawned in a TaskScope (task_scope.h); blocking code uses sync_wait (aio_context.h).
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <source_location>
#include <utility>

#include "util/frame_pool.h"

namespace ashlar {

// What every coroutine's promise starts with. scripts/ashlar-gdb.py knows this layout.
struct PromiseBase {
    std::coroutine_handle<> continuation;  // who awaits this coroutine; null at the root
    std::source_location where;            // the co_await that it is suspended in

    static void* operator new(std::size_t size) { return frame_alloc(size); }
    static void operator delete(void* frame, std::size_t size) noexcept { frame_free(frame, size); }

    template <class Awaitable>
    Awaitable&& await_transform(Awaitable&& awaitable,
                                std::source_location here = std::source_location::current()) noexcept {
        where = here;
        return std::forward<Awaitable>(awaitable);
    }
    [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }
};

template <class T>
class Task;

namespace detail {

struct FinalAwaiter {
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> finished) noexcept {
        return finished.promise().continuation;
    }
    void await_resume() const noexcept {}
};

struct TaskPromiseBase : PromiseBase {
    std::suspend_always initial_suspend() const noexcept { return {}; }
    FinalAwaiter final_suspend() const noexcept { return {}; }
};

template <class T>
struct TaskPromise : TaskPromiseBase {
    std::optional<T> value;

    Task<T> get_return_object() noexcept;
    template <class U = T>
    void return_value(U&& result) {
        value.emplace(std::forward<U>(result));
    }
    T take() { return std::move(*value); }
};

template <>
struct TaskPromise<int> : TaskPromiseBase {  // the data path's: no engaged flag, no branch
    int value;

    Task<int> get_return_object() noexcept;
    void return_value(int result) noexcept { value = result; }
    int take() const noexcept { return value; }
};

template <>
struct TaskPromise<void> : TaskPromiseBase {
    Task<void> get_return_object() noexcept;
    void return_void() const noexcept {}
    void take() const noexcept {}
};

}  // namespace detail

template <class T = void>
class [[nodiscard]] Task {
public:
    using promise_type = detail::TaskPromise<T>;
    using Handle = std::coroutine_handle<promise_type>;

    explicit Task(Handle handle) noexcept : handle_(handle) {}
    Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Task& operator=(Task&&) = delete;
    ~Task() {
        if (handle_)
            handle_.destroy();
    }

    struct Awaiter {
        Handle handle;
        bool await_ready() const noexcept { return false; }
        std::coroutine_handle<> await_suspend(std::coroutine_handle<> parent) const noexcept {
            handle.promise().continuation = parent;
            return handle;
        }
        T await_resume() const { return handle.promise().take(); }
    };
    Awaiter operator co_await() && noexcept { return {handle_}; }

private:
    Handle handle_;
};

namespace detail {

template <class T>
Task<T> TaskPromise<T>::get_return_object() noexcept {
    return Task<T>(std::coroutine_handle<TaskPromise>::from_promise(*this));
}
inline Task<int> TaskPromise<int>::get_return_object() noexcept {
    return Task<int>(std::coroutine_handle<TaskPromise>::from_promise(*this));
}
inline Task<void> TaskPromise<void>::get_return_object() noexcept {
    return Task<void>(std::coroutine_handle<TaskPromise>::from_promise(*this));
}

}  // namespace detail

}  // namespace ashlar
