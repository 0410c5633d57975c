#include "util/aio_context.h"

#include <sched.h>

#include <algorithm>
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string_view>

#include "util/engine.h"
#include "util/linux_aio.h"
#include "util/report.h"
#include "util/sync_wait.h"
#include "util/timer_heap.h"
#include "util/trace.h"

namespace ashlar {

namespace {

// A coroutine may be resumed on another thread than the one it was suspended on, so that the address of a thread-local
// must not be kept across a suspension: these two are never inlined.
thread_local AioContext* current_context = nullptr;

[[gnu::noinline]] AioContext* exchange_current(AioContext* context) {
    return std::exchange(current_context, context);
}

// Who yields a CPU that others compute on gets it back after milliseconds, much later than who sleeps and is woken. So a
// thread to which that happens spins no more for a while, kPenance times as long as it was without the CPU.
constexpr int64_t kLostCpuNs = 50'000, kPenance = 100;
thread_local int64_t no_spinning_until = 0;

constexpr unsigned kReadyRounds = 16;  // of the ready list before the kernel is asked again

}  // namespace

[[gnu::noinline]] AioContext* AioContext::current() {
    return current_context;
}

Result<std::unique_ptr<AioContext>> AioContext::create(EngineKind kind) {
    if (const char* wanted = std::getenv("ASHLAR_AIO_ENGINE"); wanted && kind == EngineKind::Auto) {
        if (std::string_view(wanted) == "epoll")
            kind = EngineKind::Epoll;
        else if (std::string_view(wanted) == "io_uring")
            kind = EngineKind::IoUring;
        else
            return fail("ASHLAR_AIO_ENGINE: '{}' is neither 'io_uring' nor 'epoll'", wanted);
    }
    if (kind != EngineKind::Epoll) {
        auto engine = make_uring_engine();
        if (engine)
            return std::unique_ptr<AioContext>(new AioContext(std::move(*engine), EngineKind::IoUring));
        if (kind == EngineKind::IoUring)
            return std::unexpected(std::move(engine.error()));
        static std::once_flag said;
        std::call_once(said, [&] { info_report("{}; using epoll and threads instead", engine.error().message); });
    }
    auto engine = make_epoll_engine();
    if (!engine)
        return std::unexpected(std::move(engine.error()));
    return std::unique_ptr<AioContext>(new AioContext(std::move(*engine), EngineKind::Epoll));
}

AioContext::AioContext(std::unique_ptr<Engine> engine, EngineKind kind)
    : engine_(std::move(engine)), kind_(kind), timers_(std::make_unique<TimerHeap>()) {
    stop_.run = [](Runnable&) { current()->stopping_ = true; };
    if (!current_context)
        current_context = this;
    trace_aio_context(this, kind == EngineKind::IoUring ? "io_uring" : "epoll");
}

AioContext::~AioContext() {
    assert(in_own_thread() && depth_ == 0);
    AioContext* outer = exchange_current(this);
    end_sleep();
    take_remote();
    run_ready();  // bottom halves that were destroyed while scheduled, a late stop()
    linux_aio_.reset();
    assert(!ready_head_ && !after_turn_head_ && timers_->empty());
    // Who ended our last sleep may still be about to signal the engine.
    while (wakes_done_.load(std::memory_order_acquire) != wakes_owed_)
        sched_yield();
    exchange_current(outer == this ? nullptr : outer);
}

void AioContext::schedule(Runnable& r) {
    if (current() == this) {
        r.next = nullptr;
        *ready_tail_ = &r;
        ready_tail_ = &r.next;
        return;
    }
    // Once `r` is in the list it may run, and this context may end with it: only a sleeper is still ours to wake, and
    // its destructor waits for us.
    Runnable* head = remote_.load(std::memory_order_relaxed);
    do {
        r.next = head == &sleep_mark_ ? nullptr : head;
    } while (!remote_.compare_exchange_weak(head, &r, std::memory_order_acq_rel, std::memory_order_relaxed));
    if (head == &sleep_mark_) {
        engine_->wake();
        wakes_done_.fetch_add(1, std::memory_order_release);
    }
}

void AioContext::schedule_after_turn(Runnable& r) {
    assert(in_own_thread());
    r.next = nullptr;
    *after_turn_tail_ = &r;
    after_turn_tail_ = &r.next;
}

void AioContext::stop() {
    if (!stop_requested_.exchange(true))
        schedule(stop_);
}

void AioContext::take_remote() {
    if (!remote_.load(std::memory_order_relaxed))
        return;
    Runnable* reversed = remote_.exchange(nullptr, std::memory_order_acquire);
    Runnable* last = reversed;
    Runnable* first = nullptr;
    while (reversed) {
        Runnable* next = reversed->next;
        reversed->next = first;
        first = reversed;
        reversed = next;
    }
    *ready_tail_ = first;
    ready_tail_ = &last->next;
}

bool AioContext::run_ready() {
    if (!ready_head_)
        return false;
    for (unsigned round = 0; ready_head_ && round < kReadyRounds; round++) {
        Runnable* list = std::exchange(ready_head_, nullptr);
        ready_tail_ = &ready_head_;
        while (list) {
            Runnable* next = list->next;
            list->run(*list);
            list = next;
        }
    }
    return true;
}

bool AioContext::run_timers() {
    return !timers_->empty() && timers_->run_due(now_ns());
}

bool AioContext::something_ready() const {
    return ready_head_ || after_turn_head_ || remote_.load(std::memory_order_relaxed) || stopping_ ||
           (linux_aio_ && linux_aio_->completions_visible());
}

// Spins for as long as that is thought to pay; true if something has come up.
bool AioContext::spin() {
    const int64_t ns = poll_time_.ns(poll_max_ns_.load(std::memory_order_relaxed));
    if (ns == 0)
        return false;
    int64_t now = now_ns();
    if (now < no_spinning_until)
        return false;
    int64_t end = timers_->earliest();
    if (end - now > ns)
        end = now + ns;
    do {
        for (unsigned i = 0; i < 16; i++) {
            if (engine_->look() || something_ready())
                return true;
            __builtin_ia32_pause();
        }
        const int64_t before = now;
        sched_yield();
        now = now_ns();
        if (now - before > kLostCpuNs) {
            no_spinning_until = now + kPenance * (now - before);
            return something_ready();
        }
    } while (now < end);
    return false;
}

// From here on who schedules something wakes us, once. False if there is something to do after all.
bool AioContext::prepare_sleep() {
    Runnable* nothing = nullptr;
    asleep_ =
        remote_.compare_exchange_strong(nothing, &sleep_mark_, std::memory_order_acq_rel, std::memory_order_relaxed);
    return asleep_;
}

void AioContext::end_sleep() {
    if (!std::exchange(asleep_, false))
        return;
    if (std::exchange(watched_, false))
        engine_->watch_end();
    Runnable* mark = &sleep_mark_;
    if (!remote_.compare_exchange_strong(mark, nullptr, std::memory_order_relaxed))
        wakes_owed_++;
}

void AioContext::set_poll_parameters(const PollParameters& parameters) {
    poll_max_ns_.store(parameters.max_ns, std::memory_order_relaxed);
    poll_grow_.store(parameters.grow, std::memory_order_relaxed);
    poll_shrink_.store(parameters.shrink, std::memory_order_relaxed);
}

PollParameters AioContext::poll_parameters() const {
    return {.max_ns = poll_max_ns_.load(std::memory_order_relaxed),
            .grow = poll_grow_.load(std::memory_order_relaxed),
            .shrink = poll_shrink_.load(std::memory_order_relaxed)};
}

bool AioContext::poll(bool may_block) {
    assert(in_own_thread() && depth_ == 0);
    AioContext* outer = exchange_current(this);
    depth_++;

    end_sleep();  // GLib does not always come back to AioSource::check()
    take_remote();
    bool progress = run_timers();
    progress |= run_ready();
    if (linux_aio_)
        progress |= linux_aio_->turn();
    if (may_block && !progress && !something_ready() && !engine_->completions_visible())
        sleep();
    else if (engine_->submissions_pending() || engine_->look())
        engine_->enter(0);
    Runnable* after = std::exchange(after_turn_head_, nullptr);
    Runnable** after_tail = std::exchange(after_turn_tail_, &after_turn_head_);
    progress |= engine_->complete();
    if (after) {
        *ready_tail_ = after;
        ready_tail_ = after_tail;
        progress = true;
    }

    depth_--;
    exchange_current(outer);
    return progress;
}

// Waits until there is something to do; the operations that were submitted reach the kernel first.
void AioContext::sleep() {
    const int64_t poll_max_ns = poll_max_ns_.load(std::memory_order_relaxed);
    if (poll_time_.ns(poll_max_ns) > 0) {
        if (engine_->submissions_pending())
            engine_->enter(0);
        if (spin()) {
            if (engine_->completions_visible())
                engine_->enter(0);
            return;
        }
    }
    if (linux_aio_ && !linux_aio_->watch())
        return;
    if (!prepare_sleep())
        return;
    int64_t start = poll_max_ns > 0 ? now_ns() : 0;
    engine_->enter(timers_->earliest());
    end_sleep();
    if (start)
        poll_time_.slept(now_ns() - start, poll_parameters());
}

void AioContext::run() {
    while (!stopping_)
        poll(true);
    stopping_ = false;
    stop_requested_ = false;
}

void AioContext::submit(IoOp& op) {
    assert(current() == this);
    engine_->submit(op);
}

void AioContext::cancel(IoOp& op) {
    assert(current() == this);
    engine_->cancel(op);
}

Result<LinuxAio*> AioContext::linux_aio() {
    if (!linux_aio_) {
        auto made = LinuxAio::create(*this);
        if (!made)
            return std::unexpected(std::move(made.error()));
        linux_aio_ = std::move(*made);
    }
    return linux_aio_.get();
}

namespace detail {

void check_may_block(AioContext& context) {
    if (context.in_own_thread() && !context.in_poll())
        return;
    std::fprintf(stderr, "ashlar: internal error: sync_wait inside a coroutine or a foreign thread\n");
    std::abort();
}

}  // namespace detail

// --- BottomHalf ---

struct BottomHalf::Node : Runnable {
    AioContext& context;
    void (*fn)(void*);
    void* argument;
    std::atomic<unsigned> state{0};
    static constexpr unsigned kScheduled = 1, kDeleted = 2;

    explicit Node(AioContext& c) : context(c) {}
};

BottomHalf::BottomHalf(AioContext& context, void (*fn)(void*), void* argument) : node_(new Node(context)) {
    node_->fn = fn;
    node_->argument = argument;
    node_->run = [](Runnable& r) {
        Node& node = static_cast<Node&>(r);
        if (node.state.fetch_and(~Node::kScheduled) & Node::kDeleted)
            delete &node;
        else
            node.fn(node.argument);
    };
}

BottomHalf::~BottomHalf() {
    if (!(node_->state.fetch_or(Node::kDeleted) & Node::kScheduled))
        delete node_;
}

void BottomHalf::schedule() {
    if (!(node_->state.fetch_or(Node::kScheduled) & Node::kScheduled))
        node_->context.schedule(*node_);
}

}  // namespace ashlar
