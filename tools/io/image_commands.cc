// length, info, truncate, discard, flush, aio_flush.
#include "block/image_create.h"
#include "block/image_format.h"
#include "tools/human_info.h"
#include "tools/io/command.h"
#include "tools/io/report.h"
#include "tools/io/shell.h"
#include "util/json.h"
#include "util/report.h"

#include <fmt/core.h>

#include <cerrno>
#include <cstring>

namespace ashlar {

namespace {

Task<bool> co_length(IoShell& shell, IoArguments&) {
    const int64_t length = shell.image().length();
    if (length < 0) {
        fmt::print("getlength: {}\n", strerror(static_cast<int>(-length)));
        co_return false;
    }
    fmt::print("{}\n", format_quantity(static_cast<double>(length)));
    co_return true;
}

Task<bool> co_info(IoShell& shell, IoArguments&) {
    const BlockDriverState& node = shell.image_node();
    BlockDriver& driver = node.driver();
    fmt::print("format name: {}\n", node.type().name);
    if (node.type().is_protocol)
        fmt::print("format name: {}\n", node.type().name);
    ImageFormat* format = driver.image_format();
    fmt::print("cluster size: {}\n", format_quantity(static_cast<double>(driver.cluster_size())));
    fmt::print("vm state offset: {}\n", format_quantity(format ? static_cast<double>(format->vm_state_offset()) : 0));
    const JsonBox specific = driver.specific_info();
    const Json* data = specific.has_value() ? json_find(*specific, "data") : nullptr;
    if (data)
        fmt::print("Format specific information:\n{}", human_info(*data, 4));
    co_return true;
}

Task<bool> co_truncate(IoShell& shell, IoArguments& arguments) {
    PreallocMode mode = PreallocMode::Off;
    while (char option = arguments.next_option("m:")) {
        if (option != 'm')
            co_return arguments.wrong_usage();
        if (auto taken = take_enum(mode, arguments.option_argument(), "Invalid preallocation mode '{}'"); !taken) {
            error_report(taken.error());
            co_return false;
        }
    }
    if (arguments.rest().empty())
        co_return arguments.wrong_usage();
    auto size = take_size(arguments.rest()[0]);
    if (!size)
        co_return false;
    auto done = co_await shell.image().co_truncate(*size, false, mode);
    if (!done)
        error_report(done.error());
    co_return done.has_value();
}

Task<bool> co_discard(IoShell& shell, IoArguments& arguments) {
    IoReport report;
    while (char option = arguments.next_option("Cq"))
        if (!report.take(option))
            co_return arguments.wrong_usage();
    if (arguments.rest().size() != 2)
        co_return arguments.wrong_usage();
    auto range = IoRange::take(arguments.rest());
    if (!range || !is_within_one_request(range->bytes, arguments.rest()[1]))
        co_return false;
    report.is_of("discard", *range);
    co_return co_await report.co_finish("discard", shell.image().co_pdiscard(range->offset, range->bytes));
}

Task<bool> co_flush(IoShell& shell, IoArguments&) {
    int ret = co_await shell.image().co_flush();
    if (ret < 0)
        fmt::print("flush failed: {}\n", strerror(-ret));
    co_return ret >= 0;
}

Task<bool> co_aio_flush(IoShell& shell, IoArguments&) {
    // Draining, so that what blkdebug has suspended goes on.
    auto drained = co_await shell.graph().co_drain_all();
    drained.end();
    co_await shell.co_wait_until_idle();
    co_return true;
}

constexpr IoCommand kCommands[] = {
    {.name = "length", .alias = "l", .help = "gets the length of the current file", .run = co_length},
    {.name = "info", .alias = "i", .help = "prints information about the current file", .run = co_info},
    {.name = "truncate",
     .alias = "t",
     .usage = "[-m prealloc_mode] off",
     .help = "truncates the current file at the given offset",
     .min_arguments = 1,
     .max_arguments = 3,
     .perms = BlockPerm::Write | BlockPerm::Resize,
     .run = co_truncate},
    {.name = "discard",
     .alias = "d",
     .usage = "[-Cq] off len",
     .help = "discards a number of bytes at a specified offset",
     .long_help = R"(
 discards a range of bytes from the given offset

 Example:
 'discard 512 1k' - discards 1 kilobyte from 512 bytes into the file

 Discards a segment of the currently open file.
 -C, -- report statistics in a machine parsable format
 -q, -- quiet mode, do not show I/O statistics

)",
     .min_arguments = 2,
     .max_arguments = kAnyNumber,
     .perms = BlockPerm::Write,
     .run = co_discard},
    {.name = "flush", .alias = "f", .help = "flush all in-core file state to disk", .run = co_flush},
    {.name = "aio_flush", .help = "completes all outstanding aio requests", .run = co_aio_flush},
};

}  // namespace

std::span<const IoCommand> image_commands() {
    return kCommands;
}

}  // namespace ashlar
