// ashlar-img commit: writes what an image has that its backing file does not into the backing file.
#include "block/image_copy.h"
#include "block/image_format.h"
#include "block/open_backend.h"
#include "tools/img/chain.h"
#include "tools/img/command.h"
#include "tools/img/progress_display.h"

#include <fmt/core.h>

#include <set>

namespace ashlar::img {

namespace {

class Commit final : public Command {
public:
    void declare(CommandLine& line) override {
        add_image_options(line, image_, "f");
        add_cache_option(line, 't', image_, "cache mode of the images");
        line.add('b', "base", "FILE", "commit into this one of the chain, not into the next",
                 [this](std::string_view name) {
                     base_ = name;
                     keep_contents_ = true;  // what is between would not match any more
                     return Result<void>();
                 });
        line.add_flag('d', "keep", "do not empty the image afterwards", keep_contents_);
        line.add('r', "rate-limit", "RATE", "bytes per second", bytes_option("rate limit", rate_));
        line.add_flag('p', "progress", "show progress", show_progress_);
        add_quiet_option(line, quiet_);
    }

    Result<void> take(std::vector<std::string> arguments) override {
        if (auto taken = take_one_name(std::move(arguments), filename_); !taken)
            return taken;
        if (quiet_)
            show_progress_ = false;
        return {};
    }

    Task<Result<int>> co_run(BlockGraph& graph) override {
        ProgressDisplay display(show_progress_);
        auto options = co_await co_chain_options(graph);
        if (!options)
            co_return std::unexpected(std::move(options.error()));
        // Others, that is we, write to the images below.
        auto opened = co_await co_open_backend(graph, std::move(options->options), options->typing, image_.node_flags(),
                                               {image_perms(image_.flags).perm, BlockPerm::All});
        if (!opened)
            co_return std::unexpected(
                std::move(opened.error()).prefixed(fmt::format("Could not open '{}'", filename_)));
        (*opened)->set_write_cache(is_writeback(image_.cache));
        display.start();
        Result<int> status = 0;
        if (auto done = co_await co_commit(graph, **opened, display.progress()); !done)
            status = std::unexpected(std::move(done.error()));
        status = co_await co_close(std::move(*opened), std::move(status));
        co_await display.co_finish(status.has_value());
        if (status && !quiet_)
            fmt::print("Image committed.\n");
        co_return status;
    }

private:
    // How to open the chain with the base writable. `layers_` is then how many are above the base.
    Task<Result<ResolvedImage>> co_chain_options(BlockGraph& graph) {
        std::vector<ResolvedImage> chain;
        std::set<std::string> seen;
        std::string name = filename_;
        ImageArguments arguments = image_;
        arguments.flags.read_only = true;
        arguments.flags.inspect = true;
        for (bool found = false; !found;) {
            if (!seen.insert(name).second)
                co_return fail("Backing file '{}' creates an infinite loop.", name);
            auto image = co_await co_resolve(graph, name, arguments);
            if (!image)
                co_return std::unexpected(std::move(image.error()).prefixed(fmt::format("Could not open '{}'", name)));
            auto info = co_await co_info(graph, name, arguments);
            if (!info)
                co_return std::unexpected(std::move(info.error()));
            chain.push_back(std::move(*image));
            if (!info->full_backing_filename)
                co_return chain.size() == 1 && base_.empty()
                    ? fail("Image does not have a backing file")
                    : fail("Did not find '{}' in the backing chain of '{}'", base_, filename_);
            found = base_.empty() || base_ == info->backing_filename || base_ == info->full_backing_filename;
            name = *info->full_backing_filename;
            arguments.image_opts = false;
            arguments.format = info->backing_filename_format.value_or("");
            if (found) {
                auto base = co_await co_resolve(graph, name, arguments);
                if (!base)
                    co_return std::unexpected(
                        std::move(base.error()).prefixed(fmt::format("Could not open '{}'", name)));
                chain.push_back(std::move(*base));
            }
        }
        layers_ = static_cast<unsigned>(chain.size()) - 1;
        chain.back().options["read-only"] = "off";
        for (size_t i = chain.size() - 1; i > 0; --i)
            chain[i - 1].options["backing"] = std::move(chain[i].options);
        chain[0].typing = Typing::Lenient;
        co_return std::move(chain[0]);
    }

    Task<Result<void>> co_commit(BlockGraph& graph, BlockBackend& top, Progress& progress) {
        BlockDriverState* node = top.root();
        for (unsigned i = 0; i < layers_; ++i)
            node = &node->cow_child()->node();
        BlockBackend base(graph, "", {image_perms({}, true).perm, BlockPerm::All});
        if (auto attached = co_await base.co_attach(*node); !attached)
            co_return attached;
        base.set_write_cache(top.write_cache());
        Result<void> done = co_await co_copy(top, base, progress);
        auto closed = co_await base.co_detach();
        if (done)
            done = std::move(closed);
        if (!done || keep_contents_)
            co_return done;
        // Only what is safely in the base is given up.
        ImageFormat* format = top.root()->driver().image_format();
        if (!format)
            co_return fail("Could not empty {}: the format does not support it", filename_);
        auto drained = co_await graph.co_drain(*top.root());
        auto emptied = co_await format->co_make_empty();
        if (!emptied)
            co_return std::unexpected(
                std::move(emptied.error()).prefixed(fmt::format("Could not empty {}", filename_)));
        co_return {};
    }

    Task<Result<void>> co_copy(BlockBackend& top, BlockBackend& base, Progress& progress) {
        const int64_t length = top.length(), before = base.length();
        if (length < 0 || before < 0)
            co_return fail_errno(static_cast<int>(length < 0 ? -length : -before), "Could not get the size");
        ImageCopyOptions options{.own_layers = layers_, .bytes_per_second = static_cast<uint64_t>(rate_)};
        if (before < length) {
            if (auto grown = co_await base.co_truncate(length, false, PreallocMode::Off); !grown)
                co_return grown;
            if (!base.root()->cow_child())
                options.target_zero_from = before;
        }
        ImageCopy copy({&top}, base, std::move(options), progress);
        if (auto copied = co_await copy.co_run(); !copied)
            co_return copied;
        if (int ret = co_await base.co_flush(); ret < 0)
            co_return fail_errno(-ret, "Could not flush the backing file");
        co_return {};
    }

    ImageArguments image_;
    std::string base_, filename_;
    int64_t rate_ = 0;
    unsigned layers_ = 0;
    bool keep_contents_ = false, show_progress_ = false, quiet_ = false;
};

}  // namespace

const CommandType kCommit{
    .name = "commit",
    .syntax =
        "[--object objectdef] [--image-opts] [-q] [-f fmt] [-t cache] [-b base] [-r rate_limit] [-d] [-p] filename",
    .make = make_command<Commit>,
};

}  // namespace ashlar::img
