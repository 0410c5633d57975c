// read, readv, aio_read.
#include "block/accounting.h"
#include "block/image_format.h"
#include "tools/io/async_request.h"
#include "tools/io/command.h"

#include <fmt/core.h>

#include <cerrno>
#include <cstring>

namespace ashlar {

namespace {

struct ReadOptions {
    std::optional<int> pattern = {};
    std::optional<int64_t> pattern_offset = {}, pattern_length = {};
    bool vm_state = false, machine_readable = false, quiet = false, verbose = false, invalid = false;

    // Fails having said why.
    bool parse(IoArguments& arguments, const char* letters) {
        while (char option = arguments.next_option(letters)) {
            switch (option) {
                case 'b':
                    vm_state = true;
                    break;
                case 'C':
                    machine_readable = true;
                    break;
                case 'i':
                    invalid = true;
                    break;
                case 'p':
                    break;
                case 'q':
                    quiet = true;
                    break;
                case 'v':
                    verbose = true;
                    break;
                case 'l':
                    if (!(pattern_length = take_size(arguments.option_argument())))
                        return false;
                    break;
                case 's':
                    if (!(pattern_offset = take_size(arguments.option_argument())))
                        return false;
                    break;
                case 'P':
                    if (!(pattern = take_pattern(arguments.option_argument())))
                        return false;
                    break;
                default:
                    return arguments.wrong_usage();
            }
        }
        return true;
    }
};

// Verifies, dumps and reports.
bool finish_read(const ReadOptions& options, const IoBuffer& buffer, const IoStatistics& statistics) {
    bool ok = true;
    if (options.pattern) {
        const int64_t at = options.pattern_offset.value_or(0);
        const int64_t length = options.pattern_length.value_or(statistics.bytes - at);
        if (!buffer.is_all(*options.pattern, at, length)) {
            fmt::print("Pattern verification failed at offset {}, {} bytes\n", statistics.offset + at, length);
            ok = false;
        }
    }
    if (options.quiet)
        return ok;
    if (options.verbose)
        fmt::print("{}", format_dump(buffer.data(), statistics.offset));
    fmt::print("{}", format_statistics(statistics));
    return ok;
}

Task<int> co_read_vm_state(BlockDriverState& image, int64_t offset, std::span<std::byte> data) {
    ImageFormat* format = image.driver().image_format();
    if (!format)
        co_return -ENOTSUP;
    co_return co_await format->co_read_vm_state(offset, data);
}

Task<bool> co_read(IoShell& shell, IoArguments& arguments) {
    ReadOptions options;
    if (!options.parse(arguments, "bCl:pP:qs:v"))
        co_return false;
    if (arguments.rest().size() != 2)
        co_return arguments.wrong_usage();
    auto offset = take_size(arguments.rest()[0]);
    if (!offset)
        co_return false;
    auto bytes = take_size(arguments.rest()[1]);
    if (!bytes)
        co_return false;
    if (*bytes > kMaxIoBytes) {
        fmt::print("length cannot exceed {}, given {}\n", kMaxIoBytes, arguments.rest()[1]);
        co_return false;
    }
    if (!options.pattern && (options.pattern_offset || options.pattern_length))
        co_return arguments.wrong_usage();
    const int64_t pattern_offset = options.pattern_offset.value_or(0);
    if (pattern_offset > *bytes || options.pattern_length.value_or(0) > *bytes - pattern_offset) {
        fmt::print("pattern verification range exceeds end of read data\n");
        co_return false;
    }
    if (options.vm_state && (!is_sector_aligned(*offset, "offset") || !is_sector_aligned(*bytes, "count")))
        co_return false;

    auto buffer = IoBuffer::filled(*bytes, IoBuffer::kReadFill, shell.misalign);
    if (!buffer)
        co_return false;
    IoStatistics statistics{.verb = "read",
                            .offset = *offset,
                            .bytes = *bytes,
                            .start_ns = now_ns(),
                            .machine_readable = options.machine_readable};
    int ret = 0;
    if (options.vm_state)
        ret = co_await co_read_vm_state(shell.image_node(), *offset, buffer->data());
    else
        ret = co_await shell.image().co_preadv(*offset, *bytes, buffer->vector());
    statistics.end_ns = now_ns();
    if (ret < 0) {
        fmt::print("read failed: {}\n", strerror(-ret));
        co_return false;
    }
    co_return finish_read(options, *buffer, statistics);
}

Task<bool> co_readv(IoShell& shell, IoArguments& arguments) {
    ReadOptions options;
    if (!options.parse(arguments, "CP:qv"))
        co_return false;
    if (arguments.rest().size() < 2)
        co_return arguments.wrong_usage();
    auto offset = take_size(arguments.rest()[0]);
    if (!offset)
        co_return false;
    auto buffer = IoBuffer::with_lengths(arguments.rest().subspan(1), IoBuffer::kReadFill, shell.misalign);
    if (!buffer)
        co_return false;
    IoStatistics statistics{.verb = "read",
                            .offset = *offset,
                            .bytes = buffer->bytes(),
                            .start_ns = now_ns(),
                            .machine_readable = options.machine_readable};
    int ret = co_await shell.image().co_preadv(*offset, buffer->bytes(), buffer->vector());
    statistics.end_ns = now_ns();
    if (ret < 0) {
        fmt::print("readv failed: {}\n", strerror(-ret));
        co_return false;
    }
    co_return finish_read(options, *buffer, statistics);
}

Task<bool> co_aio_read(IoShell& shell, IoArguments& arguments) {
    ReadOptions options;
    if (!options.parse(arguments, "CiP:qv"))
        co_return false;
    if (arguments.rest().size() < 2)
        co_return arguments.wrong_usage();
    if (options.invalid) {
        fmt::print("injecting invalid read request\n");
        shell.image().accounting().invalid(BlockAccounting::Type::Read);
        co_return true;
    }
    auto offset = take_size(arguments.rest()[0]);
    if (!offset)
        co_return false;
    auto buffer = IoBuffer::with_lengths(arguments.rest().subspan(1), IoBuffer::kReadFill, shell.misalign);
    if (!buffer)
        co_return false;
    auto request = std::make_unique<AsyncRequest>(shell, "readv", "read");
    request->quiet = options.quiet;
    request->verbose = options.verbose;
    request->pattern = options.pattern;
    request->statistics.offset = *offset;
    request->statistics.bytes = buffer->bytes();
    request->statistics.machine_readable = options.machine_readable;
    request->buffer = std::move(buffer);
    const IoBuffer& memory = *request->buffer;
    shell.image().aio_preadv(*offset, memory.bytes(), memory.vector(), RequestFlags::None,
                             AsyncRequest::start(std::move(request)));
    co_return true;
}

constexpr IoCommand kCommands[] = {
    {.name = "read",
     .alias = "r",
     .usage = "[-abCqv] [-P pattern [-s off] [-l len]] off len",
     .help = "reads a number of bytes at a specified offset",
     .long_help = R"(
 reads a range of bytes from the given offset

 Example:
 'read -v 512 1k' - dumps 1 kilobyte read from 512 bytes into the file

 Reads a segment of the currently open file, optionally dumping it to the
 standard output stream (with -v option) for subsequent inspection.
 -b, -- read from the VM state rather than the virtual disk
 -C, -- report statistics in a machine parsable format
 -l, -- length for pattern verification (only with -P)
 -p, -- ignored for backwards compatibility
 -P, -- use a pattern to verify read data
 -q, -- quiet mode, do not show I/O statistics
 -s, -- start offset for pattern verification (only with -P)
 -v, -- dump buffer to standard output

)",
     .min_arguments = 2,
     .max_arguments = kAnyNumber,
     .run = co_read},
    {.name = "readv",
     .usage = "[-Cqv] [-P pattern] off len [len..]",
     .help = "reads a number of bytes at a specified offset",
     .long_help = R"(
 reads a range of bytes from the given offset into multiple buffers

 Example:
 'readv -v 512 1k 1k ' - dumps 2 kilobytes read from 512 bytes into the file

 Reads a segment of the currently open file, optionally dumping it to the
 standard output stream (with -v option) for subsequent inspection.
 Uses multiple iovec buffers if more than one byte range is specified.
 -C, -- report statistics in a machine parsable format
 -P, -- use a pattern to verify read data
 -v, -- dump buffer to standard output
 -q, -- quiet mode, do not show I/O statistics

)",
     .min_arguments = 2,
     .max_arguments = kAnyNumber,
     .run = co_readv},
    {.name = "aio_read",
     .usage = "[-Ciqv] [-P pattern] off len [len..]",
     .help = "asynchronously reads a number of bytes",
     .long_help = R"(
 asynchronously reads a range of bytes from the given offset

 Example:
 'aio_read -v 512 1k 1k ' - dumps 2 kilobytes read from 512 bytes into the file

 Reads a segment of the currently open file, optionally dumping it to the
 standard output stream (with -v option) for subsequent inspection.
 The read is performed asynchronously and the aio_flush command must be
 used to ensure all outstanding aio requests have been completed.
 Note that due to its asynchronous nature, this command will be
 considered successful once the request is submitted, independently
 of potential I/O errors or pattern mismatches.
 -C, -- report statistics in a machine parsable format
 -P, -- use a pattern to verify read data
 -i, -- treat request as invalid, for exercising stats
 -v, -- dump buffer to standard output
 -q, -- quiet mode, do not show I/O statistics

)",
     .min_arguments = 2,
     .max_arguments = kAnyNumber,
     .run = co_aio_read},
};

}  // namespace

std::span<const IoCommand> read_commands() {
    return kCommands;
}

}  // namespace ashlar
