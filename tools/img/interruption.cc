#include "tools/img/interruption.h"

#include <csignal>
#include <cstdio>

namespace ashlar::img {

Interruption::Interruption() {
    signals_.emplace({SIGINT, SIGTERM, SIGHUP});
}

void Interruption::watch(std::function<void()> on_signal) {
    on_signal_ = std::move(on_signal);
    watching_.spawn(co_watch());
}

Task<void> Interruption::co_watch() {
    const int signal = co_await signals_->co_next();
    if (signal > 0) {
        received_ = signal;
        on_signal_();
    }
}

Task<void> Interruption::co_stop() {
    signals_->cancel();
    co_await watching_.join();
}

void Interruption::end_if_interrupted() {
    if (!received_)
        return;
    fflush(stdout);
    signals_.reset();
    signal(received_, SIG_DFL);
    raise(received_);
}

}  // namespace ashlar::img
