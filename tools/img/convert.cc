// ashlar-img convert: copies images, one behind the other, into an image of another format.
#include "block/image_copy.h"
#include "block/image_format.h"
#include "block/node_bitmaps.h"
#include "tools/img/arguments.h"
#include "tools/img/command.h"
#include "tools/img/create_options.h"
#include "tools/img/interruption.h"
#include "tools/img/progress_display.h"
#include "tools/img/snapshot_argument.h"
#include "tools/img/target.h"
#include "util/report.h"
#include "util/size.h"

#include <fmt/core.h>

#include <cerrno>

namespace ashlar::img {

namespace {

constexpr unsigned kMaxCoroutines = 16;
constexpr int64_t kMaxSparse = 16 << 20;

class Convert final : public Command {
public:
    Convert() {
        source_.flags.read_only = true;
        target_arguments_.cache = CacheMode::Unsafe;
        target_arguments_.flags.discard = Discard::Unmap;
    }

    void declare(CommandLine& line) override {
        add_image_options(line, source_, "fU");
        line.add_text('O', "target-format", "FMT", "the new image's format (default: raw)", target_format_);
        add_creation_options(line, "options of the new image: name=value,...; `help' lists them", options_);
        line.add_text('B', "target-backing", "FILE", "the new image's backing file", backing_file_);
        line.add_text('F', "target-backing-format", "FMT", "the backing file's format", backing_format_);
        line.add_text('l', "snapshot", "SNAPSHOT", "copy this snapshot of the image", snapshot_);
        line.add_flag('n', "no-create", "the target exists: do not create it", no_create_);
        line.add_flag(0, "target-image-opts", "treat the target as a full set of image options",
                      target_arguments_.image_opts);
        line.add_flag(0, "target-is-zero", "the target, which exists, reads as zeroes", target_is_zero_);
        add_cache_option(line, 't', target_arguments_, "cache mode of the target (default: unsafe)");
        add_cache_option(line, 'T', source_, "cache mode of the images", "Invalid source cache option: {}");
        line.add_flag('c', "compress", "compress the data", copy_.compressed);
        line.add_flag('C', "copy-range", "let the host copy, by copy_file_range(2)", copy_.offload);
        line.add_flag('W', "out-of-order", "write the target in any order", copy_.out_of_order);
        line.add('m', "parallel", "N", "so many pieces are in the works at a time (1 to 16; default: as many as pay)",
                 [this](std::string_view text) -> Result<void> {
                     auto number = parse_uint64(text);
                     if (!number || *number < 1 || *number > kMaxCoroutines)
                         return fail("Invalid number of coroutines. Allowed number of coroutines is between 1 and {}",
                                     kMaxCoroutines);
                     copy_.coroutines = static_cast<unsigned>(*number);
                     return {};
                 });
        line.add('S', "sparse-size", "SIZE", "so many bytes of zeroes are left out (default: 4k); 0: nothing is",
                 [this](std::string_view text) -> Result<void> {
                     auto bytes = parse_bytes("buffer size for sparse output", text);
                     if (!bytes)
                         return std::unexpected(std::move(bytes.error()));
                     if (*bytes % kSectorSize != 0 || *bytes > kMaxSparse)
                         return fail(
                             "Invalid buffer size for sparse output specified. Valid sizes are multiples of {} up to "
                             "{}. Select 0 to disable sparse detection (fully allocates output).",
                             kSectorSize, kMaxSparse);
                     copy_.min_zeroes = *bytes;
                     sparse_given_ = true;
                     return {};
                 });
        line.add('r', "rate-limit", "RATE", "bytes per second", bytes_option("rate limit", rate_));
        line.add_flag(0, "salvage", "take what cannot be read for zeroes", copy_.salvage);
        line.add_flag(0, "bitmaps", "copy the persistent dirty bitmaps as well", bitmaps_);
        line.add_flag(0, "skip-broken-bitmaps", "with --bitmaps: leave out those that are inconsistent", skip_broken_);
        line.add_flag('p', "progress", "show progress", show_progress_);
        add_quiet_option(line, quiet_);
    }

    Result<void> take(std::vector<std::string> arguments) override {
        if (no_create_ && !options_.empty())
            return fail("-o has no effect when skipping image creation");
        if (skip_broken_ && !bitmaps_)
            return fail("Use of --skip-broken-bitmaps requires --bitmaps");
        if (asks_for_help(options_)) {
            wants_help_ = true;
            help_target_ = arguments.empty() ? "" : arguments.back();
            return {};
        }
        if (target_arguments_.image_opts && no_create_ && target_format_given())
            return fail("--image-opts and --format are mutually exclusive");
        if (target_arguments_.image_opts && !no_create_)
            return fail("--target-image-opts requires use of -n flag");
        if (copy_.offload && copy_.compressed)
            return fail("Cannot enable copy offloading when -c is used");
        if (copy_.offload && sparse_given_)
            return fail("Cannot enable copy offloading when -S is used");
        if (copy_.offload && copy_.salvage)
            return fail("Cannot use copy offloading in salvaging mode");
        if (arguments.size() < 2)
            return fail("Must specify image file name");
        if (target_is_zero_ && !no_create_)
            return fail("--target-is-zero requires use of -n flag");
        if (target_is_zero_ && !backing_file_.empty())
            return fail("Cannot use --target-is-zero when the destination image has a backing file");
        target_name_ = std::move(arguments.back());
        arguments.pop_back();
        names_ = std::move(arguments);
        if (names_.size() > 1 && !snapshot_.empty())
            return fail("No support for concatenating multiple snapshot");
        if (names_.size() > 1 && !backing_file_.empty())
            return fail("Having a backing file for the target makes no sense when concatenating multiple input images");
        if (names_.size() > 1 && bitmaps_)
            return fail("Copying bitmaps only possible with single source");
        if (quiet_)
            show_progress_ = false;
        return check_snapshot_argument(snapshot_);
    }

    Task<Result<int>> co_run(BlockGraph& graph) override {
        if (wants_help_)
            co_return print_help(graph.registry());
        ProgressDisplay display(show_progress_);
        Interruption interruption;
        std::vector<std::unique_ptr<BlockBackend>> sources;
        Target target(graph);
        display.start();
        Result<void> done = co_await co_open_sources(graph, sources);
        if (done)
            done = co_await co_convert(graph, sources, target, display.progress(), interruption);
        done = co_await target.co_finish(std::move(done));
        for (auto& source : sources)
            if (auto closed = co_await source->co_detach(); !closed && done)
                done = std::move(closed);
        co_await display.co_finish(done.has_value());
        interruption.end_if_interrupted();
        if (!done)
            co_return std::unexpected(std::move(done.error()));
        co_return 0;
    }

private:
    bool target_format_given() const { return !target_format_.empty(); }
    std::string_view target_format() const { return target_format_given() ? std::string_view(target_format_) : "raw"; }

    Result<int> print_help(const DriverRegistry& drivers) const {
        auto format = creatable_format(drivers, target_format());
        if (!format)
            return std::unexpected(std::move(format.error()));
        const DriverType* protocol = nullptr;
        if (!help_target_.empty()) {
            auto found = drivers.protocol_for(help_target_);
            if (!found)
                return std::unexpected(std::move(found.error()));
            protocol = *found;
        }
        fmt::print("{}", CreateOptions(**format, protocol).help());
        return 0;
    }

    Task<Result<void>> co_open_sources(BlockGraph& graph, std::vector<std::unique_ptr<BlockBackend>>& sources) {
        for (const std::string& name : names_) {
            auto opened = co_await co_open(graph, name, source_);
            if (!opened)
                co_return std::unexpected(std::move(opened.error()));
            sources.push_back(std::move(*opened));
            if (const int64_t length = sources.back()->length(); length < 0)
                co_return fail_errno(static_cast<int>(-length), "Could not get size of {}", name);
        }
        if (!snapshot_.empty())
            co_return co_await co_show_snapshot(*sources[0], snapshot_);
        co_return {};
    }

    // Makes the target, or checks what was asked for one that exists.
    Task<Result<void>> co_make(BlockGraph& graph, Target& target, int64_t total) {
        if (no_create_)
            co_return {};
        const DriverRegistry& drivers = graph.registry();
        auto format = creatable_format(drivers, target_format());
        if (!format)
            co_return std::unexpected(std::move(format.error()));
        auto protocol = drivers.protocol_for(target_name_);
        if (!protocol)
            co_return std::unexpected(std::move(protocol.error()));
        const CreateOptions known(**format, *protocol);
        auto options = known.parse(options_);
        if (!options)
            co_return std::unexpected(std::move(options.error()));
        if (!backing_file_.empty() && !known.has("backing_file"))
            co_return fail("Backing file not supported for file format '{}'", (*format)->name);
        if (!backing_format_.empty() && !known.has("backing_fmt"))
            co_return fail("Backing file format not supported for file format '{}'", (*format)->name);
        if (!backing_file_.empty())
            (*options)["backing_file"] = backing_file_;
        if (!backing_format_.empty())
            (*options)["backing_fmt"] = backing_format_;
        if (options->contains("backing_file")) {
            if (!options->contains("backing_fmt"))
                co_return fail("Use of backing file requires explicit backing format");
            copy_.own_layers = 1;
        }
        // Before an existing file is lost.
        if (copy_.compressed && ((*format)->is_protocol || (*format)->name == "raw"))
            co_return fail("Compression not supported for this file format");
        if (!options->contains("size"))
            (*options)["size"] = total;
        auto made = co_await target.co_create(**format, target_name_, std::move(*options));
        if (!made)
            co_return std::unexpected(
                std::move(made.error())
                    .prefixed(fmt::format("{}: error while converting {}", target_name_, (*format)->name)));
        co_return {};
    }

    static bool stores_bitmaps(const BlockDriverState& node) {
        const ImageFormat* format = node.driver().image_format();
        auto storable = format ? format->can_store_bitmap("x", DirtyBitmap::kMinGranularity)
                               : Result<void>(std::unexpected(Error{.code = ENOTSUP}));
        return storable || storable.error().code != ENOTSUP;
    }

    Result<void> check_bitmaps(const BlockDriverState& source) const {
        if (!stores_bitmaps(source))
            return fail("Source lacks bitmap support");
        for (const std::shared_ptr<DirtyBitmap>& bitmap : source.dirty_bitmaps())
            if (bitmap->is_persistent() && bitmap->is_inconsistent() && !skip_broken_)
                return std::unexpected(
                    Error{.message = fmt::format("Cannot copy inconsistent bitmap '{}'", bitmap->name()),
                          .hint = fmt::format("Try --skip-broken-bitmaps, or use '{} bitmap --remove' to delete it",
                                              program_name())});
        return {};
    }

    static Task<Result<void>> co_copy_bitmaps(BlockDriverState& source, BlockDriverState& target) {
        for (const std::shared_ptr<DirtyBitmap>& bitmap : source.dirty_bitmaps()) {
            if (!bitmap->is_persistent())
                continue;
            const std::string& name = bitmap->name();
            if (bitmap->is_inconsistent()) {
                warn_report("Skipping inconsistent bitmap '{}'", name);
                continue;
            }
            // It does not record what was copied.
            auto done = co_await co_add_bitmap(
                target, {.name = name, .granularity = bitmap->granularity(), .persistent = true, .enabled = false});
            const BitmapName from{source.node_name(), name};
            if (done)
                done = merge_bitmaps(target, name, {&from, 1});
            if (done && bitmap->is_enabled())
                done = enable_bitmap(target, name, true);
            if (!done)
                co_return std::unexpected(
                    std::move(done.error()).prefixed(fmt::format("Failed to copy bitmap {}", name)));
        }
        co_return {};
    }

    Task<Result<void>> co_convert(BlockGraph& graph, const std::vector<std::unique_ptr<BlockBackend>>& sources,
                                  Target& target, Progress& progress, Interruption& interruption) {
        std::vector<BlockBackend*> images;
        for (const auto& source : sources)
            images.push_back(source.get());
        const int64_t total = ImageCopy::total_length(images);
        if (total < 0)
            co_return fail_errno(static_cast<int>(-total), "The images together are too large");
        if (bitmaps_)
            if (auto can = check_bitmaps(*images[0]->root()); !can)
                co_return can;
        if (auto made = co_await co_make(graph, target, total); !made)
            co_return made;
        if (no_create_)
            copy_.own_layers = backing_file_.empty() ? 0 : 1;

        ImageArguments arguments = target_arguments_;
        if (!arguments.image_opts)
            arguments.format = target_format();
        if (auto opened = co_await target.co_open(target_name_, std::move(arguments)); !opened)
            co_return opened;
        BlockBackend& image = target.image();
        if (image.length() < total)
            co_return fail("output file is smaller than input file");
        if (bitmaps_ && !stores_bitmaps(*image.root()))
            co_return fail("Format driver '{}' does not support bitmaps", image.root()->type().name);
        if (copy_.compressed) {
            if (!has(image.root()->driver().supported_flags().write, RequestFlags::Compressed))
                co_return fail("Compression not supported for this file format");
            if (image.root()->driver().cluster_size() <= 0)
                co_return fail("could not get block driver info");
        }
        copy_.target_zero_from = target_is_zero_ ? 0 : co_await target.co_zero_from(total);
        copy_.bytes_per_second = static_cast<uint64_t>(rate_);
        if (!quiet_)
            copy_.unreadable = [](int64_t offset, int error) {
                warn_report("error while reading offset {}: {}", offset, std::strerror(error));
            };
        ImageCopy copy(std::move(images), image, copy_, progress);
        interruption.watch([&copy] { copy.cancel(); });
        auto copied = co_await copy.co_run();
        co_await interruption.co_stop();
        if (copied && bitmaps_)
            copied = co_await co_copy_bitmaps(*sources[0]->root(), *image.root());
        co_return copied;
    }

    ImageArguments source_, target_arguments_;
    ImageCopyOptions copy_;
    std::string target_format_, options_, backing_file_, backing_format_, snapshot_, target_name_, help_target_;
    std::vector<std::string> names_;
    int64_t rate_ = 0;
    bool no_create_ = false, target_is_zero_ = false, sparse_given_ = false, bitmaps_ = false, skip_broken_ = false,
         show_progress_ = false, quiet_ = false, wants_help_ = false;
};

}  // namespace

const CommandType kConvert{
    .name = "convert",
    .syntax =
        "[--object objectdef] [--image-opts] [--target-image-opts] [--target-is-zero] [--bitmaps "
        "[--skip-broken-bitmaps]] [-U] [-C] [-c] "
        "[-p] [-q] [-n] [-f fmt] [-t cache] [-T src_cache] [-O output_fmt] [-B backing_file [-F backing_fmt]] "
        "[-o options] [-l snapshot_param] [-S sparse_size] [-r rate_limit] [-m num_coroutines] [-W] [--salvage] "
        "filename [filename2 [...]] output_filename",
    .make = make_command<Convert>,
};

}  // namespace ashlar::img
