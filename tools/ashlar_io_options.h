// The command line of ashlar-io: qemu-io's.
#pragma once

#include "tools/image_arguments.h"
#include "util/error.h"

#include <optional>
#include <string>
#include <vector>

namespace ashlar {

struct AshlarIoOptions {
    ImageArguments image;
    bool misalign = false;
    std::vector<std::string> objects;   // arguments of --object
    std::vector<std::string> commands;  // of -c; none: they come from standard input
    std::string file;                   // empty: none is opened
};

// nullopt: there is nothing more to do (--help, --version).
Result<std::optional<AshlarIoOptions>> parse_ashlar_io_options(int argc, char** argv);

}  // namespace ashlar
