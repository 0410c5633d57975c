// Engine: how an AioContext talks to the kernel. Private to util/; one implementation on io_uring, one on epoll.
//
// All but wake() are called by the thread that runs the context's loop.
#pragma once

#include <cstdint>
#include <memory>

#include "util/error.h"
#include "util/io_op.h"

namespace ashlar {

class AioContext;

class Engine {
public:
    static constexpr int64_t kForever = INT64_MAX;

    virtual ~Engine() = default;

    // Accepts the operation (the epoll engine: one for which is_file() is false); it reaches the kernel in the next
    // enter() at the latest. Never calls `done`.
    virtual void submit(IoOp& op) = 0;

    // Asks for the end of an operation that was submitted and is not done. Never calls `done`.
    virtual void cancel(IoOp& op) = 0;

    // Hands over what was submitted, and waits until something has completed, until wake(), or until the absolute time
    // `deadline_ns` of CLOCK_MONOTONIC (0: does not wait; kForever).
    virtual void enter(int64_t deadline_ns) = 0;

    // Calls `done` of what had completed by then, or was cancelled before the kernel knew of it; true if there was
    // anything. What these calls bring forth waits for the next time.
    virtual bool complete() = 0;

    // True if enter(0) and complete() would find something, as far as can be seen without a system call; look() makes
    // one where it takes that. For adaptive polling.
    virtual bool completions_visible() const = 0;
    virtual bool look() { return completions_visible(); }
    // True if operations wait for enter() to hand them to the kernel.
    virtual bool submissions_pending() const = 0;

    // Ends an enter() that waits, or the next one. Any thread.
    virtual void wake() = 0;

    // For a loop that sleeps on a descriptor instead of in enter(), the main loop's GSource: from watch_begin() to
    // watch_end() fd() becomes readable when something has completed, or by wake(). Nothing is waiting to be handed
    // over then. watch_begin() is false if something has completed already.
    virtual int fd() = 0;
    virtual bool watch_begin() = 0;
    virtual void watch_end() = 0;
};

Result<std::unique_ptr<Engine>> make_uring_engine();
Result<std::unique_ptr<Engine>> make_epoll_engine();

}  // namespace ashlar
