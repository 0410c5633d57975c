#include "tools/image_arguments.h"

#include "block/image_options.h"
#include "util/json.h"
#include "util/keyval.h"

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

Result<void> ImageArguments::check() const {
    if (image_opts && !format.empty())
        return fail("--image-opts and -f are mutually exclusive");
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
            default:
                assert(!"a letter that the header names");
        }
    }
}

Result<Keyval> image_keyval(const DriverRegistry& drivers, std::string name, const ImageArguments& arguments) {
    if (auto checked = arguments.check(); !checked)
        return std::unexpected(std::move(checked.error()));
    if (arguments.image_opts)
        return parse_keyval(name, {.implied_key = "file"});
    Json below = Json::object();
    if (!arguments.aio.empty())
        below["aio"] = arguments.aio;
    auto made = image_options(drivers, std::move(name), arguments.format, below);
    if (!made)
        return std::unexpected(std::move(made.error()));
    Keyval keyval;
    keyval.options = std::move(*made);
    return keyval;
}

ChildPerm image_perms(const NodeFlags& flags) {
    using enum BlockPerm;
    return {flags.read_only ? ConsistentRead : ConsistentRead | Write | Resize,
            flags.force_share ? All : ConsistentRead | WriteUnchanged};
}

Task<Result<BlockDriverState*>> co_open_node(BlockGraph& graph, std::string name, ImageArguments arguments) {
    auto keyval = image_keyval(graph.registry(), std::move(name), arguments);
    if (!keyval)
        co_return std::unexpected(std::move(keyval.error()));
    co_return co_await graph.co_open(std::move(keyval->options), keyval->typing, arguments.node_flags());
}

Task<Result<std::unique_ptr<BlockBackend>>> co_open_image(BlockGraph& graph, std::string name,
                                                          ImageArguments arguments) {
    const bool writeback = is_writeback(arguments.cache);
    auto node = co_await co_open_node(graph, std::move(name), std::move(arguments));
    if (!node)
        co_return std::unexpected(std::move(node.error()));
    auto backend = std::make_unique<BlockBackend>(graph, "", image_perms((*node)->flags()));
    backend->set_write_cache(writeback);
    auto attached = co_await backend->co_attach(**node);
    auto released = co_await graph.co_unref(**node);
    if (attached && !released)
        attached = std::move(released);
    if (!attached)
        co_return std::unexpected(std::move(attached.error()));
    co_return backend;
}

}  // namespace ashlar
