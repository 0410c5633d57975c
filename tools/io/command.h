// IoCommand: one command of ashlar-io: what it is called, what it wants, and what it does. Each group of commands is a
// file that has a table of them; commands.cc puts the tables together. Names, texts and output are qemu-io's.
#pragma once

#include "block/block_types.h"
#include "tools/io/arguments.h"
#include "util/task.h"

#include <span>
#include <string_view>
#include <vector>

namespace ashlar {

class IoShell;

constexpr int kAnyNumber = -1;

struct IoCommand {
    std::string_view name;
    std::string_view alias = {};
    std::string_view usage = {};
    std::string_view help = {};
    std::string_view long_help = {};  // of `help NAME`
    int min_arguments = 0;            // options count as well
    int max_arguments = 0;            // or kAnyNumber
    bool needs_image = true;
    BlockPerm perms = BlockPerm::None;  // that it needs of the image
    // False: it has failed, and has said so.
    Task<bool> (*run)(IoShell& shell, IoArguments& arguments) = nullptr;
};

// All of them, by name.
std::span<const IoCommand* const> io_commands();
const IoCommand* find_io_command(std::string_view name_or_alias);

// "read [-abCqv] ... off len -- reads ...\n", under the name that was typed.
std::string usage_line(const IoCommand& command, std::string_view name);

// --- the groups ---
std::span<const IoCommand> read_commands();
std::span<const IoCommand> write_commands();
std::span<const IoCommand> image_commands();
std::span<const IoCommand> map_commands();
std::span<const IoCommand> open_commands();
std::span<const IoCommand> debug_commands();
std::span<const IoCommand> shell_commands();

}  // namespace ashlar
