// ashlar-img amend: changes what can be changed of an image's format.
#include "block/image_format.h"
#include "tools/img/arguments.h"
#include "tools/img/command.h"
#include "tools/img/create_options.h"
#include "tools/img/progress_display.h"

#include <fmt/core.h>

namespace ashlar::img {

namespace {

std::vector<const OptionInfo*> pointers(const OptionSchema& schema) {
    std::vector<const OptionInfo*> options;
    for (const OptionInfo& option : schema.options())
        options.push_back(&option);
    return options;
}

class Amend final : public Command {
public:
    void declare(CommandLine& line) override {
        add_image_options(line, image_, "f");
        add_cache_option(line, 't', image_, "cache mode of the image");
        add_creation_options(line, "what to change: name=value,...; `help' lists what there is", options_);
        line.add_flag(0, "force", "even if that makes the image unreadable", force_);
        line.add_flag('p', "progress", "show progress", show_progress_);
        add_quiet_option(line, quiet_);
    }

    Result<void> take(std::vector<std::string> arguments) override {
        if (options_.empty())
            return std::unexpected(usage_error("Must specify options (-o)"));
        wants_help_ = asks_for_help(options_);
        if (arguments.empty() && wants_help_ && !image_.format.empty()) {
            of_format_ = true;
            return {};
        }
        if (auto taken = take_one_name(std::move(arguments), filename_); !taken)
            return taken;
        if (quiet_)
            show_progress_ = false;
        return {};
    }

    Task<Result<int>> co_run(BlockGraph& graph) override {
        if (of_format_) {
            const DriverType* type = graph.registry().find(image_.format);
            if (!type)
                co_return fail("Unknown file format '{}'", image_.format);
            co_return print_help(*type);
        }
        ProgressDisplay display(show_progress_);
        image_.resize = true;
        auto opened = co_await co_open(graph, filename_, image_);
        if (!opened)
            co_return std::unexpected(std::move(opened.error()));
        BlockDriverState& node = *(*opened)->root();
        Result<int> status = 0;
        if (wants_help_) {
            status = print_help(node.type());
        } else {
            auto drained = co_await graph.co_drain(node);
            display.start();
            if (auto done = co_await co_amend(node, display.progress()); !done)
                status = std::unexpected(std::move(done.error()));
            co_await display.co_finish(status.has_value());
        }
        co_return co_await co_close(std::move(*opened), std::move(status));
    }

private:
    static std::unexpected<Error> not_supported(const DriverType& type) {
        return fail("Format driver '{}' does not support option amendment", type.name);
    }

    static Result<int> print_help(const DriverType& type) {
        if (!type.amend_options)
            return not_supported(type);
        fmt::print("Amend options for '{}':\n{}", type.name, options_help(pointers(type.amend_options())));
        return 0;
    }

    Task<Result<void>> co_amend(BlockDriverState& node, Progress& progress) {
        const DriverType& type = node.type();
        ImageFormat* format = node.driver().image_format();
        if (!type.amend_options || !format)
            co_return not_supported(type);
        auto options = parse_image_options(pointers(type.amend_options()), options_);
        if (!options) {
            const std::string& what = options.error().message;
            for (const OptionInfo& option :
                 type.create_options ? type.create_options().options() : std::span<const OptionInfo>())
                if (what.starts_with(fmt::format("Invalid parameter '{}'", option.name)))
                    options.error().hint = "This option is only supported for image creation";
            co_return std::unexpected(std::move(options.error()));
        }
        co_return co_await format->co_amend(std::move(*options), force_, progress);
    }

    ImageArguments image_;
    std::string options_, filename_;
    bool force_ = false, show_progress_ = false, quiet_ = false, of_format_ = false, wants_help_ = false;
};

}  // namespace

const CommandType kAmend{
    .name = "amend",
    .syntax = "[--object objectdef] [--image-opts] [-p] [-q] [-f fmt] [-t cache] [--force] -o options filename",
    .make = make_command<Amend>,
};

}  // namespace ashlar::img
