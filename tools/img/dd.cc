// ashlar-img dd: copies a part of an image into a new one.
#include "block/image_copy.h"
#include "block/open_backend.h"
#include "tools/img/arguments.h"
#include "tools/img/command.h"
#include "tools/img/create_options.h"
#include "tools/img/interruption.h"
#include "tools/img/target.h"
#include "util/report.h"
#include "util/size.h"

#include <limits>

namespace ashlar::img {

namespace {

class Dd final : public Command {
public:
    Dd() { source_.flags.read_only = true; }

    void declare(CommandLine& line) override {
        add_image_options(line, source_, "fU");
        line.add_text('O', "target-format", "FMT", "the new image's format (default: raw)", target_format_);
    }

    Result<void> take(std::vector<std::string> arguments) override {
        for (const std::string& argument : arguments) {
            const size_t equals = argument.find('=');
            const std::string name = argument.substr(0, equals);
            const std::string value = equals == argument.npos ? "" : argument.substr(equals + 1);
            Result<int64_t> number = 0;
            if (equals == argument.npos)
                return fail("unrecognized operand {}", argument);
            if (name == "if")
                source_name_ = value;
            else if (name == "of")
                target_name_ = value;
            else if (name == "bs")
                number = take_number(name, value, 1, std::numeric_limits<int32_t>::max(), block_);
            else if (name == "count")
                number = take_number(name, value, 0, std::numeric_limits<int64_t>::max(), count_);
            else if (name == "skip")
                number = take_number(name, value, 0, std::numeric_limits<int64_t>::max(), skip_);
            else
                return fail("unrecognized operand {}", name);
            if (!number)
                return std::unexpected(std::move(number.error()));
        }
        if (source_name_.empty() || target_name_.empty())
            return fail("Must specify both input and output files");
        return {};
    }

    Task<Result<int>> co_run(BlockGraph& graph) override {
        Interruption interruption;
        auto whole = co_await co_open(graph, source_name_, source_);
        if (!whole)
            co_return std::unexpected(std::move(whole.error()));
        Target target(graph);
        std::unique_ptr<BlockBackend> part;
        Result<void> done = co_await co_dd(graph, **whole, part, target, interruption);
        done = co_await target.co_finish(std::move(done));
        if (part)
            if (auto closed = co_await part->co_detach(); !closed && done)
                done = std::move(closed);
        Result<int> status = 0;
        if (!done)
            status = std::unexpected(std::move(done.error()));
        status = co_await co_close(std::move(*whole), std::move(status));
        interruption.end_if_interrupted();
        co_return status;
    }

private:
    static Result<int64_t> take_number(const std::string& name, const std::string& text, int64_t min, int64_t max,
                                       int64_t& out) {
        auto number = parse_bytes(name, text, min, max);
        if (number)
            out = *number;
        return number;
    }

    Task<Result<void>> co_dd(BlockGraph& graph, BlockBackend& whole, std::unique_ptr<BlockBackend>& part,
                             Target& target, Interruption& interruption) {
        const DriverType* format = graph.registry().find(target_format_);
        if (!format)
            co_return fail("Unknown file format");
        if (auto creatable = creatable_format(graph.registry(), target_format_); !creatable)
            co_return std::unexpected(std::move(creatable.error()));
        const int64_t length = whole.length();
        if (length < 0)
            co_return fail_errno(static_cast<int>(-length), "Failed to get size for '{}'", source_name_);
        // As in qemu-img the blocks that are skipped count.
        const int64_t end = count_ < 0 || count_ > length / block_ ? length : count_ * block_;
        const bool past_end = skip_ > end / block_;
        const int64_t start = past_end ? end : skip_ * block_;
        const int64_t bytes = end - start;
        if (auto made = co_await target.co_create(*format, target_name_, Json{{"size", bytes}}); !made)
            co_return std::unexpected(std::move(made.error())
                                          .prefixed(fmt::format("{}: error while creating output image of type {}",
                                                                target_name_, target_format_)));
        if (past_end)
            error_report("{}: cannot skip to specified offset", source_name_);
        if (bytes == 0)
            co_return {};

        Json window{{"driver", "raw"}, {"offset", start}, {"size", bytes}, {"file", whole.root()->node_name()}};
        const NodeFlags flags = source_.node_flags();
        auto opened = co_await co_open_backend(graph, std::move(window), Typing::Strict, flags, image_perms(flags));
        if (!opened)
            co_return std::unexpected(std::move(opened.error()));
        part = std::move(*opened);
        ImageArguments arguments{.format = target_format_};
        arguments.flags.discard = Discard::Unmap;
        if (auto ready = co_await target.co_open(target_name_, std::move(arguments)); !ready)
            co_return ready;
        ImageCopyOptions options{.target_zero_from = co_await target.co_zero_from(bytes)};
        Progress progress;
        ImageCopy copy({part.get()}, target.image(), std::move(options), progress);
        interruption.watch([&copy] { copy.cancel(); });
        auto copied = co_await copy.co_run();
        co_await interruption.co_stop();
        co_return copied;
    }

    ImageArguments source_;
    std::string target_format_ = "raw", source_name_, target_name_;
    int64_t block_ = 512, count_ = -1, skip_ = 0;
};

}  // namespace

const CommandType kDd{
    .name = "dd",
    .syntax =
        "[--image-opts] [-U] [-f fmt] [-O output_fmt] [bs=block_size] [count=blocks] [skip=blocks] if=input "
        "of=output",
    .make = make_command<Dd>,
};

}  // namespace ashlar::img
