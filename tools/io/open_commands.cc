// open, close, reopen.
#include "tools/io/command.h"
#include "tools/io/reopen.h"
#include "tools/io/shell.h"
#include "util/json.h"
#include "util/keyval.h"
#include "util/report.h"

namespace ashlar {

namespace {

bool report_failure(Result<void> result) {
    if (!result)
        error_report(result.error());
    return result.has_value();
}

// Options of one -o, added to those of others.
Result<void> add_options(Json& options, const std::string& text) {
    auto keyval = parse_keyval(text);
    if (!keyval)
        return std::unexpected(std::move(keyval.error()));
    return merge_options(options, keyval->options);
}

Task<bool> co_open(IoShell& shell, IoArguments& arguments) {
    ImageArguments image;
    Json options = Json::object();
    while (char option = arguments.next_option("snCro:ki:t:d:U")) {
        Result<void> taken;
        switch (option) {
            case 's':
                image.snapshot = true;
                break;
            case 'n':
                taken = image.set_cache("none");
                break;
            case 'C':
                image.copy_on_read = true;
                break;
            case 'r':
                image.flags.read_only = true;
                break;
            case 'k':
                taken = image.set_aio("native");
                break;
            case 'i':
                taken = image.set_aio(arguments.option_argument());
                break;
            case 't':
                taken = image.set_cache(arguments.option_argument());
                break;
            case 'd':
                taken = image.set_discard(arguments.option_argument());
                break;
            case 'U':
                image.flags.force_share = true;
                break;
            case 'o':
                taken = add_options(options, arguments.option_argument());
                break;
            default:
                co_return arguments.wrong_usage();
        }
        if (!report_failure(std::move(taken)))
            co_return false;
    }
    const auto rest = arguments.rest();
    if (rest.size() > 1 || (rest.empty() && options.empty()))
        co_return arguments.wrong_usage();
    co_return report_failure(co_await shell.co_open(rest.empty() ? "" : rest[0], std::move(image), std::move(options)));
}

Task<bool> co_close(IoShell& shell, IoArguments&) {
    co_return report_failure(co_await shell.co_close());
}

Task<bool> co_reopen_command(IoShell& shell, IoArguments& arguments) {
    IoReopen change;
    while (char option = arguments.next_option("c:o:rw")) {
        Result<void> taken;
        switch (option) {
            case 'c': {
                CacheMode mode = CacheMode::Writeback;
                taken = take_enum(mode, arguments.option_argument(), "Invalid cache option: {}");
                if (taken)
                    change.cache = mode;
                break;
            }
            case 'r':
            case 'w':
                if (change.read_only)
                    taken = fail("Only one -r/-w option may be given");
                change.read_only = option == 'r';
                break;
            case 'o':
                taken = add_options(change.options, arguments.option_argument());
                break;
            default:
                co_return arguments.wrong_usage();
        }
        if (!report_failure(std::move(taken)))
            co_return false;
    }
    if (!arguments.rest().empty())
        co_return arguments.wrong_usage();
    co_return report_failure(co_await co_reopen(shell.image(), shell.image_node(), std::move(change)));
}

constexpr IoCommand kCommands[] = {
    {.name = "open",
     .alias = "o",
     .usage = "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]",
     .help = "open the file specified by path",
     .long_help = R"(
 opens a new file in the requested mode

 Example:
 'open -n -o driver=raw /tmp/data' - opens raw data file read-write, uncached

 Opens a file for subsequent use by all of the other qemu-io commands.
 -r, -- open file read-only
 -s, -- use snapshot file
 -C, -- use copy-on-read
 -n, -- disable host cache, short for -t none
 -U, -- force shared permissions
 -k, -- use kernel AIO implementation (Linux only, prefer use of -i)
 -i, -- use AIO mode (threads, native or io_uring)
 -t, -- use the given cache mode for the image
 -d, -- use the given discard mode for the image
 -o, -- options to be given to the block driver
)",
     .min_arguments = 1,
     .max_arguments = kAnyNumber,
     .needs_image = false,
     .run = co_open},
    {.name = "close", .alias = "c", .help = "close the current open file", .run = co_close},
    {.name = "reopen",
     .usage = "[(-r|-w)] [-c cache] [-o options]",
     .help = "reopens an image with new options",
     .long_help = R"(
 Changes the open options of an already opened image

 Example:
 'reopen -o lazy-refcounts=on' - activates lazy refcount writeback on a qcow2 image

 -r, -- Reopen the image read-only
 -w, -- Reopen the image read-write
 -c, -- Change the cache mode to the given value
 -o, -- Changes block driver options (cf. 'open' command)

)",
     .max_arguments = kAnyNumber,
     .run = co_reopen_command},
};

}  // namespace

std::span<const IoCommand> open_commands() {
    return kCommands;
}

}  // namespace ashlar
