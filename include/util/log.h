// The log: lines on stderr, or in the file of -D, about what the items of -d ask for. For people who look for a cause;
// what must be seen goes through util/report.h, and events with arguments are trace events (util/trace.h).
//
// log() is for any thread: a line is one write, so that lines do not mix. Items and file are set by main() as it reads
// the command line, and by QMP.
#pragma once

#include "util/error.h"

#include <fmt/core.h>

#include <atomic>
#include <string>
#include <string_view>
#include <utility>

namespace ashlar {

enum class LogItem : unsigned {
    GuestErrors,  // guests, NBD peers and QMP clients that do what they may not
};

inline constinit std::atomic<unsigned> g_log_items = 0;  // a bit for each LogItem

inline bool log_wants(LogItem item) {
    return (g_log_items.load(std::memory_order_relaxed) >> static_cast<unsigned>(item)) & 1;
}

// The line, without asking.
void log_line(std::string_view line);

// A line, if `item` is wanted; the newline is added. The arguments are evaluated in any case.
template <class... Args>
void log(LogItem item, fmt::format_string<Args...> format, Args&&... args) {
    if (log_wants(item)) [[unlikely]]
        log_line(fmt::format(format, std::forward<Args>(args)...));
}

// -d ITEM,ITEM...: adds to what is wanted; `trace:PATTERN` enables trace events, `all` is all items.
Result<void> log_enable(std::string_view items);
std::string log_help();

// -D FILE, which is emptied. "%d" stands for the process ID.
Result<void> log_to_file(std::string_view path);

}  // namespace ashlar
