#include "tools/machine/terminal.h"

#include <unistd.h>

namespace ashlar {

RawTerminal::RawTerminal(bool signals) {
    if (tcgetattr(STDIN_FILENO, &before_) < 0)
        return;
    termios raw = before_;
    raw.c_iflag &= ~static_cast<tcflag_t>(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    raw.c_oflag |= OPOST;
    raw.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHONL | ICANON | IEXTEN);
    if (!signals)
        raw.c_lflag &= ~static_cast<tcflag_t>(ISIG);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    changed_ = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

RawTerminal::~RawTerminal() {
    if (changed_)
        tcsetattr(STDIN_FILENO, TCSANOW, &before_);
}

}  // namespace ashlar
