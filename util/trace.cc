#include "util/trace.h"

#include "util/keyval.h"
#include "util/log.h"
#include "util/options.h"
#include "util/report.h"
#include "util/similar.h"

#include <fmt/format.h>
#include <glib.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>

namespace ashlar {

namespace {

constexpr std::array<std::string_view, kTraceEvents> kNames = {
#define TRACE_EVENT(name, ...) #name,
#include "util/trace_events.def"
#undef TRACE_EVENT
};

struct TraceOptions {
    std::string enable;
    std::string events;
    std::string file;

    static const OptionSet<TraceOptions>& options() {
        static const auto set = OptionSet<TraceOptions>("trace")
                                    .optional("enable", &TraceOptions::enable, "pattern of the events to enable")
                                    .optional("events", &TraceOptions::events, "file with a pattern on each line")
                                    .optional("file", &TraceOptions::file, "log file");
        return set;
    }
};

Result<void> enable_from_file(const std::string& path) {
    std::ifstream file(path);
    if (!file)
        return fail_errno(errno, "{}: cannot open the file of trace events", path);
    for (std::string line; std::getline(file, line);) {
        g_strstrip(line.data());
        line.resize(strlen(line.c_str()));
        if (!line.empty() && line[0] != '#')
            trace_enable(line);
    }
    return {};
}

}  // namespace

std::string_view trace_name(TraceEvent event) {
    return kNames[static_cast<size_t>(event)];
}

void trace_write(TraceEvent event, fmt::string_view format, fmt::format_args args) {
    using namespace std::chrono;
    auto now = duration_cast<microseconds>(system_clock::now().time_since_epoch()).count();
    fmt::memory_buffer line;
    auto out = std::back_inserter(line);
    fmt::format_to(out, "{}@{}.{:06}:{} ", gettid(), now / 1'000'000, now % 1'000'000, trace_name(event));
    fmt::vformat_to(out, format, args);
    log_line({line.data(), line.size()});
}

size_t trace_set(std::string_view pattern) {
    bool enable = !pattern.starts_with('-');
    std::string glob(enable ? pattern : pattern.substr(1));
    size_t matches = 0;
    for (size_t i = 0; i < kTraceEvents; ++i) {
        if (g_pattern_match_simple(glob.c_str(), std::string(kNames[i]).c_str())) {
            g_trace_enabled[i].store(enable, std::memory_order_relaxed);
            ++matches;
        }
    }
    return matches;
}

void trace_enable(std::string_view pattern) {
    if (trace_set(pattern) == 0 && pattern.find_first_of("*?") == pattern.npos) {
        pattern.remove_prefix(pattern.starts_with('-'));
        warn_report("trace event '{}' does not exist{}", pattern, did_you_mean(pattern, kNames));
    }
}

Result<void> trace_configure(std::string_view argument) {
    auto keyval = parse_keyval(argument, {.implied_key = "enable"});
    if (!keyval)
        return std::unexpected(std::move(keyval.error()));
    auto options = TraceOptions::options().parse(keyval->options, keyval->typing);
    if (!options)
        return std::unexpected(std::move(options.error()));
    if (!options->enable.empty())
        trace_enable(options->enable);
    if (!options->events.empty())
        if (auto done = enable_from_file(options->events); !done)
            return done;
    if (!options->file.empty())
        return log_to_file(options->file);
    return {};
}

std::string trace_help() {
    return fmt::format("{}\n", fmt::join(kNames, "\n"));
}

}  // namespace ashlar
