// Messages for the person at the terminal, on standard error: "ashlar-nbd: warning: ...". From any thread, one write
// per message.
#pragma once

#include "util/error.h"

#include <fmt/core.h>

#include <string>
#include <string_view>
#include <utility>

namespace ashlar {

// The name in front of every message; main() sets it before it starts threads.
void set_program_name(std::string_view name);
const std::string& program_name();

enum class Severity : unsigned char { Error, Warning, Info };
void report(Severity severity, std::string_view message, std::string_view hint = {});

// The message, with its hint on a line of its own.
inline void error_report(const Error& error) {
    report(Severity::Error, error.message, error.hint);
}
template <class... Args>
void error_report(fmt::format_string<Args...> format, Args&&... args) {
    report(Severity::Error, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warn_report(fmt::format_string<Args...> format, Args&&... args) {
    report(Severity::Warning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void info_report(fmt::format_string<Args...> format, Args&&... args) {
    report(Severity::Info, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace ashlar
