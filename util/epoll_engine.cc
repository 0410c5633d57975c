// The epoll engine, for kernels and containers that refuse io_uring: sockets and poll; files go to the thread pool or
// to Linux AIO.
//
// Every descriptor with operations has a one-shot registration: once it has fired, or nobody waits any more, it is
// dormant, so that a descriptor that is closed while a duplicate of it lives on cannot haunt the loop, and the number
// may come back as another file.
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <deque>
#include <utility>
#include <vector>

#include "util/engine.h"
#include "util/op_list.h"
#include "util/timer.h"
#include "util/unique_fd.h"

namespace ashlar {

namespace {

constexpr int kMaxEvents = 256;  // by one system call
constexpr uint32_t kAlways = EPOLLERR | EPOLLHUP;

class EpollEngine final : public Engine {
public:
    static Result<std::unique_ptr<Engine>> create();

    void submit(IoOp& op) override;
    void cancel(IoOp& op) override;
    void enter(int64_t deadline_ns) override;
    bool complete() override;
    bool completions_visible() const override { return fetched_ > 0 || !finished_.empty(); }
    bool look() override {
        if (!completions_visible() && armed_ > 0)
            fetch(0);
        return completions_visible();
    }
    bool submissions_pending() const override { return !stale_.empty(); }
    void wake() override;
    int fd() override { return epoll_fd_.get(); }
    bool watch_begin() override { return !completions_visible(); }
    void watch_end() override {
        if (fetched_ == 0)
            fetch(0);
    }

private:
    struct Watch {
        OpList ops;
        uint32_t armed = 0;       // the events that the kernel will report once
        bool registered = false;  // probably: the descriptor may have been closed and opened since
        bool stale = false;       // in stale_
    };
    struct Finished {
        IoOp* op;
        int result;
    };

    EpollEngine() = default;
    void changed(int fd);
    void arm(int fd, Watch& watch);
    void arm_changed();
    void serve(int fd, uint32_t events);
    void fetch(int64_t deadline_ns);
    int wait(int64_t deadline_ns);

    UniqueFd epoll_fd_;
    UniqueFd wake_fd_;
    std::deque<Watch> watches_;  // by descriptor
    std::vector<int> stale_;     // whose operations have changed since they were armed
    unsigned armed_ = 0;         // the number of descriptors that are
    epoll_event events_[kMaxEvents];
    int fetched_ = 0;  // events that complete() has to look at
    std::vector<Finished> finished_;
    std::vector<Finished> finishing_;  // complete()'s
    bool pwait2_ = true;
};

Result<std::unique_ptr<Engine>> EpollEngine::create() {
    std::unique_ptr<EpollEngine> engine(new EpollEngine);
    engine->epoll_fd_.reset(epoll_create1(EPOLL_CLOEXEC));
    if (!engine->epoll_fd_)
        return fail_errno(errno, "epoll");
    engine->wake_fd_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!engine->wake_fd_)
        return fail_errno(errno, "eventfd");
    // Edge-triggered: each write is reported once, and nobody has to read it.
    epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.fd = -1}};
    if (epoll_ctl(engine->epoll_fd_.get(), EPOLL_CTL_ADD, engine->wake_fd_.get(), &event) < 0)
        return fail_errno(errno, "epoll");
    return engine;
}

void EpollEngine::wake() {
    eventfd_write(wake_fd_.get(), 1);
}

uint32_t events_of(const IoOp& op) {
    switch (op.kind) {
        case IoOp::Kind::Recv:
            return EPOLLIN;
        case IoOp::Kind::Send:
            return EPOLLOUT;
        default:
            assert(op.kind == IoOp::Kind::Poll);
            return op.events;
    }
}

void EpollEngine::changed(int fd) {
    Watch& watch = watches_[static_cast<size_t>(fd)];
    if (!std::exchange(watch.stale, true))
        stale_.push_back(fd);
}

void EpollEngine::submit(IoOp& op) {
    assert(!op.is_file());
    if (op.fd < 0) {
        finished_.push_back({&op, -EBADF});
        return;
    }
    auto index = static_cast<size_t>(op.fd);
    if (index >= watches_.size())
        watches_.resize(index + 1);
    watches_[index].ops.push(op);
    changed(op.fd);
}

void EpollEngine::cancel(IoOp& op) {
    if (op.fd < 0)
        return;
    Watch& watch = watches_[static_cast<size_t>(op.fd)];
    if (!watch.ops.remove(op))
        return;  // it is in finished_
    finished_.push_back({&op, -ECANCELED});
    arm(op.fd, watch);  // now: when `done` has been called the descriptor may go away
}

// Makes the registration of `fd` what its operations want.
void EpollEngine::arm(int fd, Watch& watch) {
    uint32_t wanted = 0;
    for (IoOp* op = watch.ops.head(); op; op = op->next)
        wanted |= events_of(*op);
    if (wanted == watch.armed)
        return;
    armed_ -= watch.armed != 0;
    watch.armed = 0;
    epoll_event event{.events = wanted | EPOLLONESHOT, .data = {.fd = fd}};
    if (wanted == 0) {  // not EPOLL_CTL_MOD, which would still report errors
        epoll_ctl(epoll_fd_.get(), EPOLL_CTL_DEL, fd, &event);
        watch.registered = false;
        return;
    }
    int ret = epoll_ctl(epoll_fd_.get(), watch.registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
    if (ret < 0 && errno == ENOENT)
        ret = epoll_ctl(epoll_fd_.get(), EPOLL_CTL_ADD, fd, &event);
    else if (ret < 0 && errno == EEXIST)
        ret = epoll_ctl(epoll_fd_.get(), EPOLL_CTL_MOD, fd, &event);
    if (ret == 0) {
        watch.armed = wanted;
        watch.registered = true;
        armed_++;
    } else if (errno == EPERM) {  // a file that has no poll() is always ready
        serve(fd, EPOLLIN | EPOLLOUT);
    } else {
        for (int error = errno; !watch.ops.empty();)
            finished_.push_back({&watch.ops.pop(), -error});
    }
}

void EpollEngine::arm_changed() {
    auto count = static_cast<std::ptrdiff_t>(stale_.size());  // arm() may add more
    for (std::ptrdiff_t i = 0; i < count; i++) {
        int fd = stale_[static_cast<size_t>(i)];
        Watch& watch = watches_[static_cast<size_t>(fd)];
        watch.stale = false;
        arm(fd, watch);
    }
    stale_.erase(stale_.begin(), stale_.begin() + count);
}

// Tries every operation on `fd` for which `events` give hope, in order; those that are through are finished_.
void EpollEngine::serve(int fd, uint32_t events) {
    Watch& watch = watches_[static_cast<size_t>(fd)];
    OpList waiting;
    while (!watch.ops.empty()) {
        IoOp& op = watch.ops.pop();
        if (!(events & (events_of(op) | kAlways))) {
            waiting.push(op);
            continue;
        }
        long result;
        if (op.kind == IoOp::Kind::Recv)
            result = recv(fd, op.iov->iov_base, op.iov->iov_len, MSG_DONTWAIT);
        else if (op.kind == IoOp::Kind::Send)
            result = sendmsg(fd, op.msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        else
            result = events & (op.events | kAlways);
        if (result < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            waiting.push(op);
        else
            finished_.push_back({&op, result < 0 ? -errno : static_cast<int>(result)});
    }
    while (!waiting.empty())
        watch.ops.push(waiting.pop());
    if (watch.armed)
        arm(fd, watch);
    else if (!watch.ops.empty())
        changed(fd);
}

// Waits for events; 0 also for a time-out, a signal.
int EpollEngine::wait(int64_t deadline_ns) {
    int64_t left = deadline_ns == 0 || deadline_ns == kForever ? 0 : std::max<int64_t>(0, deadline_ns - now_ns());
    int n;
    if (pwait2_) {
        timespec timeout{.tv_sec = left / 1'000'000'000, .tv_nsec = left % 1'000'000'000};
        n = epoll_pwait2(epoll_fd_.get(), events_, kMaxEvents, deadline_ns == kForever ? nullptr : &timeout, nullptr);
        if (n >= 0 || (errno != ENOSYS && errno != EPERM))
            return std::max(n, 0);
        pwait2_ = false;  // Linux before 5.11, or a container's filter that is as old
    }
    int ms =
        deadline_ns == kForever ? -1 : static_cast<int>(std::min<int64_t>((left + 999'999) / 1'000'000, INT32_MAX));
    n = epoll_wait(epoll_fd_.get(), events_, kMaxEvents, ms);
    return std::max(n, 0);
}

void EpollEngine::fetch(int64_t deadline_ns) {
    fetched_ = wait(deadline_ns);
    for (int i = 0; i < fetched_; i++) {
        if (events_[i].data.fd < 0)
            continue;
        Watch& watch = watches_[static_cast<size_t>(events_[i].data.fd)];
        armed_ -= watch.armed != 0;
        watch.armed = 0;
    }
}

void EpollEngine::enter(int64_t deadline_ns) {
    if (fetched_ > 0)
        return;
    arm_changed();
    if (finished_.empty())
        fetch(deadline_ns);
    else if (armed_ > 0)
        fetch(0);
}

bool EpollEngine::complete() {
    for (int i = 0, n = std::exchange(fetched_, 0); i < n; i++)
        if (events_[i].data.fd >= 0)
            serve(events_[i].data.fd, events_[i].events);
    finishing_.swap(finished_);
    for (Finished& f : finishing_)
        f.op->done(*f.op, f.result);
    bool any = !finishing_.empty();
    finishing_.clear();
    return any;
}

}  // namespace

Result<std::unique_ptr<Engine>> make_epoll_engine() {
    return EpollEngine::create();
}

}  // namespace ashlar
