#include "util/aio_context.h"

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

constexpr unsigned kReadyRounds = 16;  // of the ready list before the kernel is asked again

}  // namespace

[[gnu::noinline]] AioContext* AioContext::current() {
    return current_context;
}

Result<std::unique_ptr<AioContext>> AioContext::create(EngineKind kind) {
    if (const char* wanted = std::getenv("ASHLAR_AIO_ENGINE"); wanted && kind == EngineKind::Auto)
        kind = std::string_view(wanted) == "epoll" ? EngineKind::Epoll : EngineKind::IoUring;
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
    if (!current_context)
        current_context = this;
    trace_aio_context(this, kind == EngineKind::IoUring ? "io_uring" : "epoll");
}

AioContext::~AioContext() {
    assert(depth_ == 0 && !ready_head_ && timers_->empty());
    if (current_context == this)
        current_context = nullptr;
}

void AioContext::schedule(Runnable& r) {
    if (current() == this) {
        r.next = nullptr;
        *ready_tail_ = &r;
        ready_tail_ = &r.next;
        return;
    }
    Runnable* head = remote_.load(std::memory_order_relaxed);
    do {
        r.next = head;
    } while (!remote_.compare_exchange_weak(head, &r, std::memory_order_seq_cst, std::memory_order_relaxed));
    if (asleep_.load(std::memory_order_seq_cst) && asleep_.exchange(false))
        engine_->wake();
}

void AioContext::stop() {
    stopping_ = true;
    if (asleep_.exchange(false))
        engine_->wake();
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
    return ready_head_ || remote_.load(std::memory_order_relaxed) || stopping_.load(std::memory_order_relaxed);
}

// Spins for poll_ns_ at most; true if something has come up.
bool AioContext::spin() {
    if (poll_ns_ == 0)
        return false;
    int64_t start = now_ns();
    int64_t end = std::min(start + poll_ns_, timers_->earliest());
    do {
        for (unsigned i = 0; i < 16; i++) {
            if (engine_->completions_visible() || something_ready())
                return true;
            __builtin_ia32_pause();
        }
    } while (now_ns() < end);
    return false;
}

// From here on other threads call wake(). False if there is something to do after all.
bool AioContext::prepare_sleep() {
    asleep_.store(true, std::memory_order_seq_cst);
    if (!remote_.load(std::memory_order_seq_cst) && !stopping_.load(std::memory_order_seq_cst))
        return true;
    asleep_.store(false, std::memory_order_relaxed);
    return false;
}

// Learns from a sleep of `ns`: spinning pays if events come within poll_max_ns_ of the last one.
void AioContext::slept(int64_t ns) {
    int64_t max = poll_max_ns();
    if (ns > max)
        poll_ns_ /= 2;
    else if (poll_ns_ < max)
        poll_ns_ = std::min(max, std::max<int64_t>(4000, poll_ns_ * 2));
    if (poll_ns_ < 1000)
        poll_ns_ = 0;
}

bool AioContext::poll(bool may_block) {
    assert(in_own_thread() && depth_ == 0);
    AioContext* outer = exchange_current(this);
    depth_++;

    take_remote();
    bool progress = run_timers();
    progress |= run_ready();
    if (progress || something_ready() || !may_block) {
        if (engine_->submissions_pending() || engine_->completions_visible())
            progress |= engine_->poll(0);
    } else if (engine_->completions_visible()) {
        progress = engine_->poll(0);
    } else {
        if (engine_->submissions_pending() && poll_ns_ > 0)
            progress = engine_->poll(0);
        if (!progress && spin())
            progress = engine_->completions_visible() ? engine_->poll(0) : true;
        if (!progress && prepare_sleep()) {
            int64_t start = poll_max_ns() > 0 ? now_ns() : 0;
            progress = engine_->poll(timers_->earliest());
            asleep_.store(false, std::memory_order_relaxed);
            if (start)
                slept(now_ns() - start);
        }
    }

    depth_--;
    exchange_current(outer);
    return progress;
}

void AioContext::run() {
    while (!stopping_.load(std::memory_order_relaxed))
        poll(true);
    stopping_ = false;
}

void AioContext::submit(IoOp& op) {
    assert(current() == this);
    engine_->submit(op);
}

void AioContext::cancel(IoOp& op) {
    assert(current() == this);
    engine_->cancel(op);
}

LinuxAio& AioContext::linux_aio() {
    if (!linux_aio_)
        linux_aio_ = std::make_unique<LinuxAio>(*this);
    return *linux_aio_;
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
