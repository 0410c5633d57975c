#include "tools/io/line_input.h"

#include "tools/config.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#ifdef ASHLAR_HAVE_LIBEDIT
#include <editline/readline.h>
#endif

namespace ashlar {

#ifdef ASHLAR_HAVE_LIBEDIT

namespace {

// libedit's callback has no argument of ours.
struct EditedLine {
    bool ready = false;
    std::optional<std::string> text = {};
};
EditedLine g_line;

void take_line(char* line) {
    g_line = {true, line ? std::optional<std::string>(line) : std::nullopt};
    if (line && *line)
        add_history(line);
    free(line);
    rl_callback_handler_remove();  // the terminal is as it was while a command runs
}

}  // namespace

Task<std::optional<std::string>> LineInput::co_next_edited() {
    g_line = {};
    rl_callback_handler_install(prompt_.c_str(), take_line);
    while (!g_line.ready) {
        co_await co_wait_readable();
        rl_callback_read_char();
    }
    if (!g_line.text)
        fmt::print("\n");
    co_return std::move(g_line.text);
}

LineInput::~LineInput() {
    if (edits_)
        rl_callback_handler_remove();
}

#else

Task<std::optional<std::string>> LineInput::co_next_edited() {
    co_return std::nullopt;
}

LineInput::~LineInput() = default;

#endif

LineInput::LineInput(std::string prompt)
    : prompt_(std::move(prompt)), input_(UniqueFd(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3))) {
#ifdef ASHLAR_HAVE_LIBEDIT
    edits_ = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
#endif
}

// An error, as for a file that cannot be waited for, is left to reading.
Task<void> LineInput::co_wait_readable() {
    co_await input_.wait(POLLIN);
}

Task<std::optional<std::string>> LineInput::co_next() {
    if (edits_)
        co_return co_await co_next_edited();
    fmt::print("{}", prompt_);
    fflush(stdout);
    for (;;) {
        size_t end = pending_.find('\n');
        if (end != pending_.npos || (at_end_ && !pending_.empty())) {
            std::string line = pending_.substr(0, end);
            pending_.erase(0, end == pending_.npos ? end : end + 1);
            co_return line;
        }
        if (at_end_)
            co_return std::nullopt;
        co_await co_wait_readable();
        std::array<char, 4096> chunk;
        ssize_t got = read(STDIN_FILENO, chunk.data(), chunk.size());
        if (got > 0)
            pending_.append(chunk.data(), static_cast<size_t>(got));
        else if (got == 0 || (errno != EINTR && errno != EAGAIN))
            at_end_ = true;
    }
}

}  // namespace ashlar
