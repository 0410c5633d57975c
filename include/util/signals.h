// Signals: signals as something that a coroutine awaits, instead of interruptions.
//
// Made by main() before there are other threads, which then inherit that the signals are blocked. One waiter at a time,
// in an AioContext. Destroying it restores the signal mask of its thread.
#pragma once

#include <csignal>
#include <initializer_list>

#include "util/socket.h"

namespace ashlar {

class Signals {
public:
    explicit Signals(std::initializer_list<int> signals);
    ~Signals();
    Signals(const Signals&) = delete;

    // Suspends until one arrives: its number; -ECANCELED after cancel().
    [[nodiscard]] Task<int> co_next();
    void cancel() { descriptor_.cancel(); }

private:
    sigset_t before_;
    Socket descriptor_;  // a signalfd
};

}  // namespace ashlar
