// help, quit.
#include "tools/io/command.h"
#include "tools/io/shell.h"

#include <fmt/core.h>

namespace ashlar {

namespace {

Task<bool> co_help(IoShell&, IoArguments& arguments) {
    if (arguments.count() == 0) {
        for (const IoCommand* command : io_commands())
            fmt::print("{}", usage_line(*command, command->name));
        fmt::print("\nUse 'help commandname' for extended help.\n");
        co_return true;
    }
    const std::string& name = arguments.words()[1];
    const IoCommand* command = find_io_command(name);
    if (!command) {
        fmt::print("command {} not found\n", name);
        co_return false;
    }
    fmt::print("{}{}", usage_line(*command, name), command->long_help);
    co_return true;
}

Task<bool> co_quit(IoShell& shell, IoArguments&) {
    shell.quit();
    co_return true;
}

constexpr IoCommand kCommands[] = {
    {.name = "help",
     .alias = "?",
     .usage = "[command]",
     .help = "help for one or all commands",
     .max_arguments = 1,
     .needs_image = false,
     .run = co_help},
    {.name = "quit",
     .alias = "q",
     .help = "exit the program",
     .max_arguments = kAnyNumber,
     .needs_image = false,
     .run = co_quit},
};

}  // namespace

std::span<const IoCommand> shell_commands() {
    return kCommands;
}

}  // namespace ashlar
