// Trace events: util/trace_events.def declares each one, and this header makes of it a function trace_NAME(arguments).
//
// A call costs a no-op, the USDT probe ashlar:NAME, and a branch on a bool; nothing is formatted unless the event has
// been enabled with -trace or QMP. Then it is a line in the log: "TID@SECONDS.MICROSECONDS:NAME text". From any thread.
// docs/devel/tracing.md says how to use and to add them.
#pragma once

#include "util/error.h"

#include <fmt/core.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#if __has_include(<sys/sdt.h>)
#define SDT_USE_VARIADIC 1
#include <sys/sdt.h>
#define ASHLAR_PROBE(name, ...) STAP_PROBEV(ashlar, name, ##__VA_ARGS__)
#else
#define ASHLAR_PROBE(name, ...) ((void)0)
#endif

namespace ashlar {

enum class TraceEvent : uint16_t {
#define TRACE_EVENT(name, ...) name,
#include "util/trace_events.def"
#undef TRACE_EVENT
    kCount
};

constexpr size_t kTraceEvents = static_cast<size_t>(TraceEvent::kCount);

inline constinit std::array<std::atomic<bool>, kTraceEvents> g_trace_enabled{};

inline bool trace_enabled(TraceEvent event) {
    return g_trace_enabled[static_cast<size_t>(event)].load(std::memory_order_relaxed);
}

void trace_write(TraceEvent event, fmt::string_view format, fmt::format_args args);

template <class... Args>
void trace_format(TraceEvent event, fmt::format_string<Args...> format, Args&&... args) {
    trace_write(event, format, fmt::make_format_args(args...));
}

#define TRACE_EVENT(name, parameters, format, ...)                 \
    inline void trace_##name parameters {                          \
        ASHLAR_PROBE(name, ##__VA_ARGS__);                         \
        if (trace_enabled(TraceEvent::name)) [[unlikely]]          \
            trace_format(TraceEvent::name, format, ##__VA_ARGS__); \
    }
#include "util/trace_events.def"
#undef TRACE_EVENT

std::string_view trace_name(TraceEvent event);

// Enables the events that match `pattern`, in which '*' and '?' are wild, or disables them when it starts with '-'.
// Returns how many match.
size_t trace_set(std::string_view pattern);
// The same, with a warning about a name that no event has.
void trace_enable(std::string_view pattern);

// -trace [enable=]PATTERN[,events=FILE][,file=FILE]: FILE of `events` has a pattern a line and comments that start
// with '#'; `file` is -D.
Result<void> trace_configure(std::string_view argument);
std::string trace_help();  // the names, one a line

}  // namespace ashlar
