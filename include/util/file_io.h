// Asynchronous operations on a file, by one of three mechanisms.
//
// The awaiting coroutine suspends until the kernel has finished; descriptor and buffers stay valid until then. The
// result is the system call's: a byte count (which may be short) or 0, or a negative errno.
//
// In a thread that makes blocking calls itself (util/thread_pool.h) those of the first kind are made by the loop, when
// what is ready has run and what was submitted has been handed to the kernel.
#pragma once

#include "util/aio_context.h"
#include "util/thread_pool.h"
#include "util/trace.h"

namespace ashlar {

enum class AioMode : uint8_t {
    Threads,  // aio=threads: blocking calls in the thread pool
    Native,   // aio=native: Linux AIO; only asynchronous with O_DIRECT
    IoUring,  // aio=io_uring: the context's own ring
};

class FileOp : public IoOp {
public:
    FileOp(AioMode mode, IoOp op, int64_t allocate = 0) : IoOp(op), allocate_(allocate), mode_(mode) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h);
    int await_resume() const {
        trace_file_io_done(this, result_);
        return result_;
    }

private:
    struct Job : ThreadPool::Job {
        FileOp* op;
    };

    void run_blocking_call();
    int perform();

    const int64_t allocate_;
    AioMode mode_;
    int result_ = 0;
    Job job_;  // its coroutine is resumed whatever the mode
};

// What `aio=MODE` can be served with in the current context; an error says why not and what can.
Result<> check_aio_mode(AioMode mode, bool direct);

[[nodiscard]] inline FileOp file_readv(AioMode mode, int fd, int64_t offset, const iovec* iov, unsigned count) {
    return {mode, {.kind = IoOp::Kind::ReadV, .fd = fd, .iovcnt = count, .iov = iov, .offset = offset}};
}
// flags: RWF_DSYNC for a write that is on stable storage when it returns. A blocking call first asks the file system to
// allocate `allocate` bytes from `offset` on as a whole; if it will not, the write finds out why.
[[nodiscard]] inline FileOp file_writev(AioMode mode, int fd, int64_t offset, const iovec* iov, unsigned count,
                                        uint32_t flags, int64_t allocate = 0) {
    return {mode,
            {.kind = IoOp::Kind::WriteV, .fd = fd, .rw_flags = flags, .iovcnt = count, .iov = iov, .offset = offset},
            allocate};
}
[[nodiscard]] inline FileOp file_datasync(AioMode mode, int fd) {
    return {mode, {.kind = IoOp::Kind::Fsync, .fd = fd, .rw_flags = 1}};
}
[[nodiscard]] inline FileOp file_fallocate(AioMode mode, int fd, int fallocate_mode, int64_t offset, int64_t length) {
    return {mode,
            {.kind = IoOp::Kind::Fallocate,
             .fd = fd,
             .rw_flags = static_cast<uint32_t>(fallocate_mode),
             .offset = offset,
             .length = length}};
}

// The operation as a blocking system call.
int perform_blocking(const IoOp& op);

}  // namespace ashlar
