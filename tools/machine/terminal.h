// RawTerminal: the terminal passes every key on as it is, and does not echo, while this lives; nothing happens if
// standard input is none.
#pragma once

#include <termios.h>

namespace ashlar {

class RawTerminal {
public:
    explicit RawTerminal(bool signals);  // Ctrl-c still ends the program
    ~RawTerminal();
    RawTerminal(const RawTerminal&) = delete;

private:
    termios before_;
    bool changed_ = false;
};

}  // namespace ashlar
