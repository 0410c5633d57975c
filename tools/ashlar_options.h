// The command line of `ashlar`: qemu-system's, as far as there is something behind it.
#pragma once

#include "monitor/export_options.h"
#include "tools/machine/char_options.h"
#include "tools/machine/machine_options.h"
#include "util/error.h"

#include <optional>
#include <string>
#include <vector>

namespace ashlar {

struct AshlarOptions {
    struct Nbd {
        std::string text;
        NbdArgument argument;
    };

    MachineArguments machine;
    CharArguments chars;
    std::string name;
    bool paused = false;                                  // -S
    std::vector<std::string> objects, blockdevs, drives;  // arguments, in order
    std::vector<Nbd> nbds;
    bool daemonize = false;
    std::string pid_file;
    bool verbose = false;
};

// nullopt: there is nothing more to do (-help, -version).
Result<std::optional<AshlarOptions>> parse_ashlar_options(int argc, char** argv);

}  // namespace ashlar
