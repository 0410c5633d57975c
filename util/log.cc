#include "util/log.h"

#include "util/similar.h"
#include "util/trace.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

namespace ashlar {

namespace {

struct ItemInfo {
    LogItem item;
    std::string_view name, help;
};

constexpr ItemInfo kItems[] = {
    {LogItem::GuestErrors, "guest_errors", "log when a guest, an NBD peer or a QMP client does something invalid"},
};

constexpr std::string_view kTracePrefix = "trace:";

std::atomic<int> g_log_fd = STDERR_FILENO;

Result<void> enable_item(std::string_view name) {
    if (name.starts_with(kTracePrefix)) {
        trace_enable(name.substr(kTracePrefix.size()));
        return {};
    }
    unsigned bits = 0;
    std::vector<std::string_view> names{"all"};
    for (const ItemInfo& item : kItems) {
        names.push_back(item.name);
        if (name == item.name || name == "all")
            bits |= 1u << static_cast<unsigned>(item.item);
    }
    if (!bits)
        return std::unexpected(Error{fmt::format("Invalid log item '{}'{}", name, did_you_mean(name, names))}.with_hint(
            "-d help lists them."));
    g_log_items.fetch_or(bits, std::memory_order_relaxed);
    return {};
}

}  // namespace

void log_line(std::string_view line) {
    std::string text = fmt::format("{}\n", line);
    for (std::string_view rest = text; !rest.empty();) {
        ssize_t n = write(g_log_fd.load(std::memory_order_relaxed), rest.data(), rest.size());
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;  // there is nowhere to complain
        rest.remove_prefix(static_cast<size_t>(n));
    }
}

Result<void> log_enable(std::string_view items) {
    for (;;) {
        size_t comma = items.find(',');
        if (auto done = enable_item(items.substr(0, comma)); !done || comma == items.npos)
            return done;
        items.remove_prefix(comma + 1);
    }
}

std::string log_help() {
    std::string out = "Log items (comma separated):\n";
    for (const ItemInfo& item : kItems)
        out += fmt::format("{:<15} {}\n", item.name, item.help);
    out += fmt::format("{:<15} {}\n", "trace:PATTERN", "enable trace events; -trace help lists them");
    return out;
}

Result<void> log_to_file(std::string_view path) {
    std::string name(path);
    if (size_t at = name.find("%d"); at != name.npos)
        name.replace(at, 2, fmt::format("{}", getpid()));
    int fd = open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return fail_errno(errno, "{}: cannot open the log file", name);
    int old = g_log_fd.load();
    if (old == STDERR_FILENO) {
        g_log_fd = fd;
    } else {  // in place, for the sake of a thread that is about to write
        dup3(fd, old, O_CLOEXEC);
        close(fd);
    }
    return {};
}

}  // namespace ashlar
