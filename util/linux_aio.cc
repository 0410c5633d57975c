#include "util/linux_aio.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "util/aio_context.h"

namespace ashlar {

namespace {

constexpr int kMaxInFlight = 1024;
constexpr unsigned kBatch = 64;

// The completion ring, which the kernel maps at the address that io_setup() gives (linux/fs/aio.c, struct aio_ring).
struct Ring {
    unsigned id;
    unsigned nr;
    unsigned head;
    unsigned tail;
    unsigned magic;
    unsigned compat_features;
    unsigned incompat_features;
    unsigned header_length;

    const io_event& event(unsigned i) const { return reinterpret_cast<const io_event*>(this + 1)[i]; }
};
constexpr unsigned kRingMagic = 0xa10a10a1;

Ring& ring_of(io_context_t kernel) {
    return *reinterpret_cast<Ring*>(kernel);
}

void prepare(iocb& cb, IoOp& op) {
    switch (op.kind) {
        case IoOp::Kind::ReadV:
            if (op.iovcnt == 1)
                io_prep_pread(&cb, op.fd, op.iov->iov_base, op.iov->iov_len, op.offset);
            else
                io_prep_preadv(&cb, op.fd, op.iov, static_cast<int>(op.iovcnt), op.offset);
            cb.aio_rw_flags = static_cast<int>(op.rw_flags);
            break;
        case IoOp::Kind::WriteV:
            if (op.iovcnt == 1)
                io_prep_pwrite(&cb, op.fd, op.iov->iov_base, op.iov->iov_len, op.offset);
            else
                io_prep_pwritev(&cb, op.fd, op.iov, static_cast<int>(op.iovcnt), op.offset);
            cb.aio_rw_flags = static_cast<int>(op.rw_flags);
            break;
        case IoOp::Kind::Fsync:
            if (op.rw_flags)
                io_prep_fdsync(&cb, op.fd);
            else
                io_prep_fsync(&cb, op.fd);
            break;
        default:
            std::abort();  // not an operation of Linux AIO
    }
    cb.data = &op;
}

}  // namespace

Result<std::unique_ptr<LinuxAio>> LinuxAio::create(AioContext& context) {
    std::unique_ptr<LinuxAio> self(new LinuxAio(context));
    self->event_fd_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!self->event_fd_)
        return fail_errno(errno, "eventfd");
    if (int err = io_setup(kMaxInFlight, &self->kernel_); err < 0) {
        auto error = fail_errno(-err, "io_setup");
        if (err == -EAGAIN)
            error.error().hint = "Raise /proc/sys/fs/aio-max-nr, or use aio=threads.";
        return error;
    }
    if (ring_of(self->kernel_).magic != kRingMagic || ring_of(self->kernel_).incompat_features != 0)
        return fail("io_setup: the kernel's completion ring has an unknown layout");
    return self;
}

LinuxAio::~LinuxAio() {
    if (watching_) {
        context_.cancel(watch_op_);
        while (watching_)
            context_.poll(true);
    }
    if (kernel_)
        io_destroy(kernel_);
}

void LinuxAio::submit(IoOp& op) {
    queue_.push(op);
}

void LinuxAio::hand_over() {
    while (submissions_pending()) {
        iocb cbs[kBatch];
        iocb* pointers[kBatch];
        long count = 0;
        for (IoOp* op = queue_.head(); op && count < static_cast<long>(kBatch); op = op->next, count++) {
            prepare(cbs[count], *op);
            io_set_eventfd(&cbs[count], event_fd_.get());
            pointers[count] = &cbs[count];
        }
        int taken = io_submit(kernel_, count, pointers);
        if (taken > 0) {
            in_flight_ += static_cast<unsigned>(taken);
            while (taken-- > 0)
                queue_.pop();
        } else if (taken == -EAGAIN && in_flight_ > 0) {
            full_ = true;
        } else {
            IoOp& op = queue_.pop();  // it is the first one that the kernel does not like
            op.done(op, taken);
        }
    }
}

bool LinuxAio::completions_visible() const {
    Ring& ring = ring_of(kernel_);
    return ring.head != std::atomic_ref(ring.tail).load(std::memory_order_relaxed);
}

// Completes what the ring holds now; what that brings forth waits for the next turn.
bool LinuxAio::reap() {
    Ring& ring = ring_of(kernel_);
    unsigned tail = std::atomic_ref(ring.tail).load(std::memory_order_acquire);
    unsigned head = ring.head;
    if (head == tail)
        return false;
    full_ = false;
    signalled_ = true;
    while (head != tail) {
        io_event event = ring.event(head);
        head = (head + 1) % ring.nr;
        std::atomic_ref(ring.head).store(head, std::memory_order_release);
        in_flight_--;
        IoOp& op = *static_cast<IoOp*>(event.data);
        op.done(op, static_cast<int>(static_cast<long>(event.res)));
    }
    return true;
}

bool LinuxAio::turn() {
    bool any = submissions_pending();
    hand_over();
    return reap() || any;
}

void LinuxAio::clear() {
    signalled_ = false;
    eventfd_t count;
    eventfd_read(event_fd_.get(), &count);
}

bool LinuxAio::watch() {
    if (signalled_)
        clear();
    if (completions_visible())
        return false;
    if (in_flight_ > 0 && !watching_) {
        watching_ = true;
        watch_op_.fd = event_fd_.get();
        watch_op_.events = POLLIN;
        watch_op_.engine_data = this;
        watch_op_.done = [](IoOp& op, int) {
            auto& self = *static_cast<LinuxAio*>(op.engine_data);
            self.watching_ = false;
            self.clear();
        };
        context_.submit(watch_op_);
    }
    return true;
}

}  // namespace ashlar
