// The io_uring engine: files, sockets, poll and time-outs in one ring, entered once a turn.
#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <atomic>
#include <cerrno>
#include <utility>

#include "util/engine.h"
#include "util/op_list.h"
#include "util/timer.h"
#include "util/trace.h"
#include "util/unique_fd.h"

namespace ashlar {

namespace {

constexpr unsigned kSqEntries = 1024;
constexpr unsigned kCqEntries = 4 * kSqEntries;

// Most file systems cannot write to the page cache without waiting, so that the kernel has a thread of its own do it. When
// so many entries are due and one more write comes, they are submitted at once, for that thread to begin while we go on.
constexpr unsigned kWritesAtOnce = 8;

class UringEngine final : public Engine {
public:
    static Result<std::unique_ptr<Engine>> create();
    ~UringEngine() override;

    void submit(IoOp& op) override;
    void cancel(IoOp& op) override;
    void enter(int64_t deadline_ns) override;
    bool complete() override;
    bool completions_visible() const override {
        return io_uring_cq_ready(&ring_) || (IO_URING_READ_ONCE(*ring_.sq.kflags) & kKernelWantsEntry) ||
               !canceled_.empty();
    }
    bool submissions_pending() const override {
        return io_uring_sq_ready(&ring_) || !backlog_.empty() || !to_cancel_.empty();
    }
    void wake() override;
    int fd() override;
    bool watch_begin() override;
    void watch_end() override;

private:
    static constexpr unsigned kKernelWantsEntry = IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW;

    UringEngine() = default;
    io_uring_sqe* get_sqe();
    static void prepare(io_uring_sqe* sqe, IoOp& op);
    static void prepare_cancel(io_uring_sqe* sqe, IoOp& op);
    void drain_backlog();
    void watch_wake();

    io_uring ring_{};
    bool ring_up_ = false;
    bool closing_ = false;
    std::atomic<bool> watched_{false};
    UniqueFd notify_fd_;  // the ring signals it between watch_begin() and watch_end(); made by fd()
    UniqueFd wake_fd_;
    uint64_t wake_count_;
    IoOp wake_op_{.kind = IoOp::Kind::ReadV};
    iovec wake_iov_;
    // The kernel takes no entries while its list of overflowed completions is not empty: these wait for completions to
    // be reaped.
    OpList backlog_;
    OpList to_cancel_;  // in the kernel, which does not know yet
    OpList canceled_;   // taken from the backlog: done(-ECANCELED) in the next complete()
};

Result<std::unique_ptr<Engine>> UringEngine::create() {
    // Completions are processed when this thread enters the kernel (no interruptions, no locks) where the kernel can.
    static constexpr unsigned kFlags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        0,
    };
    std::unique_ptr<UringEngine> engine(new UringEngine);
    int err = 0;
    for (unsigned flags : kFlags) {
        io_uring_params params{};
        params.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
        params.cq_entries = kCqEntries;
        err = io_uring_queue_init_params(kSqEntries, &engine->ring_, &params);
        if (err == 0) {
            engine->ring_up_ = true;
            constexpr unsigned kNeeded = IORING_FEAT_NODROP | IORING_FEAT_FAST_POLL | IORING_FEAT_EXT_ARG;
            if ((params.features & kNeeded) != kNeeded)
                err = -ENOSYS;
            break;
        }
        if (err != -EINVAL)
            break;
    }
    if (err < 0)
        return fail_errno(-err, "io_uring");
    io_uring_ring_dontfork(&engine->ring_);
    io_uring_register_ring_fd(&engine->ring_);
    engine->wake_fd_.reset(eventfd(0, EFD_CLOEXEC));
    if (!engine->wake_fd_)
        return fail_errno(errno, "eventfd");
    engine->watch_wake();
    return engine;
}

void UringEngine::watch_wake() {
    wake_iov_ = {&wake_count_, sizeof(wake_count_)};
    wake_op_.fd = wake_fd_.get();
    wake_op_.iov = &wake_iov_;
    wake_op_.iovcnt = 1;
    wake_op_.engine_data = this;
    wake_op_.done = [](IoOp& op, int) {
        auto& self = *static_cast<UringEngine*>(op.engine_data);
        if (self.closing_)
            self.wake_op_.done = nullptr;
        else
            self.submit(op);
    };
    submit(wake_op_);
}

// The kernel takes a ring down in the background: what it may still write to must have come back before.
UringEngine::~UringEngine() {
    if (!ring_up_)
        return;
    if (wake_op_.done) {
        closing_ = true;
        cancel(wake_op_);
        while (wake_op_.done) {
            enter(kForever);
            complete();
        }
    }
    io_uring_queue_exit(&ring_);
}

// Signalling the ring's eventfd from within a write to another one would be put off by the kernel until an RCU grace
// period has passed, so a watcher of fd() is woken directly.
void UringEngine::wake() {
    uint64_t one = 1;
    int target = watched_.load(std::memory_order_seq_cst) ? notify_fd_.get() : wake_fd_.get();
    [[maybe_unused]] ssize_t written = write(target, &one, sizeof(one));  // cannot fail before 2^64 wakes
}

// The ring's own descriptor does not become readable while completions wait for this thread to enter the kernel
// (DEFER_TASKRUN), but a registered eventfd is signalled.
int UringEngine::fd() {
    if (!notify_fd_) {
        notify_fd_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        io_uring_register_eventfd(&ring_, notify_fd_.get());
        io_uring_cq_eventfd_toggle(&ring_, false);
    }
    return notify_fd_.get();
}

bool UringEngine::watch_begin() {
    watched_ = true;
    io_uring_cq_eventfd_toggle(&ring_, true);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!completions_visible())
        return true;
    watch_end();
    return false;
}

void UringEngine::watch_end() {
    watched_ = false;
    io_uring_cq_eventfd_toggle(&ring_, false);
    uint64_t count;
    [[maybe_unused]] ssize_t n = read(notify_fd_.get(), &count, sizeof(count));
}

// A free submission entry; null if the kernel takes none until completions have been reaped.
io_uring_sqe* UringEngine::get_sqe() {
    if (io_uring_sqe* sqe = io_uring_get_sqe(&ring_))
        return sqe;
    io_uring_submit(&ring_);
    return io_uring_get_sqe(&ring_);
}

void UringEngine::prepare(io_uring_sqe* sqe, IoOp& op) {
    switch (op.kind) {
        case IoOp::Kind::ReadV:
            if (op.iovcnt == 1)
                io_uring_prep_read(sqe, op.fd, op.iov->iov_base, static_cast<unsigned>(op.iov->iov_len), op.offset);
            else
                io_uring_prep_readv(sqe, op.fd, op.iov, op.iovcnt, op.offset);
            sqe->rw_flags = static_cast<int>(op.rw_flags);
            break;
        case IoOp::Kind::WriteV:
            if (op.iovcnt == 1)
                io_uring_prep_write(sqe, op.fd, op.iov->iov_base, static_cast<unsigned>(op.iov->iov_len), op.offset);
            else
                io_uring_prep_writev(sqe, op.fd, op.iov, op.iovcnt, op.offset);
            sqe->rw_flags = static_cast<int>(op.rw_flags);
            break;
        case IoOp::Kind::Fsync:
            io_uring_prep_fsync(sqe, op.fd, op.rw_flags ? IORING_FSYNC_DATASYNC : 0);
            break;
        case IoOp::Kind::Fallocate:
            io_uring_prep_fallocate(sqe, op.fd, static_cast<int>(op.rw_flags), op.offset, op.length);
            break;
        case IoOp::Kind::Recv:
            io_uring_prep_recv(sqe, op.fd, op.iov->iov_base, op.iov->iov_len, 0);
            sqe->ioprio = IORING_RECVSEND_POLL_FIRST;  // the caller has just tried
            break;
        case IoOp::Kind::Send:
            io_uring_prep_sendmsg(sqe, op.fd, op.msg, MSG_NOSIGNAL);
            sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
            break;
        case IoOp::Kind::Poll:
            io_uring_prep_poll_add(sqe, op.fd, op.events);
            break;
    }
    io_uring_sqe_set_data(sqe, &op);
}

void UringEngine::prepare_cancel(io_uring_sqe* sqe, IoOp& op) {
    io_uring_prep_cancel(sqe, &op, 0);
    io_uring_sqe_set_data(sqe, nullptr);
}

void UringEngine::submit(IoOp& op) {
    io_uring_sqe* sqe = backlog_.empty() ? get_sqe() : nullptr;
    if (sqe)
        prepare(sqe, op);
    else
        backlog_.push(op);
    if (op.kind == IoOp::Kind::WriteV && io_uring_sq_ready(&ring_) >= kWritesAtOnce)
        io_uring_submit(&ring_);
}

void UringEngine::cancel(IoOp& op) {
    if (backlog_.remove(op)) {
        canceled_.push(op);
        return;
    }
    if (io_uring_sqe* sqe = to_cancel_.empty() ? get_sqe() : nullptr)
        prepare_cancel(sqe, op);
    else
        to_cancel_.push(op);
}

void UringEngine::drain_backlog() {
    while (!backlog_.empty()) {
        io_uring_sqe* sqe = get_sqe();
        if (!sqe)
            return;
        prepare(sqe, backlog_.pop());
    }
    while (!to_cancel_.empty()) {
        io_uring_sqe* sqe = get_sqe();
        if (!sqe)
            return;
        prepare_cancel(sqe, to_cancel_.pop());
    }
}

// Every error of entering (EINTR, EAGAIN, EBUSY: reap first, ETIME) means: look at what is there.
void UringEngine::enter(int64_t deadline_ns) {
    drain_backlog();
    if (io_uring_cq_ready(&ring_) || !canceled_.empty())
        deadline_ns = 0;
    trace_uring_enter(this, io_uring_sq_ready(&ring_));
    if (deadline_ns == 0) {
        if (io_uring_sq_ready(&ring_) || (IO_URING_READ_ONCE(*ring_.sq.kflags) & kKernelWantsEntry))
            io_uring_submit_and_get_events(&ring_);
        return;
    }
    if (deadline_ns == kForever) {
        io_uring_submit_and_wait(&ring_, 1);
        return;
    }
    int64_t left = std::max<int64_t>(0, deadline_ns - now_ns());
    __kernel_timespec ts{.tv_sec = left / 1'000'000'000, .tv_nsec = left % 1'000'000'000};
    io_uring_cqe* cqe;
    io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &ts, nullptr);
}

bool UringEngine::complete() {
    bool any = canceled_.complete_all(-ECANCELED);
    unsigned ready = io_uring_cq_ready(&ring_);
    if (ready)
        trace_uring_reap(this, ready);
    for (unsigned i = 0; i < ready; i++) {
        io_uring_cqe* cqe;
        if (io_uring_peek_cqe(&ring_, &cqe) != 0)
            break;
        IoOp* op = static_cast<IoOp*>(io_uring_cqe_get_data(cqe));
        int result = cqe->res;
        io_uring_cqe_seen(&ring_, cqe);
        if (!op)
            continue;
        if (!to_cancel_.empty())
            to_cancel_.remove(*op);
        op->done(*op, result);
    }
    return any || ready > 0;
}

}  // namespace

Result<std::unique_ptr<Engine>> make_uring_engine() {
    return UringEngine::create();
}

}  // namespace ashlar
