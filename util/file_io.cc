#include "util/file_io.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "util/linux_aio.h"
#include "util/trace.h"

namespace ashlar {

int perform_blocking(const IoOp& op) {
    ssize_t ret;
    do {
        switch (op.kind) {
            case IoOp::Kind::ReadV:
                ret = preadv2(op.fd, op.iov, static_cast<int>(op.iovcnt), op.offset, static_cast<int>(op.rw_flags));
                break;
            case IoOp::Kind::WriteV:
                ret = pwritev2(op.fd, op.iov, static_cast<int>(op.iovcnt), op.offset, static_cast<int>(op.rw_flags));
                break;
            case IoOp::Kind::Fsync:
                ret = op.rw_flags ? fdatasync(op.fd) : fsync(op.fd);
                break;
            case IoOp::Kind::Fallocate:
                ret = fallocate(op.fd, static_cast<int>(op.rw_flags), op.offset, op.length);
                break;
            default:
                std::abort();  // not a file operation
        }
    } while (ret < 0 && errno == EINTR);
    return ret < 0 ? -errno : static_cast<int>(ret);
}

Result<> check_aio_mode(AioMode mode, bool direct) {
    if (mode == AioMode::Native && !direct)
        return fail("aio=native was specified, but it requires cache.direct=on, which was not specified.");
    if (mode == AioMode::Native)
        if (auto aio = AioContext::current()->linux_aio(); !aio)
            return std::unexpected(std::move(aio.error()).prefixed("aio=native"));
    if (mode == AioMode::IoUring && !AioContext::current()->has_uring())
        return fail("aio=io_uring was specified, but is not available on this system: use aio=threads");
    return {};
}

void FileOp::await_suspend(std::coroutine_handle<> h) {
    job_.prepare(h);
    done = [](IoOp& op, int result) {
        auto& self = static_cast<FileOp&>(op);
        // Linux before 4.18 has no asynchronous fdatasync, and some file systems still have none.
        if (self.mode_ == AioMode::Native && op.kind == Kind::Fsync && result == -EINVAL)
            return self.run_blocking_call();
        self.result_ = result;
        self.job_.coroutine.resume();
    };
    trace_file_io(this, static_cast<unsigned>(kind), fd, offset);
    AioContext& context = *AioContext::current();
    // Linux AIO has no form of fallocate, and the ring or the AIO context may be missing in this context alone.
    if (mode_ == AioMode::Native && kind != Kind::Fallocate) {
        if (auto aio = context.linux_aio())
            return (*aio)->submit(*this);
    }
    if (mode_ != AioMode::Threads && context.has_uring())
        context.submit(*this);
    else
        run_blocking_call();
}

int FileOp::perform() {
    if (allocate_ > 0)
        (void)fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, allocate_);
    return perform_blocking(*this);
}

void FileOp::run_blocking_call() {
    job_.op = this;
    if (makes_blocking_calls()) {
        job_.run = [](Runnable& job) {
            FileOp& op = *static_cast<Job&>(job).op;
            op.result_ = op.perform();
            op.job_.coroutine.resume();
        };
        AioContext::current()->schedule_after_turn(job_);
        return;
    }
    job_.work = [](ThreadPool::Job& job) {
        FileOp& op = *static_cast<Job&>(job).op;
        op.result_ = op.perform();
    };
    ThreadPool::instance().submit(job_);
}

}  // namespace ashlar
