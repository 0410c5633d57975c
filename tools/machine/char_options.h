// What the command line says of character devices and of who uses them. Values.
#pragma once

#include "tools/machine/char_place.h"

#include <optional>
#include <string>
#include <vector>

namespace ashlar {

class CommandLine;

struct CharArguments {
    struct Monitor {
        std::string chardev;
        bool control = false;  // QMP
        bool pretty = false;
    };

    // In order. Those that -serial and the like stand for have names of their own.
    std::vector<CharPlace> chardevs;
    std::vector<Monitor> monitors;
    std::optional<std::string> serial, gdb;  // a chardev; empty: none
    bool monitor_given = false;              // if only to say that there is none
    bool nographic = false;
    bool nodefaults = false;
};

// The options; `out` outlives the command line's parsing.
void add_char_options(CommandLine& line, CharArguments& out);

// Adds what there is by default, for a machine with a serial port, and checks what they must be together.
Result<void> settle_char_arguments(CharArguments& arguments, bool has_serial_port, bool daemonize);

}  // namespace ashlar
