// alloc, map: what the image itself has, and what comes from its backing file or is not there.
#include "block/block_node.h"
#include "tools/io/command.h"
#include "tools/io/output.h"
#include "tools/io/shell.h"

#include <fmt/core.h>

#include <cstring>

namespace ashlar {

namespace {

bool is_allocated(const BlockStatus& status) {
    return status.has(BlockStatus::Allocated);
}

Task<bool> co_alloc(IoShell& shell, IoArguments& arguments) {
    auto start = take_size(arguments.words()[1]);
    if (!start)
        co_return false;
    int64_t count = kSectorSize;
    if (arguments.count() == 2) {
        auto given = take_size(arguments.words()[2]);
        if (!given)
            co_return false;
        count = *given;
    }
    BlockDriverState& node = shell.image_node();
    int64_t allocated = 0, offset = *start, remaining = count;
    while (remaining > 0) {
        BlockStatus status = co_await node.co_block_status(false, offset, remaining);
        if (status.ret < 0) {
            fmt::print("is_allocated failed: {}\n", strerror(-status.ret));
            co_return false;
        }
        if (status.bytes == 0)  // the end
            break;
        offset += status.bytes;
        remaining -= status.bytes;
        if (is_allocated(status))
            allocated += status.bytes;
    }
    fmt::print("{}/{} bytes allocated at offset {}\n", allocated, count - remaining,
               format_quantity(static_cast<double>(*start)));
    co_return true;
}

Task<bool> co_map(IoShell& shell, IoArguments&) {
    BlockDriverState& node = shell.image_node();
    const int64_t length = shell.image().length();
    if (length < 0) {
        fmt::print("Failed to query image length: {}\n", strerror(static_cast<int>(-length)));
        co_return false;
    }
    bool allocated = false;
    int64_t start = 0;
    for (int64_t offset = 0; offset < length || start < offset;) {
        BlockStatus status;
        if (offset < length) {
            status = co_await node.co_block_status(false, offset, length - offset);
            if (status.ret < 0) {
                fmt::print("Failed to get allocation status: {}\n", strerror(-status.ret));
                co_return false;
            }
            if (status.bytes == 0) {
                fmt::print("Unexpected end of image\n");
                co_return false;
            }
        }
        // A run ends where the other kind begins, or at the end.
        if (start < offset && (offset >= length || is_allocated(status) != allocated)) {
            fmt::print("{} (0x{:x}) bytes {} at offset {} (0x{:x})\n",
                       format_quantity(static_cast<double>(offset - start)), offset - start,
                       allocated ? "    allocated" : "not allocated", format_quantity(static_cast<double>(start)),
                       start);
            start = offset;
        }
        allocated = is_allocated(status);
        offset += status.bytes;
    }
    co_return true;
}

constexpr IoCommand kCommands[] = {
    {.name = "alloc",
     .alias = "a",
     .usage = "offset [count]",
     .help = "checks if offset is allocated in the file",
     .min_arguments = 1,
     .max_arguments = 2,
     .run = co_alloc},
    {.name = "map", .usage = " ", .help = "prints the allocated areas of a file", .run = co_map},
};

}  // namespace

std::span<const IoCommand> map_commands() {
    return kCommands;
}

}  // namespace ashlar
