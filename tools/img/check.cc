// ashlar-img check: whether an image is consistent, and repairing it.
#include "block/image_format.h"
#include "tools/img/chain.h"
#include "tools/img/command.h"
#include "util/json.h"
#include "util/report.h"

#include <fmt/core.h>

#include <cerrno>

namespace ashlar::img {

namespace {

enum Status { kFine = 0, kCheckFailed = 1, kCorrupt = 2, kLeaks = 3, kUnsupported = 63 };

class Check final : public Command {
public:
    Check() {
        image_.flags.read_only = true;
        image_.flags.check = true;
    }

    void declare(CommandLine& line) override {
        add_image_options(line, image_, "fU");
        add_cache_option(line, 'T', image_, "cache mode of the image", "Invalid source cache option: {}");
        add_output_option(line, output_);
        add_quiet_option(line, quiet_);
        line.add('r', "repair", "WHAT", "repair 'leaks' or 'all'", [this](std::string_view what) -> Result<void> {
            if (what != "leaks" && what != "all")
                return std::unexpected(
                    usage_error(fmt::format("Unknown option value for -r (expecting 'leaks' or 'all'): {}", what)));
            fix_ = what == "all" ? CheckFix::All : CheckFix::Leaks;
            image_.flags.read_only = false;
            return {};
        });
    }

    Result<void> take(std::vector<std::string> arguments) override {
        return take_one_name(std::move(arguments), filename_);
    }

    Task<Result<int>> co_run(BlockGraph& graph) override {
        auto opened = co_await co_open_alone(graph, filename_, image_);
        if (!opened)
            co_return std::unexpected(std::move(opened.error()));
        BlockDriverState& node = *(*opened)->root();
        Result<int> status = co_await co_check(graph, node);
        co_return co_await co_close(std::move(*opened), std::move(status));
    }

private:
    bool talks() const { return !quiet_ && output_ == OutputFormat::Human; }

    Task<Result<int>> co_check(BlockGraph& graph, BlockDriverState& node) {
        ImageFormat* format = node.driver().image_format();
        auto tell = [](const std::string& line) { fmt::print(stderr, "{}\n", line); };
        auto drained = co_await graph.co_drain(node);
        auto found = format ? co_await format->co_check(fix_, tell)
                            : Result<ImageCheck>(std::unexpected(Error{.code = ENOTSUP}));
        if (!found && found.error().code == ENOTSUP) {
            error_report("This image format does not support checks");
            co_return kUnsupported;
        }
        if (!found)
            co_return std::unexpected(std::move(found.error()).prefixed("Check failed"));

        if (found->corruptions_fixed > 0 || found->leaks_fixed > 0) {
            const int64_t corruptions = found->corruptions_fixed, leaks = found->leaks_fixed;
            if (talks())
                fmt::print(
                    "The following inconsistencies were found and repaired:\n\n    {} leaked clusters\n    {} "
                    "corruptions\n\nDouble checking the fixed image now...\n",
                    leaks, corruptions);
            fflush(stdout);
            found = co_await format->co_check(CheckFix::None, tell);
            if (!found)
                co_return std::unexpected(std::move(found.error()).prefixed("Check failed"));
            found->corruptions_fixed = corruptions;
            found->leaks_fixed = leaks;
        }
        if (output_ == OutputFormat::Json)
            print_json(*found, node);
        else if (!quiet_)
            print(*found);
        co_return found->corruptions > 0 ? kCorrupt
        : found->leaks > 0               ? kLeaks
        : found->errors > 0              ? kCheckFailed
                                         : kFine;
    }

    void print(const ImageCheck& found) const {
        if (found.corruptions == 0 && found.leaks == 0 && found.errors == 0)
            fmt::print("No errors were found on the image.\n");
        if (found.corruptions > 0)
            fmt::print(
                "\n{} errors were found on the image.\nData may be corrupted, or further writes to the image may "
                "corrupt it.\n",
                found.corruptions);
        if (found.leaks > 0)
            fmt::print(
                "\n{} leaked clusters were found on the image.\nThis means waste of disk space, but no harm to data.\n",
                found.leaks);
        if (found.errors > 0)
            fmt::print("\n{} internal errors have occurred during the check.\n", found.errors);
        if (found.clusters && found.clusters->total > 0 && found.clusters->allocated > 0) {
            const auto& c = *found.clusters;
            auto percent = [](int64_t part, int64_t whole) {
                return static_cast<double>(part) * 100 / static_cast<double>(whole);
            };
            fmt::print("{}/{} = {:.2f}% allocated, {:.2f}% fragmented, {:.2f}% compressed clusters\n", c.allocated,
                       c.total, percent(c.allocated, c.total), percent(c.fragmented, c.allocated),
                       percent(c.compressed, c.allocated));
        }
        if (found.image_end_offset.value_or(0) > 0)
            fmt::print("Image end offset: {}\n", *found.image_end_offset);
    }

    void print_json(const ImageCheck& found, const BlockDriverState& node) const {
        Json json{{"filename", filename_}, {"format", node.type().name}, {"check-errors", found.errors}};
        auto add = [&json](const char* name, int64_t number) {
            if (number != 0)
                json[name] = number;
        };
        add("image-end-offset", found.image_end_offset.value_or(0));
        add("corruptions", found.corruptions);
        add("leaks", found.leaks);
        add("corruptions-fixed", found.corruptions_fixed);
        add("leaks-fixed", found.leaks_fixed);
        if (found.clusters) {
            add("total-clusters", found.clusters->total);
            add("allocated-clusters", found.clusters->allocated);
            add("fragmented-clusters", found.clusters->fragmented);
            add("compressed-clusters", found.clusters->compressed);
        }
        fmt::print("{}\n", dump_json_pretty(json));
    }

    ImageArguments image_;
    OutputFormat output_ = OutputFormat::Human;
    CheckFix fix_ = CheckFix::None;
    bool quiet_ = false;
    std::string filename_;
};

}  // namespace

const CommandType kCheck{
    .name = "check",
    .syntax =
        "[--object objectdef] [--image-opts] [-q] [-f fmt] [--output=ofmt] [-r [leaks | all]] [-T src_cache] "
        "[-U] filename",
    .make = make_command<Check>,
};

}  // namespace ashlar::img
