#include "util/signals.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

namespace ashlar {

Signals::Signals(std::initializer_list<int> signals) {
    sigset_t set;
    sigemptyset(&set);
    for (int signal : signals)
        sigaddset(&set, signal);
    pthread_sigmask(SIG_BLOCK, &set, &before_);
    descriptor_ = Socket(UniqueFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)));
}

Signals::~Signals() {
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

Task<int> Signals::co_next() {
    for (;;) {
        if (int ret = co_await descriptor_.wait(POLLIN); ret < 0)
            co_return ret;
        signalfd_siginfo info;
        if (read(descriptor_.fd(), &info, sizeof(info)) == sizeof(info))
            co_return static_cast<int>(info.ssi_signo);
        if (errno != EAGAIN && errno != EINTR)
            co_return -errno;
    }
}

}  // namespace ashlar
