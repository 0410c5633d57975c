// write, writev, aio_write.
#include "block/accounting.h"
#include "block/image_format.h"
#include "tools/io/async_request.h"
#include "tools/io/command.h"

#include <fmt/core.h>

#include <cerrno>

namespace ashlar {

namespace {

struct WriteOptions {
    std::optional<int> pattern = {};
    std::optional<std::string> source = {};
    RequestFlags flags = RequestFlags::None;
    IoReport report = {};
    bool vm_state = false, compressed = false, zeroes = false, invalid = false;

    // Fails having said why.
    bool parse(IoArguments& arguments, const char* letters) {
        while (char option = arguments.next_option(letters)) {
            if (report.take(option))
                continue;
            switch (option) {
                case 'b':
                    vm_state = true;
                    break;
                case 'c':
                    compressed = true;
                    break;
                case 'f':
                    flags |= RequestFlags::Fua;
                    break;
                case 'i':
                    invalid = true;
                    break;
                case 'n':
                    flags |= RequestFlags::NoFallback;
                    break;
                case 'p':
                    break;
                case 's':
                    source = arguments.option_argument();
                    break;
                case 'u':
                    flags |= RequestFlags::MayUnmap;
                    break;
                case 'z':
                    zeroes = true;
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
    bool has_flag(RequestFlags flag) const { return has(flags, flag); }
    int fill() const { return pattern.value_or(IoBuffer::kWriteFill); }
};

bool refuse(std::string_view why) {
    fmt::print("{}\n", why);
    return false;
}

bool check_combination(const WriteOptions& options) {
    if (options.vm_state && options.zeroes)
        return refuse("-b and -z cannot be specified at the same time");
    if (options.has_flag(RequestFlags::Fua) && (options.vm_state || options.compressed))
        return refuse("-f and -b or -c cannot be specified at the same time");
    if (options.has_flag(RequestFlags::NoFallback) && !options.zeroes)
        return refuse("-n requires -z to be specified");
    if (options.has_flag(RequestFlags::MayUnmap) && !options.zeroes)
        return refuse("-u requires -z to be specified");
    if (options.zeroes + options.pattern.has_value() + options.source.has_value() > 1)
        return refuse("Only one of -z, -P, and -s can be specified at the same time");
    return true;
}

Task<int> co_write_vm_state(BlockDriverState& image, int64_t offset, std::span<const std::byte> data) {
    ImageFormat* format = image.driver().image_format();
    if (!format)
        co_return -ENOTSUP;
    co_return co_await format->co_write_vm_state(offset, data);
}

Task<int> start_write(IoShell& shell, const WriteOptions& options, IoRange range,
                      const std::optional<IoBuffer>& buffer) {
    if (options.vm_state)
        return co_write_vm_state(shell.image_node(), range.offset, buffer->data());
    if (options.zeroes)
        return shell.image().co_pwrite_zeroes(range.offset, range.bytes, options.flags & ~RequestFlags::Compressed);
    return shell.image().co_pwritev(range.offset, range.bytes, buffer->vector(), options.flags);
}

Task<bool> co_write(IoShell& shell, IoArguments& arguments) {
    WriteOptions options;
    if (!options.parse(arguments, "bcCfnpP:qs:uz"))
        co_return false;
    if (arguments.rest().size() != 2)
        co_return arguments.wrong_usage();
    if (!check_combination(options))
        co_return false;
    auto range = IoRange::take(arguments.rest());
    if (!range)
        co_return false;
    if (!options.has_flag(RequestFlags::NoFallback) &&
        !is_within_one_request(range->bytes, arguments.rest()[1], " without -n"))
        co_return false;
    if ((options.vm_state || options.compressed) && !range->is_sector_aligned())
        co_return false;

    std::optional<IoBuffer> buffer;
    if (!options.zeroes) {
        buffer = options.source ? IoBuffer::from_file(*options.source, range->bytes, shell.misalign)
                                : IoBuffer::filled(range->bytes, options.fill(), shell.misalign);
        if (!buffer)
            co_return false;
    }
    if (options.compressed)
        options.flags |= RequestFlags::Compressed;
    options.report.is_of("wrote", *range);
    co_return co_await options.report.co_finish("write", start_write(shell, options, *range, buffer));
}

Task<bool> co_writev(IoShell& shell, IoArguments& arguments) {
    WriteOptions options;
    if (!options.parse(arguments, "CfP:q"))
        co_return false;
    if (arguments.rest().size() < 2)
        co_return arguments.wrong_usage();
    auto offset = take_size(arguments.rest()[0]);
    if (!offset)
        co_return false;
    auto buffer = IoBuffer::with_lengths(arguments.rest().subspan(1), options.fill(), shell.misalign);
    if (!buffer)
        co_return false;
    options.report.is_of("wrote", {*offset, buffer->bytes()});
    co_return co_await options.report.co_finish(
        "writev", shell.image().co_pwritev(*offset, buffer->bytes(), buffer->vector(), options.flags));
}

Task<bool> co_aio_write(IoShell& shell, IoArguments& arguments) {
    WriteOptions options;
    if (!options.parse(arguments, "CfiP:quz"))
        co_return false;
    const auto rest = arguments.rest();
    if (rest.size() < 2)
        co_return arguments.wrong_usage();
    if (options.zeroes && rest.size() != 2)
        co_return refuse("-z supports only a single length parameter");
    if (options.has_flag(RequestFlags::MayUnmap) && !options.zeroes)
        co_return refuse("-u requires -z to be specified");
    if (options.invalid) {
        fmt::print("injecting invalid write request\n");
        shell.image().accounting().invalid(BlockAccounting::Type::Write);
        co_return true;
    }
    auto offset = take_size(rest[0]);
    if (!offset)
        co_return false;
    std::optional<IoBuffer> buffer;
    std::optional<int64_t> bytes;
    if (options.zeroes)
        bytes = take_size(rest[1]);
    else if ((buffer = IoBuffer::with_lengths(rest.subspan(1), options.fill(), shell.misalign)))
        bytes = buffer->bytes();
    if (!bytes)
        co_return false;
    options.report.is_of("wrote", {*offset, *bytes});
    auto request = std::make_unique<AsyncRequest>(shell, "aio_write", options.report);
    request->buffer = std::move(buffer);
    if (options.zeroes) {
        shell.image().aio_pwrite_zeroes(*offset, *bytes, options.flags, AsyncRequest::start(std::move(request)));
        co_return true;
    }
    const IoVector vector = request->buffer->vector();
    shell.image().aio_pwritev(*offset, *bytes, vector, options.flags, AsyncRequest::start(std::move(request)));
    co_return true;
}

constexpr IoCommand kCommands[] = {
    {.name = "write",
     .alias = "w",
     .usage = "[-bcCfnquz] [-P pattern | -s source_file] off len",
     .help = "writes a number of bytes at a specified offset",
     .long_help = R"(
 writes a range of bytes from the given offset

 Example:
 'write 512 1k' - writes 1 kilobyte at 512 bytes into the open file

 Writes into a segment of the currently open file, using a buffer
 filled with a set pattern (0xcdcdcdcd).
 -b, -- write to the VM state rather than the virtual disk
 -c, -- write compressed data with blk_write_compressed
 -f, -- use Force Unit Access semantics
 -n, -- with -z, don't allow slow fallback
 -p, -- ignored for backwards compatibility
 -P, -- use different pattern to fill file
 -s, -- use a pattern file to fill the write buffer
 -C, -- report statistics in a machine parsable format
 -q, -- quiet mode, do not show I/O statistics
 -u, -- with -z, allow unmapping
 -z, -- write zeroes using blk_co_pwrite_zeroes

)",
     .min_arguments = 2,
     .max_arguments = kAnyNumber,
     .perms = BlockPerm::Write,
     .run = co_write},
    {.name = "writev",
     .usage = "[-Cfq] [-P pattern] off len [len..]",
     .help = "writes a number of bytes at a specified offset",
     .long_help = R"(
 writes a range of bytes from the given offset source from multiple buffers

 Example:
 'writev 512 1k 1k' - writes 2 kilobytes at 512 bytes into the open file

 Writes into a segment of the currently open file, using a buffer
 filled with a set pattern (0xcdcdcdcd).
 -P, -- use different pattern to fill file
 -C, -- report statistics in a machine parsable format
 -f, -- use Force Unit Access semantics
 -q, -- quiet mode, do not show I/O statistics

)",
     .min_arguments = 2,
     .max_arguments = kAnyNumber,
     .perms = BlockPerm::Write,
     .run = co_writev},
    {.name = "aio_write",
     .usage = "[-Cfiquz] [-P pattern] off len [len..]",
     .help = "asynchronously writes a number of bytes",
     .long_help = R"(
 asynchronously writes a range of bytes from the given offset source
 from multiple buffers

 Example:
 'aio_write 512 1k 1k' - writes 2 kilobytes at 512 bytes into the open file

 Writes into a segment of the currently open file, using a buffer
 filled with a set pattern (0xcdcdcdcd).
 The write is performed asynchronously and the aio_flush command must be
 used to ensure all outstanding aio requests have been completed.
 Note that due to its asynchronous nature, this command will be
 considered successful once the request is submitted, independently
 of potential I/O errors or pattern mismatches.
 -P, -- use different pattern to fill file
 -C, -- report statistics in a machine parsable format
 -f, -- use Force Unit Access semantics
 -i, -- treat request as invalid, for exercising stats
 -q, -- quiet mode, do not show I/O statistics
 -u, -- with -z, allow unmapping
 -z, -- write zeroes using blk_aio_pwrite_zeroes

)",
     .min_arguments = 2,
     .max_arguments = kAnyNumber,
     .perms = BlockPerm::Write,
     .run = co_aio_write},
};

}  // namespace

std::span<const IoCommand> write_commands() {
    return kCommands;
}

}  // namespace ashlar
