#include "tools/io/command.h"

#include <fmt/core.h>

#include <algorithm>

namespace ashlar {

std::span<const IoCommand* const> io_commands() {
    static const std::vector<const IoCommand*> all = [] {
        std::vector<const IoCommand*> commands;
        for (auto group : {read_commands(), write_commands(), image_commands(), map_commands(), open_commands(),
                           debug_commands(), shell_commands()})
            for (const IoCommand& command : group)
                commands.push_back(&command);
        std::sort(commands.begin(), commands.end(), [](auto* a, auto* b) { return a->name < b->name; });
        return commands;
    }();
    return all;
}

const IoCommand* find_io_command(std::string_view name) {
    for (const IoCommand* command : io_commands())
        if (command->name == name || (!command->alias.empty() && command->alias == name))
            return command;
    return nullptr;
}

std::string usage_line(const IoCommand& command, std::string_view name) {
    // `map` has an empty usage of its own in qemu-io, and so a space more.
    std::string_view space = command.usage.empty() ? "" : " ";
    return fmt::format("{}{}{} -- {}\n", name, space, command.usage == " " ? "" : command.usage, command.help);
}

}  // namespace ashlar
