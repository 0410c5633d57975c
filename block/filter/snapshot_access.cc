// The driver `snapshot-access`: an internal snapshot of an image, as a node that is read.
#include "block/filter/filter_driver.h"
#include "block/filter/filters.h"
#include "block/image_format.h"
#include "block/keep_options.h"

namespace ashlar {

namespace {

struct SnapshotAccessOptions {
    BlockdevRef file;
    std::string snapshot;

    static const OptionSet<SnapshotAccessOptions>& options() {
        using O = SnapshotAccessOptions;
        static const auto set = OptionSet<O>("snapshot-access")
                                    .required("file", &O::file, "the image, as a node of its own")
                                    .required("snapshot", &O::snapshot, "name or id of the snapshot");
        return set;
    }
};

class SnapshotAccessDriver final : public FilterDriver {
public:
    SnapshotAccessDriver(const OpenContext& context, BdrvChild& file, SnapshotAccessOptions options)
        : FilterDriver(context, file), options_(std::move(options)) {}

    Task<Result<void>> co_reopen_prepare(ReopenContext& context) override {
        if (!context.new_flags().read_only)
            co_return fail("A snapshot can only be read");
        if (&context.new_child("file") != &file().node())
            co_return fail("Cannot change the option 'file'");
        co_return co_await co_keep_options(context, options_);
    }

private:
    const SnapshotAccessOptions options_;
};

Task<Result<std::unique_ptr<BlockDriver>>> co_open_snapshot_access(OpenContext& context) {
    auto options = context.parse<SnapshotAccessOptions>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    if (!context.flags().read_only)
        if (auto may = context.fall_back_to_read_only(
                Error{.message = "A snapshot can only be read", .hint = "Open it with read-only=on.", .code = EACCES});
            !may)
            co_return std::unexpected(std::move(may.error()));
    // A node that shows the snapshot shows it to all who use it.
    if (options->file.is_reference())
        co_return fail("Parameter 'file' expects the options of a node, not the name of one");
    auto file = co_await co_open_filtered(context, options->file);
    if (!file)
        co_return std::unexpected(std::move(file.error()));
    BlockDriverState& image = (*file)->node();
    ImageFormat* format = image.driver().image_format();
    if (!format)
        co_return fail("Format '{}' has no internal snapshots", image.type().name);
    if (!image.is_read_only())
        co_return fail("The image of a snapshot must be read-only");
    auto snapshots = format->snapshots();
    const ImageSnapshot* found = ImageFormat::find_snapshot(snapshots, options->snapshot);
    if (!found)
        co_return fail("Can't find snapshot '{}'", options->snapshot);
    if (auto shown = co_await format->co_show_snapshot(found->id); !shown)
        co_return std::unexpected(std::move(shown.error()));
    co_return std::make_unique<SnapshotAccessDriver>(context, **file, std::move(*options));
}

}  // namespace

const DriverType kSnapshotAccessDriver{
    .name = "snapshot-access",
    .options = []() -> const OptionSchema& { return SnapshotAccessOptions::options(); },
    .co_open = co_open_snapshot_access,
    .is_filter = true,
};

}  // namespace ashlar
