// CharPlace: what a character device (-chardev) leads to. A value.
#pragma once

#include "monitor/qmp_address.h"

#include <string>
#include <string_view>

namespace ashlar {

struct CharPlace {
    enum class Kind : uint8_t { Null, Stdio, File, Pipe, Pty, Socket } kind = Kind::Null;
    std::string id;
    bool mux = false;         // several may use it, and Ctrl-a changes between them
    bool signals = true;      // Stdio: Ctrl-c ends the program
    std::string path;         // File, Pipe
    bool append = false;      // File: behind what is there
    QmpAddress address = {};  // Socket
};

// BACKEND,id=ID[,OPTION=VALUE...], as -chardev takes it.
Result<CharPlace> parse_chardev(std::string_view text);
std::string chardev_help();

// stdio, pty, null, file:PATH, pipe:PATH, unix:PATH[,...] or tcp:HOST:PORT[,...], as -serial and the like take it. It has
// no id.
Result<CharPlace> parse_char_place(std::string_view text);

}  // namespace ashlar
