// read, readv, aio_read.
#include "block/accounting.h"
#include "block/image_format.h"
#include "tools/io/async_request.h"
#include "tools/io/command.h"

#include <fmt/core.h>

#include <cerrno>

namespace ashlar {

namespace {

struct ReadOptions {
    IoReport report = {};
    bool vm_state = false, invalid = false;

    // Fails having said why.
    bool parse(IoArguments& arguments, const char* letters) {
        while (char option = arguments.next_option(letters)) {
            if (report.take(option))
                continue;
            switch (option) {
                case 'b':
                    vm_state = true;
                    break;
                case 'i':
                    invalid = true;
                    break;
                case 'p':
                    break;
                case 'l':
                    if (!(report.pattern_length = take_size(arguments.option_argument())))
                        return false;
                    break;
                case 's':
                    if (!(report.pattern_offset = take_size(arguments.option_argument())))
                        return false;
                    break;
                case 'P':
                    if (!(report.pattern = take_pattern(arguments.option_argument())))
                        return false;
                    break;
                default:
                    return arguments.wrong_usage();
            }
        }
        return true;
    }
};

// Whether the range of -s and -l lies in the `bytes` that are read.
bool check_pattern_range(const IoReport& report, int64_t bytes) {
    const int64_t offset = report.pattern_offset.value_or(0);
    if (offset <= bytes && report.pattern_length.value_or(0) <= bytes - offset)
        return true;
    fmt::print("pattern verification range exceeds end of read data\n");
    return false;
}

Task<int> co_read_vm_state(BlockDriverState& image, int64_t offset, std::span<std::byte> data) {
    ImageFormat* format = image.driver().image_format();
    if (!format)
        co_return -ENOTSUP;
    co_return co_await format->co_read_vm_state(offset, data);
}

Task<bool> co_read(IoShell& shell, IoArguments& arguments) {
    ReadOptions options;
    IoReport& report = options.report;
    if (!options.parse(arguments, "bCl:pP:qs:v"))
        co_return false;
    if (arguments.rest().size() != 2)
        co_return arguments.wrong_usage();
    auto range = IoRange::take(arguments.rest());
    if (!range || !is_within_one_request(range->bytes, arguments.rest()[1]))
        co_return false;
    if (!report.pattern && (report.pattern_offset || report.pattern_length))
        co_return arguments.wrong_usage();
    if (!check_pattern_range(report, range->bytes) || (options.vm_state && !range->is_sector_aligned()))
        co_return false;
    auto buffer = IoBuffer::filled(range->bytes, IoBuffer::kReadFill, shell.misalign);
    if (!buffer)
        co_return false;
    report.is_of("read", *range);
    co_return co_await report.co_finish("read",
                                        options.vm_state
                                            ? co_read_vm_state(shell.image_node(), range->offset, buffer->data())
                                            : shell.image().co_preadv(range->offset, range->bytes, buffer->vector()),
                                        &*buffer);
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
    options.report.is_of("read", {*offset, buffer->bytes()});
    co_return co_await options.report.co_finish(
        "readv", shell.image().co_preadv(*offset, buffer->bytes(), buffer->vector()), &*buffer);
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
    options.report.is_of("read", {*offset, buffer->bytes()});
    auto request = std::make_unique<AsyncRequest>(shell, "readv", options.report);
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
