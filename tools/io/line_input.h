// LineInput: the lines that somebody types, or that come through a pipe, at a prompt.
//
// On a terminal with line editing and history, if the program was built with libedit. In the main context, whose loop
// goes on while nothing comes.
#pragma once

#include "util/socket.h"
#include "util/task.h"

#include <optional>
#include <string>

namespace ashlar {

class LineInput {
public:
    explicit LineInput(std::string prompt);
    ~LineInput();
    LineInput(const LineInput&) = delete;

    // Without its newline; nothing at the end of the input.
    [[nodiscard]] Task<std::optional<std::string>> co_next();

private:
    [[nodiscard]] Task<void> co_wait_readable();
    [[nodiscard]] Task<std::optional<std::string>> co_next_edited();

    std::string prompt_;
    Socket input_;         // a duplicate of standard input
    std::string pending_;  // read but not returned yet
    bool at_end_ = false;
    bool edits_ = false;
};

}  // namespace ashlar
