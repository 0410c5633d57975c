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
    // poll() at the latest. Never calls `done`.
    virtual void submit(IoOp& op) = 0;

    // Asks for the end of an operation that was submitted and is not done.
    virtual void cancel(IoOp& op) = 0;

    // Hands over what was submitted, waits until something has completed, until wake(), or until the absolute time
    // `deadline_ns` of CLOCK_MONOTONIC (0: does not wait; kForever), and calls `done` of whatever has completed: true
    // if there was anything.
    virtual bool poll(int64_t deadline_ns) = 0;

    // True if poll(0) would find something, as far as can be seen without a system call: for adaptive polling.
    virtual bool completions_visible() const = 0;
    // True if operations wait for poll() to hand them to the kernel.
    virtual bool submissions_pending() const = 0;

    // Ends a poll() that waits, or the next one. Any thread.
    virtual void wake() = 0;

    // For a loop that sleeps on a descriptor instead of in poll(), the main loop's GSource: from watch_begin() to
    // watch_end() fd() becomes readable when poll(0) has something to do. watch_begin() is false if it has already.
    virtual int fd() = 0;
    virtual bool watch_begin() = 0;
    virtual void watch_end() = 0;
};

Result<std::unique_ptr<Engine>> make_uring_engine();
Result<std::unique_ptr<Engine>> make_epoll_engine();

}  // namespace ashlar
