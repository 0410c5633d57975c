#include "tools/img/arguments.h"

#include "block/block_graph.h"
#include "block/open_backend.h"
#include "tools/img/command.h"
#include "util/report.h"
#include "util/size.h"

namespace ashlar::img {

Error usage_error(std::string message) {
    return Error{.message = std::move(message),
                 .hint = fmt::format("Try '{} --help' for more information", program_name())};
}

Result<int64_t> parse_bytes(std::string_view what, std::string_view text, int64_t min, int64_t max) {
    auto bytes = parse_size(text);
    if (!bytes && bytes.error() != -ERANGE)
        return std::unexpected(
            Error{.message = fmt::format("Invalid {} specified. You may use k, M, G, T, P or E suffixes for", what),
                  .hint = fmt::format("{}: kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.",
                                      program_name())});
    if (!bytes || *bytes > static_cast<uint64_t>(max) || static_cast<int64_t>(*bytes) < min)
        return fail("Invalid {} specified. Must be between {} and {}.", what, min, max);
    return static_cast<int64_t>(*bytes);
}

CommandLine::Handler bytes_option(std::string_view what, int64_t& out, int64_t min, int64_t max) {
    return [what, &out, min, max](std::string_view text) -> Result<void> {
        auto bytes = parse_bytes(what, text, min, max);
        if (!bytes)
            return std::unexpected(std::move(bytes.error()));
        out = *bytes;
        return {};
    };
}

void add_output_option(CommandLine& line, OutputFormat& format) {
    line.add(0, "output", "FORMAT", "'human' (default) or 'json'", [&format](std::string_view text) -> Result<void> {
        if (text != "human" && text != "json")
            return fail("--output must be used with human or json as argument.");
        format = text == "json" ? OutputFormat::Json : OutputFormat::Human;
        return {};
    });
}

void add_quiet_option(CommandLine& line, bool& quiet) {
    line.add_flag('q', "quiet", "print errors only", quiet);
}

void add_image_options(CommandLine& line, ImageArguments& image, std::string_view letters) {
    image.add_to(line, letters);
    line.add_check([&image] { return image.check("--format"); });
}

void add_cache_option(CommandLine& line, char letter, ImageArguments& image, std::string help,
                      std::string_view message) {
    line.add(letter, "", "MODE", std::move(help),
             [&image, message](std::string_view mode) { return image.set_cache(mode, message); });
}

Task<Result<std::unique_ptr<BlockBackend>>> co_open(BlockGraph& graph, std::string name, ImageArguments arguments) {
    return co_open_with(graph, std::move(name), std::move(arguments), Json::object());
}

Task<Result<std::unique_ptr<BlockBackend>>> co_open_with(BlockGraph& graph, std::string name, ImageArguments arguments,
                                                         Json more) {
    auto keyval = image_keyval(graph.registry(), name, arguments);
    if (!keyval)
        co_return std::unexpected(std::move(keyval.error()).prefixed(fmt::format("Could not open '{}'", name)));
    keyval->options.update(more);
    const NodeFlags flags = arguments.node_flags();
    auto backend = co_await co_open_backend(graph, std::move(keyval->options), keyval->typing, flags,
                                            image_perms(flags, arguments.resize));
    if (!backend)
        co_return std::unexpected(std::move(backend.error()).prefixed(fmt::format("Could not open '{}'", name)));
    (*backend)->set_write_cache(is_writeback(arguments.cache));
    co_return backend;
}

Task<Result<int>> co_close(std::unique_ptr<BlockBackend> backend, Result<int> so_far) {
    if (auto closed = co_await backend->co_detach(); !closed && so_far)
        co_return std::unexpected(std::move(closed.error()));
    co_return so_far;
}

Result<void> take_one_name(std::vector<std::string> arguments, std::string& name) {
    if (arguments.size() != 1)
        return std::unexpected(usage_error("Expecting one image file name"));
    name = std::move(arguments[0]);
    return {};
}

}  // namespace ashlar::img
