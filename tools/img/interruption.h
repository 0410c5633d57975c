// Interruption: SIGINT, SIGTERM and SIGHUP as a call, so that a command can tidy up before it ends by that signal.
// Made before the command has other threads.
#pragma once

#include "util/signals.h"
#include "util/task_scope.h"

#include <functional>

namespace ashlar::img {

class Interruption {
public:
    Interruption();

    // From now on until co_stop(), in the main context: `on_signal` is called at the first.
    void watch(std::function<void()> on_signal);
    [[nodiscard]] Task<void> co_stop();
    // If there was one: ends the program by it. Everything has been tidied up.
    void end_if_interrupted();

private:
    [[nodiscard]] Task<void> co_watch();

    std::optional<Signals> signals_;
    std::function<void()> on_signal_;
    TaskScope watching_;
    int received_ = 0;
};

}  // namespace ashlar::img
