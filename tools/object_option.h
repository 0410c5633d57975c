// -object of a program: `help` and `TYPE,help` are printed, any other argument goes to `handler`.
#pragma once

#include "monitor/user_objects.h"
#include "tools/command_line.h"

#include <string>

namespace ashlar {

inline void add_object_option(CommandLine& line, CommandLine::Handler handler) {
    line.add(0, "object", "TYPE,id=ID[,PROPERTY=VALUE...]",
             "create an object: an iothread, a secret or a throttle-group;\n`help' and `TYPE,help' list what there is",
             [&line, handler](std::string_view given) -> Result<void> {
                 if (auto help = object_help(given))
                     return line.printer([help] { return *help; })({});
                 return handler(given);
             });
}

inline void add_object_option(CommandLine& line, std::vector<std::string>& list) {
    add_object_option(line, [&list](std::string_view given) -> Result<void> {
        list.emplace_back(given);
        return {};
    });
}

}  // namespace ashlar
