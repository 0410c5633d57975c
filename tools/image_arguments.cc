#include "tools/image_arguments.h"

#include "block/image_options.h"
#include "block/temporary_overlay.h"
#include "util/json.h"
#include "util/keyval.h"
#include "util/report.h"

#include <algorithm>
#include <cassert>

namespace ashlar {

NodeFlags ImageArguments::node_flags() const {
    NodeFlags result = flags;
    result.direct = is_direct(cache);
    result.no_flush = is_no_flush(cache);
    return result;
}

Result<void> ImageArguments::set_cache(std::string_view mode, std::string_view message) {
    return take_enum(cache, mode, message);
}

Result<void> ImageArguments::set_discard(std::string_view mode, std::string_view message) {
    return take_enum(flags.discard, mode, message);
}

Result<void> ImageArguments::set_aio(std::string_view mode, std::string_view message) {
    constexpr std::string_view kModes[] = {"io_uring", "native", "threads"};
    if (std::find(std::begin(kModes), std::end(kModes), mode) == std::end(kModes))
        return unknown_name(mode, kModes, message);
    aio = mode;
    return {};
}

Result<void> ImageArguments::check(std::string_view format_option) const {
    if (image_opts && !format.empty())
        return fail("--image-opts and {} are mutually exclusive", format_option);
    if (image_opts && !aio.empty())
        return fail("--image-opts and an AIO mode are mutually exclusive: write 'aio={}' into the options of the file",
                    aio);
    return {};
}

void ImageArguments::add_to(CommandLine& line, std::string_view letters) {
    line.add_flag(0, "image-opts", "treat FILE as a full set of image options", image_opts);
    for (char letter : letters) {
        switch (letter) {
            case 'f':
                line.add_text('f', "format", "FMT", "the image's format (raw, ...; default: probed)", format);
                break;
            case 'r':
                line.add_flag('r', "read-only", "open the image read-only", flags.read_only);
                break;
            case 'U':
                line.add_flag('U', "force-share", "open the image beside others that write to it", flags.force_share);
                break;
            case 't':
                line.add('t', "cache", "MODE",
                         "use the given cache mode for the image: 'writeback'\n(default), 'none', "
                         "'writethrough', 'directsync' or\n'unsafe'",
                         [this](std::string_view mode) { return set_cache(mode); });
                break;
            case 'n':
                line.add('n', "nocache", "", "disable host cache, short for -t none",
                         [this](std::string_view) { return set_cache("none"); });
                break;
            case 'd':
                line.add('d', "discard", "MODE", "use the given discard mode for the image (ignore,\nunmap)",
                         [this](std::string_view mode) { return set_discard(mode); });
                break;
            case 'i':
                line.add('i', "aio", "MODE", "use AIO mode (threads, native or io_uring; default:\nio_uring if there)",
                         [this](std::string_view mode) { return set_aio(mode); });
                break;
            case 'k':
                line.add('k', "native-aio", "", "short for -i native",
                         [this](std::string_view) { return set_aio("native"); });
                break;
            case 's':
                line.add_flag('s', "snapshot", "write to a temporary file instead", snapshot);
                break;
            case 'C':
                line.add_flag('C', "copy-on-read", "keep what is read from a backing file", copy_on_read);
                break;
            default:
                assert(!"a letter that the header names");
        }
    }
}

Result<Keyval> image_keyval(const DriverRegistry& drivers, std::string name, const ImageArguments& arguments,
                            Json more) {
    if (auto checked = arguments.check(); !checked)
        return std::unexpected(std::move(checked.error()));
    Keyval options;
    if (arguments.image_opts) {
        auto parsed = parse_keyval(name, {.implied_key = "file"});
        if (!parsed)
            return parsed;
        options = std::move(*parsed);
    } else if (!name.empty()) {
        if (more.contains("file"))
            return fail("Can't specify 'file' and 'filename' options at the same time");
        std::string format = arguments.format;
        const Json* driver = json_find(more, "driver");
        if (const std::string* named = driver ? json_string(*driver) : nullptr; named && format.empty()) {
            format = *named;
            more.erase("driver");
        }
        Json below = Json::object();
        if (!arguments.aio.empty())
            below["aio"] = arguments.aio;
        auto made = image_options(drivers, std::move(name), std::move(format), below);
        if (!made)
            return std::unexpected(std::move(made.error()));
        options.options = std::move(*made);
    } else if (more.empty()) {
        return fail("The 'file' block driver requires a file name");
    } else if (!arguments.aio.empty()) {
        return fail("Without a file name, write 'aio={}' into the options of the file", arguments.aio);
    }
    if (auto merged = merge_options(options.options, more); !merged)
        return std::unexpected(std::move(merged.error()));
    return options;
}

ChildPerm image_perms(const NodeFlags& flags, bool resize) {
    using enum BlockPerm;
    const BlockPerm writing = flags.read_only ? None : resize ? Write | Resize : Write;
    return {ConsistentRead | writing, flags.force_share ? All : ConsistentRead | WriteUnchanged};
}

Task<Result<BlockDriverState*>> co_open_over(BlockGraph& graph, BlockDriverState& below, Json options,
                                             NodeFlags flags) {
    auto opened = co_await graph.co_open(std::move(options), Typing::Strict, flags);
    auto released = co_await graph.co_unref(below);
    if (opened && !released) {
        if (auto closed = co_await graph.co_unref(**opened); !closed)
            error_report(closed.error());
        co_return std::unexpected(std::move(released.error()));
    }
    co_return opened;
}

Task<Result<BlockDriverState*>> co_open_node(BlockGraph& graph, std::string name, ImageArguments arguments, Json more) {
    auto options = image_keyval(graph.registry(), std::move(name), arguments, std::move(more));
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    const NodeFlags flags = arguments.node_flags();
    NodeFlags lowest = flags;
    lowest.read_only |= arguments.snapshot;
    auto opened = co_await graph.co_open(std::move(options->options), options->typing, lowest);
    if (opened && arguments.snapshot)
        opened = co_await co_open_temporary_overlay(graph, **opened, flags);
    if (!opened || !arguments.copy_on_read)
        co_return opened;
    Json filter = {{"driver", "copy-on-read"}, {"file", (*opened)->node_name()}};
    co_return co_await co_open_over(graph, **opened, std::move(filter), flags);
}

}  // namespace ashlar
