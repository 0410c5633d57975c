// LinuxAio: one io_context of the kernel's native AIO (libaio) for the file operations of one AioContext.
//
// Operations that are submitted in one turn of the loop reach the kernel by one io_submit(). Completions are read from
// the kernel's ring in user space; an eventfd announces them to a loop that sleeps. Read, write and fsync only. Used by
// the context's thread.
#pragma once

#include <libaio.h>

#include <memory>

#include "util/error.h"
#include "util/io_op.h"
#include "util/op_list.h"
#include "util/unique_fd.h"

namespace ashlar {

class AioContext;

class LinuxAio {
public:
    static Result<std::unique_ptr<LinuxAio>> create(AioContext& context);
    ~LinuxAio();
    LinuxAio(const LinuxAio&) = delete;

    void submit(IoOp& op);  // reaches the kernel in the next turn(); never calls `done`

    // Hands over what was submitted, and calls `done` of what has completed; true if there was anything.
    bool turn();
    bool submissions_pending() const { return !queue_.empty() && !full_; }
    bool completions_visible() const;

    // Before the loop sleeps in its engine: has the engine wake it when something completes. False if something has.
    bool watch();
    // For a loop that sleeps on descriptors: readable when something completes, until clear().
    int fd() const { return event_fd_.get(); }
    void clear();

private:
    explicit LinuxAio(AioContext& context) : context_(context) {}
    void hand_over();
    bool reap();

    AioContext& context_;
    io_context_t kernel_ = nullptr;
    UniqueFd event_fd_;
    OpList queue_;
    unsigned in_flight_ = 0;
    bool full_ = false;       // the kernel takes no more until something completes
    bool signalled_ = false;  // completions were reaped since clear()
    bool watching_ = false;   // the engine has watch_op_
    IoOp watch_op_{.kind = IoOp::Kind::Poll};
};

}  // namespace ashlar
