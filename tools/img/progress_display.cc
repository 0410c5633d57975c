#include "tools/img/progress_display.h"

#include "util/timer.h"

#include <fmt/core.h>

#include <csignal>
#include <cstdio>

namespace ashlar::img {

namespace {

constexpr int64_t kLookEvery = 20'000'000;  // ns
constexpr double kStep = 0.01;

std::string bar(double fraction) {
    return fmt::format("    ({:3.2f}/100%)\r", fraction * 100);
}

}  // namespace

ProgressDisplay::ProgressDisplay(bool shown) : shown_(shown), signals_({SIGUSR1}) {}

void ProgressDisplay::start() {
    if (shown_) {
        show();
        running_.spawn(co_follow());
    }
    running_.spawn(co_answer_signals());
}

void ProgressDisplay::show() {
    last_shown_ = progress_.fraction();
    fmt::print("{}", bar(last_shown_));
    fflush(stdout);
}

Task<void> ProgressDisplay::co_follow() {
    while (!ending_) {
        co_await co_sleep(kLookEvery);
        if (!ending_ && progress_.fraction() >= last_shown_ + kStep)
            show();
    }
}

Task<void> ProgressDisplay::co_answer_signals() {
    while (co_await signals_.co_next() == SIGUSR1) {
        if (shown_)
            show();
        else
            fmt::print(stderr, "    ({:3.2f}/100%)\n", progress_.fraction() * 100);
    }
}

Task<void> ProgressDisplay::co_finish(bool complete, std::string message) {
    ending_ = true;
    signals_.cancel();
    co_await running_.join();
    if (shown_ && complete)
        fmt::print("{}", bar(1));
    fmt::print("{}{}", message, shown_ ? "\n" : "");
}

}  // namespace ashlar::img
