// ProgressDisplay: how much of a command's work is done, for the person at the terminal: with -p all the time, else
// when SIGUSR1 asks for it. Made before the command has other threads; shows from construction to co_finish().
#pragma once

#include "util/co_event.h"
#include "util/progress.h"
#include "util/signals.h"
#include "util/task_scope.h"

#include <string>

namespace ashlar::img {

class ProgressDisplay {
public:
    // `shown`: -p.
    explicit ProgressDisplay(bool shown);
    ProgressDisplay(const ProgressDisplay&) = delete;

    Progress& progress() { return progress_; }
    // In the main context, in a coroutine; co_finish() follows.
    void start();
    // The last word: 100 % if all went well, and what is to be said on standard output besides.
    [[nodiscard]] Task<void> co_finish(bool complete, std::string message = {});

private:
    [[nodiscard]] Task<void> co_follow();
    [[nodiscard]] Task<void> co_answer_signals();
    void show();

    Progress progress_;
    bool shown_;
    double last_shown_ = 0;
    bool ending_ = false;
    Signals signals_;
    TaskScope running_;
};

}  // namespace ashlar::img
