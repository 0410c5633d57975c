#include "tools/ashlar_io_options.h"

#include "monitor/version.h"
#include "tools/command_line.h"
#include "tools/object_option.h"
#include "util/report.h"

#include <fmt/core.h>

namespace ashlar {

Result<std::optional<AshlarIoOptions>> parse_ashlar_io_options(int argc, char** argv) {
    AshlarIoOptions o;
    CommandLine line(fmt::format("Usage: {} [OPTIONS]... [-c STRING]... [file]\nDisk exerciser\n", program_name()));
    add_object_option(line, o.objects);
    line.add_list('c', "cmd", "STRING", "execute command with its arguments from the given\nstring", o.commands);
    o.image.add_to(line, "frsnCkitdU");
    line.add_flag('m', "misalign", "misalign allocations for O_DIRECT", o.misalign);
    line.add_trace('T');
    line.add('h', "help", "", "display this help and exit", line.printer([&line] { return line.help(); }));
    line.add('V', "version", "", "output version information and exit",
             line.printer([] { return version_text(program_name()); }));
    line.epilogue(fmt::format("See '{} -c help' for information on available commands.\n", program_name()));

    auto files = line.parse(argc, argv);
    if (!files)
        return std::unexpected(std::move(files.error()));
    if (line.has_printed())
        return std::nullopt;
    if (files->size() > 1)
        return std::unexpected(
            Error{fmt::format("one image at a time: unexpected argument '{}'", (*files)[1])}.with_hint(help_hint()));
    if (!files->empty())
        o.file = (*files)[0];
    if (auto checked = o.image.check(); !checked)
        return std::unexpected(std::move(checked.error()));
    return o;
}

}  // namespace ashlar
