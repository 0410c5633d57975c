// ashlar-img measure: how large the file of a new image would be.
#include "block/image_create.h"
#include "block/image_format.h"
#include "tools/img/arguments.h"
#include "tools/img/command.h"
#include "tools/img/create_options.h"
#include "tools/img/snapshot_argument.h"
#include "util/report.h"

#include <fmt/core.h>

namespace ashlar::img {

namespace {

class Measure final : public Command {
public:
    Measure() { image_.flags.read_only = true; }

    void declare(CommandLine& line) override {
        add_image_options(line, image_, "fU");
        add_output_option(line, output_);
        line.add_text('O', "target-format", "FMT", "the new image's format (default: raw)", target_format_);
        add_creation_options(line, "options of the new image: name=value,...", options_);
        line.add_text('l', "snapshot", "SNAPSHOT", "measure for the contents of this snapshot", snapshot_);
        line.add(0, "size", "SIZE", "measure for an empty disk of this size", bytes_option("image size", size_));
    }

    Result<void> take(std::vector<std::string> arguments) override {
        if (arguments.size() > 1)
            return fail("At most one filename argument is allowed.");
        if (arguments.empty() && (image_.image_opts || !image_.format.empty() || !snapshot_.empty()))
            return fail("--image-opts, -f, and -l require a filename argument.");
        if (arguments.empty() == (size_ < 0))
            return arguments.empty() ? fail("Either --size N or one filename must be specified.")
                                     : fail("--size N cannot be used together with a filename.");
        if (!arguments.empty())
            filename_ = arguments[0];
        return {};
    }

    Task<Result<int>> co_run(BlockGraph& graph) override {
        const DriverRegistry& drivers = graph.registry();
        const DriverType* type = drivers.find(target_format_);
        if (!type)
            co_return fail("Unknown file format '{}'", target_format_);
        if (!type->co_measure)
            co_return fail("Block driver '{}' does not support size measurement", type->name);
        auto protocol = drivers.protocol_for("x");
        auto options = CreateOptions(*type, protocol ? *protocol : nullptr).parse(options_);
        if (!options) {
            error_report(options.error());
            co_return fail("Invalid options for file format '{}'", target_format_);
        }
        std::unique_ptr<BlockBackend> source;
        if (!filename_.empty()) {
            auto opened = co_await co_open(graph, filename_, image_);
            if (!opened)
                co_return std::unexpected(std::move(opened.error()));
            source = std::move(*opened);
        } else {
            (*options)["size"] = size_;
        }
        Result<int> status = 0;
        if (!snapshot_.empty())
            if (auto shown = co_await co_show_snapshot(*source, snapshot_); !shown)
                status = std::unexpected(std::move(shown.error()));
        if (status) {
            auto size = co_await co_measure_image(graph, source.get(), *type, std::move(*options));
            if (size)
                print(*size);
            else
                status = std::unexpected(std::move(size.error()));
        }
        if (source)
            status = co_await co_close(std::move(source), std::move(status));
        co_return status;
    }

private:
    void print(const MeasuredSize& size) const {
        if (output_ == OutputFormat::Json) {
            Json json{{"required", size.required}, {"fully-allocated", size.fully_allocated}};
            if (size.bitmaps)
                json["bitmaps"] = *size.bitmaps;
            fmt::print("{}\n", dump_json_pretty(json));
            return;
        }
        fmt::print("required size: {}\nfully allocated size: {}\n", size.required, size.fully_allocated);
        if (size.bitmaps)
            fmt::print("bitmaps size: {}\n", *size.bitmaps);
    }

    ImageArguments image_;
    OutputFormat output_ = OutputFormat::Human;
    std::string target_format_ = "raw", options_, snapshot_, filename_;
    int64_t size_ = -1;
};

}  // namespace

const CommandType kMeasure{
    .name = "measure",
    .syntax =
        "[--output=ofmt] [-O output_fmt] [-o options] [--size N | [--object objectdef] [--image-opts] [-f fmt] "
        "[-l snapshot_param] filename]",
    .make = make_command<Measure>,
};

}  // namespace ashlar::img
