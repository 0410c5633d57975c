// ashlar-img resize: changes the size of a disk.
#include "block/image_create.h"
#include "tools/img/arguments.h"
#include "tools/img/command.h"
#include "util/report.h"
#include "util/size.h"

#include <fmt/core.h>

namespace ashlar::img {

namespace {

class Resize final : public Command {
public:
    void declare(CommandLine& line) override {
        add_image_options(line, image_, "f");
        add_quiet_option(line, quiet_);
        line.add(0, "preallocation", "MODE", "how the new part is allocated: off (default), metadata,\nfalloc, full",
                 [this](std::string_view text) -> Result<void> {
                     auto mode = parse_enum<PreallocMode>(text);
                     if (!mode)
                         return fail("Invalid preallocation mode '{}'", text);
                     prealloc_ = *mode;
                     return {};
                 });
        line.add_flag(0, "shrink", "the disk may get smaller", shrink_);
    }

    bool has_signed_last() const override { return true; }

    Result<void> take(std::vector<std::string> arguments) override {
        if (arguments.size() < 2)
            return std::unexpected(usage_error("Not enough arguments"));
        if (arguments.size() > 2)
            return std::unexpected(usage_error("Expecting image file name and size"));
        filename_ = arguments[0];
        std::string_view text = arguments[1];
        if (text.starts_with('+') || text.starts_with('-')) {
            sign_ = text[0] == '+' ? 1 : -1;
            text.remove_prefix(1);
        }
        auto bytes = parse_size(text);
        if (!bytes)
            return std::unexpected(
                Error{.message = "Parameter 'size' expects a non-negative number below 2^64",
                      .hint = "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                              "and exabytes, respectively."});
        bytes_ = *bytes;
        return {};
    }

    Task<Result<int>> co_run(BlockGraph& graph) override {
        image_.resize = true;
        auto opened = co_await co_open(graph, filename_, image_);
        if (!opened)
            co_return std::unexpected(std::move(opened.error()));
        Result<int> status = co_await co_resize(**opened);
        co_return co_await co_close(std::move(*opened), std::move(status));
    }

private:
    Task<Result<int>> co_resize(BlockBackend& image) {
        const int64_t before = image.length();
        if (before < 0)
            co_return fail_errno(static_cast<int>(-before), "Could not get the size of '{}'", filename_);
        // Exact in the widest type; what does not fit is too large for any image.
        __extension__ using Wide = __int128;
        const Wide wanted = sign_ ? Wide{before} + sign_ * Wide{bytes_} : Wide{bytes_};
        if (wanted <= 0)
            co_return fail("New image size must be positive");
        if (wanted > kMaxLength)
            co_return fail("New image size exceeds the limit of {} bytes", kMaxLength);
        const auto size = static_cast<int64_t>(wanted);
        if (size <= before && prealloc_ != PreallocMode::Off)
            co_return fail("Preallocation can only be used for growing images");
        if (size < before && !shrink_) {
            error_report("Use the --shrink option to perform a shrink operation.");
            warn_report(
                "Shrinking an image will delete all data beyond the shrunken image's end. Before performing such an "
                "operation, make sure there is no important data there.");
            co_return 1;
        }
        auto done = co_await image.co_truncate(size, true, prealloc_);
        if (!done)
            co_return std::unexpected(std::move(done.error()));
        if (!quiet_)
            fmt::print("Image resized.\n");
        co_return 0;
    }

    ImageArguments image_;
    bool quiet_ = false, shrink_ = false;
    PreallocMode prealloc_ = PreallocMode::Off;
    std::string filename_;
    int sign_ = 0;
    uint64_t bytes_ = 0;
};

}  // namespace

const CommandType kResize{
    .name = "resize",
    .syntax =
        "[--object objectdef] [--image-opts] [-f fmt] [--preallocation=prealloc] [-q] [--shrink] filename "
        "[+ | -]size",
    .make = make_command<Resize>,
};

}  // namespace ashlar::img
