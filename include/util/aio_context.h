// AioContext: one event loop. Coroutines, timers, bottom halves and I/O of a context run in the one thread that runs
// it.
//
// Made, run and destroyed by one thread (the main thread, or an IOThread's); destroyed when nothing in it is pending.
// From other threads only schedule(), and what is built on it (BottomHalf, waking a coroutine, TaskScope::spawn_on),
// may be called. A coroutine is resumed in the context where it was suspended; `co_await switch_to(context)` moves it.
//
// The engine is io_uring where the kernel allows it, else epoll: probed once, with one message (docs/devel/runtime.md).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "util/adaptive_polling.h"
#include "util/error.h"
#include "util/io_op.h"
#include "util/runnable.h"
#include "util/task.h"
#include "util/timer.h"

typedef struct _GSource GSource;

namespace ashlar {

class Engine;
class LinuxAio;
class TimerHeap;

class AioContext {
public:
    enum class EngineKind : uint8_t { Auto, IoUring, Epoll };

    static Result<std::unique_ptr<AioContext>> create(EngineKind kind = EngineKind::Auto);
    ~AioContext();
    AioContext(const AioContext&) = delete;

    // The context whose loop the calling thread is in, or that it made first; null in a thread that has none.
    static AioContext* current();

    // --- running it (own thread) ---
    // One turn: whatever is ready; if nothing is and `may_block`, waits for something. True if anything was done.
    bool poll(bool may_block);
    void run();   // polls until stop()
    void stop();  // any thread

    // The context as a source of the default GMainContext; the caller holds the reference, and the loop then belongs
    // to GLib: nobody calls run() or poll() while g_main_context_iteration does, but sync_wait() may be used between.
    GSource* make_gsource();

    // --- scheduling (any thread) ---
    // Runs `r` in a later turn, in FIFO order of scheduling by one thread.
    void schedule(Runnable& r);
    // Own thread: runs `r` when what was submitted by now has been handed to the kernel, what was done with that has
    // been completed, and what these completions made ready has run.
    void schedule_after_turn(Runnable& r);

    // --- I/O (own thread) ---
    void submit(IoOp& op);
    void cancel(IoOp& op);
    bool has_uring() const { return kind_ == EngineKind::IoUring; }
    Result<LinuxAio*> linux_aio();  // made at first use; the kernel may refuse

    EngineKind engine_kind() const { return kind_; }
    // Adaptive polling (util/adaptive_polling.h); any thread, from the loop's next turn on.
    void set_poll_parameters(const PollParameters& parameters);
    PollParameters poll_parameters() const;
    bool in_own_thread() const { return thread_ == std::this_thread::get_id(); }
    bool in_poll() const { return depth_ > 0; }

private:
    friend class Timer;
    friend struct AioSource;

    AioContext(std::unique_ptr<Engine> engine, EngineKind kind);
    bool run_ready();
    void take_remote();
    bool run_timers();
    bool something_ready() const;
    bool spin();
    void sleep();
    bool prepare_sleep();
    void end_sleep();

    std::unique_ptr<Engine> engine_;
    EngineKind kind_;
    Runnable* ready_head_ = nullptr;
    Runnable** ready_tail_ = &ready_head_;
    Runnable* after_turn_head_ = nullptr;
    Runnable** after_turn_tail_ = &after_turn_head_;
    std::unique_ptr<TimerHeap> timers_;
    std::unique_ptr<LinuxAio> linux_aio_;
    PollTime poll_time_;
    std::thread::id thread_ = std::this_thread::get_id();
    unsigned depth_ = 0;  // of poll()
    bool stopping_ = false;
    bool asleep_ = false;      // between prepare_sleep() and end_sleep()
    bool watched_ = false;     // asleep on the engine's descriptor
    unsigned wakes_owed_ = 0;  // sleeps that another thread has ended or is about to end

    // Shared with other threads.
    alignas(64) std::atomic<Runnable*> remote_{nullptr};  // what they scheduled, newest first; &sleep_mark_: sleeping
    std::atomic<unsigned> wakes_done_{0};
    std::atomic<bool> stop_requested_{false};
    std::atomic<int64_t> poll_max_ns_{PollParameters{}.max_ns};
    std::atomic<int64_t> poll_grow_{PollParameters{}.grow};
    std::atomic<int64_t> poll_shrink_{PollParameters{}.shrink};
    Runnable sleep_mark_;  // never run
    Runnable stop_;
};

// Resumes the awaiting coroutine in `context`; no-op if it is there already.
struct SwitchTo : Resumption {
    AioContext& context;

    explicit SwitchTo(AioContext& c) : context(c) {}
    bool await_ready() const { return AioContext::current() == &context; }
    void await_suspend(std::coroutine_handle<> h) {
        coroutine = h;
        context.schedule(*this);
    }
    void await_resume() const noexcept {}
};
inline SwitchTo switch_to(AioContext& context) {
    return SwitchTo(context);
}

// Lets everything else that is ready in this context run first.
struct Yield : Resumption {
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) {
        coroutine = h;
        AioContext::current()->schedule(*this);
    }
    void await_resume() const noexcept {}
};
inline Yield co_yield_now() {
    return {};
}

// Lets what this context has submitted go first: see AioContext::schedule_after_turn().
struct NextTurn : Resumption {
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) {
        coroutine = h;
        AioContext::current()->schedule_after_turn(*this);
    }
    void await_resume() const noexcept {}
};
inline NextTurn co_next_turn() {
    return {};
}

// A function to be run soon, once for any number of schedule() before it runs. Owned and destroyed by the context's
// thread; schedule() from any thread. A destroyed bottom half does not run.
class BottomHalf {
public:
    BottomHalf(AioContext& context, void (*fn)(void*), void* argument);
    ~BottomHalf();
    BottomHalf(const BottomHalf&) = delete;
    void schedule();

private:
    struct Node;
    Node* node_;
};

// What a coroutine that waits for other coroutines embeds: remembers where it is to be resumed.
class CoWaiter : public Resumption {
public:
    void prepare(std::coroutine_handle<> h) {
        coroutine = h;
        home_ = AioContext::current();
    }
    void wake() { home_->schedule(*this); }  // any thread, once; the waiter may be gone on return

private:
    AioContext* home_ = nullptr;
};

}  // namespace ashlar
