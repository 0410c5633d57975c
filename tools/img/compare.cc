// ashlar-img compare: whether two images have the same contents.
#include "block/image_compare.h"
#include "tools/img/arguments.h"
#include "tools/img/command.h"
#include "tools/img/progress_display.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>

namespace ashlar::img {

namespace {

constexpr int kEqual = 0, kDifferent = 1, kFailed = 2;

class Compare final : public Command {
public:
    Compare() { image_.flags.read_only = true; }

    void declare(CommandLine& line) override {
        add_image_options(line, image_, "fU");
        line.add_text('F', "second-format", "FMT", "the second image's format (default: probed)", second_format_);
        add_cache_option(line, 'T', image_, "cache mode of both images", "Invalid source cache option: {}");
        line.add_flag('p', "progress", "show progress", show_progress_);
        add_quiet_option(line, quiet_);
        line.add_flag('s', "strict", "a different size or allocation is a difference as well", strict_);
    }

    Result<void> take(std::vector<std::string> arguments) override {
        if (arguments.size() != 2)
            return std::unexpected(usage_error("Expecting two image file names"));
        if (quiet_)
            show_progress_ = false;
        std::ranges::move(arguments, names_.begin());
        return {};
    }
    int failure_status() const override { return kFailed; }

    Task<Result<int>> co_run(BlockGraph& graph) override {
        ProgressDisplay display(show_progress_);
        auto first = co_await co_open(graph, names_[0], image_);
        if (!first)
            co_return std::unexpected(std::move(first.error()));
        ImageArguments arguments = image_;
        arguments.format = second_format_;
        auto second = co_await co_open(graph, names_[1], std::move(arguments));
        Result<int> status = kFailed;
        if (second) {
            display.start();
            status = co_await co_compare({first->get(), second->get()}, display.progress());
            co_await display.co_finish(status && *status == kEqual, message_);
            status = co_await co_close(std::move(*second), std::move(status));
        } else {
            status = std::unexpected(std::move(second.error()));
        }
        co_return co_await co_close(std::move(*first), std::move(status));
    }

private:
    void say(std::string_view text) {
        if (!quiet_)
            message_.append(text).append("\n");
    }

    Task<Result<int>> co_compare(std::array<BlockBackend*, 2> images, Progress& progress) {
        for (size_t i = 0; i < images.size(); ++i)
            if (const int64_t length = images[i]->length(); length < 0)
                co_return fail_errno(static_cast<int>(-length), "Can't get size of {}", names_[i]);
        const auto [common, longest] = std::minmax({images[0]->length(), images[1]->length()});
        // A disk is so many sectors: what is missing of the last one reads as zeroes.
        const bool same_size = whole_sectors(common) == whole_sectors(longest);
        if (strict_ && !same_size) {
            say("Strict mode: Image size mismatch!");
            co_return kDifferent;
        }
        ImageCompare comparison(images, names_, {.strict = strict_}, progress);
        auto difference = co_await comparison.co_run();
        if (!same_size && comparison.equal_up_to() >= common)
            say("Warning: Image size mismatch!");
        if (!difference)
            co_return std::unexpected(std::move(difference.error()));
        if (!*difference) {
            say("Images are identical.");
            co_return kEqual;
        }
        const ImageDifference& found = **difference;
        say(found.kind == ImageDifference::Kind::Contents
                ? fmt::format("Content mismatch at offset {}!", found.offset)
                : fmt::format("Strict mode: Offset {} block status mismatch!", found.offset));
        co_return kDifferent;
    }

    static int64_t whole_sectors(int64_t bytes) { return (bytes + kSectorSize - 1) / kSectorSize; }

    ImageArguments image_;
    std::string second_format_;
    bool show_progress_ = false, quiet_ = false, strict_ = false;
    std::array<std::string, 2> names_;
    std::string message_;
};

}  // namespace

const CommandType kCompare{
    .name = "compare",
    .syntax =
        "[--object objectdef] [--image-opts] [-f fmt] [-F fmt] [-T src_cache] [-p] [-q] [-s] [-U] filename1 "
        "filename2",
    .make = make_command<Compare>,
};

}  // namespace ashlar::img
