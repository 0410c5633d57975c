// ashlar-img create: makes an image.
#include "block/file_name.h"
#include "block/image_create.h"
#include "block/open_backend.h"
#include "tools/img/arguments.h"
#include "tools/img/command.h"
#include "tools/img/create_options.h"

#include <fmt/core.h>

#include <cstdio>

namespace ashlar::img {

namespace {

class Create final : public Command {
public:
    void declare(CommandLine& line) override {
        line.add_text('f', "format", "FMT", "the new image's format (default: raw)", format_);
        line.add('b', "backing", "FILE", "the backing file", [this](std::string_view name) -> Result<void> {
            backing_file_ = name;
            return {};
        });
        line.add_text('F', "backing-format", "FMT", "the backing file's format", backing_format_);
        line.add_flag('u', "backing-unsafe", "do not open the backing file", unsafe_);
        add_creation_options(line, "options of the format and the file: name=value,...; `help' lists them", options_);
        add_quiet_option(line, quiet_);
    }

    Result<void> take(std::vector<std::string> arguments) override {
        wants_help_ = asks_for_help(options_);
        if (arguments.empty() && !wants_help_)
            return std::unexpected(usage_error("Expecting image file name"));
        if (!arguments.empty())
            filename_ = arguments[0];
        if (arguments.size() > 1) {
            auto size = parse_bytes("image size", arguments[1]);
            if (!size)
                return std::unexpected(std::move(size.error()));
            size_ = *size;
        }
        if (arguments.size() > 2)
            return std::unexpected(usage_error("Unexpected argument: " + arguments[2]));
        return {};
    }

    Task<Result<int>> co_run(BlockGraph& graph) override {
        auto done = wants_help_ ? print_help(graph.registry()) : co_await co_create(graph);
        if (!done)
            co_return std::unexpected(filename_.empty() ? std::move(done.error())
                                                        : std::move(done.error()).prefixed(filename_));
        co_return 0;
    }

private:
    struct Kind {
        const DriverType* format;
        const DriverType* protocol;  // null without a file name
    };

    Result<Kind> find_kind(const DriverRegistry& drivers) const {
        auto format = creatable_format(drivers, format_);
        if (!format)
            return std::unexpected(std::move(format.error()));
        if (filename_.empty())
            return Kind{*format, nullptr};
        auto protocol = drivers.protocol_for(filename_);
        if (!protocol)
            return std::unexpected(std::move(protocol.error()));
        return Kind{*format, *protocol};
    }

    Result<void> print_help(const DriverRegistry& drivers) const {
        auto kind = find_kind(drivers);
        if (!kind)
            return std::unexpected(std::move(kind.error()));
        fmt::print("{}", CreateOptions(*kind->format, kind->protocol).help());
        return {};
    }

    Task<Result<void>> co_create(BlockGraph& graph) {
        auto kind = find_kind(graph.registry());
        if (!kind)
            co_return std::unexpected(std::move(kind.error()));
        const CreateOptions known(*kind->format, kind->protocol);
        auto parsed = known.parse(options_);
        if (!parsed)
            co_return std::unexpected(std::move(parsed.error()));
        Json options = std::move(*parsed);
        if (size_ >= 0) {
            if (options.contains("size"))
                co_return fail("The image size must be specified only once");
            options["size"] = size_;
        }
        if (backing_file_ && !known.has("backing_file"))
            co_return fail("Backing file not supported for file format '{}'", format_);
        if (!backing_format_.empty() && !known.has("backing_fmt"))
            co_return fail("Backing file format not supported for file format '{}'", format_);
        if (backing_file_ && backing_file_->empty())
            co_return fail("Expected backing file name, got empty string");
        if (backing_file_)
            options["backing_file"] = *backing_file_;
        if (!backing_format_.empty())
            options["backing_fmt"] = backing_format_;

        if (options.contains("backing_file")) {
            const std::string backing = options["backing_file"];
            if (backing == filename_)
                co_return fail("Error: Trying to create an image with the same filename as the backing file");
            if (!unsafe_)
                if (auto checked = co_await co_look_at_backing(graph, backing, options); !checked)
                    co_return checked;
        }
        if (!options.contains("size"))
            co_return fail("Image creation needs a size parameter");
        if (!quiet_) {
            fmt::print("Formatting '{}', {}\n", filename_, known.describe(options));
            fflush(stdout);  // before what may be said of errors
        }
        co_return co_await co_create_image(graph, *kind->format, filename_, std::move(options));
    }

    // That it can be opened, as what it is said to be; the size, if there is none yet.
    Task<Result<void>> co_look_at_backing(BlockGraph& graph, std::string name, Json& options) {
        const std::string format = options.value("backing_fmt", std::string());
        ImageArguments arguments{.format = format};
        arguments.flags.read_only = true;
        auto keyval = image_keyval(graph.registry(), combine_names(filename_, name), arguments);
        Result<std::unique_ptr<BlockBackend>> backing = std::unexpected(Error{});
        if (keyval)
            backing = co_await co_open_backend(graph, std::move(keyval->options), keyval->typing,
                                               arguments.node_flags(), image_perms(arguments.flags));
        else
            backing = std::unexpected(std::move(keyval.error()));
        if (!backing)
            co_return std::unexpected(std::move(backing.error()).with_hint("Could not open backing image."));
        Result<void> result;
        if (format.empty())
            result =
                std::unexpected(Error{.message = "Backing file specified without backing format",
                                      .hint = fmt::format("Detected format of {}.", (*backing)->root()->type().name)});
        else if (const int64_t length = (*backing)->length(); length < 0)
            result = fail_errno(static_cast<int>(-length), "Could not get size of '{}'", name);
        else if (!options.contains("size"))
            options["size"] = length;
        auto closed = co_await (*backing)->co_detach();
        co_return result ? closed : result;
    }

    std::string format_ = "raw", backing_format_, options_, filename_;
    std::optional<std::string> backing_file_;
    bool unsafe_ = false, quiet_ = false, wants_help_ = false;
    int64_t size_ = -1;
};

}  // namespace

const CommandType kCreate{
    .name = "create",
    .syntax = "[--object objectdef] [-q] [-f fmt] [-b backing_file [-F backing_fmt]] [-u] [-o options] filename [size]",
    .make = make_command<Create>,
};

}  // namespace ashlar::img
