// CreateOptions: what -o may say of an image that is to be made: the format's options, and those of the protocol that
// the format does not have. In the tools' words for what is wrong with them.
#pragma once

#include "block/block_driver.h"
#include "tools/command_line.h"
#include "util/error.h"
#include "util/json.h"

#include <string>
#include <string_view>
#include <vector>

namespace ashlar::img {

// "  NAME=<TYPE>   - HELP", by name, for each option.
std::string options_help(std::vector<const OptionInfo*> options);

// name=value,...: an object with the values as their types have them; but enums, which are text.
Result<Json> parse_image_options(const std::vector<const OptionInfo*>& known, std::string_view text);

class CreateOptions {
public:
    CreateOptions(const DriverType& format, const DriverType* protocol);

    bool has(std::string_view name) const { return find(name) != nullptr; }
    // As -o help prints it; without a protocol it says that there may be more.
    std::string help() const;
    Result<Json> parse(std::string_view text) const { return parse_image_options(options_, text); }
    // "fmt=raw size=1048576": what is set or has a default.
    std::string describe(const Json& options) const;

private:
    const OptionInfo* find(std::string_view name) const;

    const DriverType& format_;
    bool has_protocol_;
    std::vector<const OptionInfo*> options_;
};

// Whether a -o argument, or a part of it, asks for help.
bool asks_for_help(std::string_view options);

// -o, more than one of which add up. "Invalid option list: ..."
void add_creation_options(CommandLine& line, std::string help, std::string& options);

// The format to make, with qemu-img's errors: "Unknown file format 'x'", "Format driver 'x' does not support image
// creation".
Result<const DriverType*> creatable_format(const DriverRegistry& drivers, std::string_view name);

}  // namespace ashlar::img
