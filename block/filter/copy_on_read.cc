// The filter `copy-on-read`: what is read from a backing file is written to the layer in front, so that the next time
// it is there.
//
// It does so beside whatever writes to that layer, through this node or past it (NodeIo::co_copy_on_read).
#include "block/block_graph.h"
#include "block/filter/filter_driver.h"
#include "block/filter/filters.h"
#include "block/keep_options.h"
#include "block/node_io.h"

namespace ashlar {

namespace {

struct CopyOnReadOptions {
    BlockdevRef file;
    std::optional<std::string> bottom;

    static const OptionSet<CopyOnReadOptions>& options() {
        using O = CopyOnReadOptions;
        static const auto set =
            OptionSet<O>("copy-on-read")
                .required("file", &O::file, "the image whose backing files are copied from")
                .optional("bottom", &O::bottom, "node-name of the last backing file to copy from (default: all)");
        return set;
    }
};

// The backing file of that name, behind filters that may be in front of each.
Result<BlockDriverState*> find_bottom(BlockGraph& graph, BlockDriverState& top, const std::string& name) {
    BlockDriverState* found = graph.find_node(name);
    if (!found)
        return fail("Bottom node '{}' not found", name);
    if (found->type().is_filter)
        return fail("Bottom node '{}' is a filter", name);
    for (BlockDriverState* layer = &NodeIo::without_filters(top);;
         layer = &NodeIo::without_filters(layer->cow_child()->node())) {
        if (layer == found)
            return found;
        if (!layer->cow_child())
            return fail("Bottom node '{}' is not in the backing chain of '{}'", name, top.node_name());
    }
}

class CopyOnReadDriver final : public FilterDriver {
public:
    CopyOnReadDriver(const OpenContext& context, BdrvChild& file, CopyOnReadOptions options, BlockDriverState* bottom)
        : FilterDriver(context, file), options_(std::move(options)), bottom_(bottom) {
        if (bottom_)
            node().graph().ref(*bottom_);
    }

    Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override {
        return NodeIo::co_copy_on_read(file().node(), bottom_, offset, bytes, iov, flags);
    }
    ChildPerm child_perm(const BdrvChild&, ChildPerm cumulative) const override {
        using enum BlockPerm;
        return {cumulative.perm | ConsistentRead | WriteUnchanged, cumulative.shared};
    }
    Task<Result<void>> co_reopen_prepare(ReopenContext& context) override { return co_keep_options(context, options_); }
    void reopen_commit(ReopenContext&) override { file().node().track_writes(); }
    Task<int> co_close() override {
        if (bottom_)
            if (auto done = co_await node().graph().co_unref(*bottom_); !done)
                co_return -EIO;
        co_return 0;
    }

private:
    const CopyOnReadOptions options_;
    BlockDriverState* const bottom_;
};

Task<Result<std::unique_ptr<BlockDriver>>> co_open_copy_on_read(OpenContext& context) {
    auto options = context.parse<CopyOnReadOptions>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    auto file = co_await co_open_filtered(context, options->file);
    if (!file)
        co_return std::unexpected(std::move(file.error()));
    BlockDriverState* bottom = nullptr;
    if (options->bottom) {
        auto found = find_bottom(context.graph(), (*file)->node(), *options->bottom);
        if (!found)
            co_return std::unexpected(std::move(found.error()));
        bottom = *found;
    }
    {
        auto drained = co_await context.graph().co_drain((*file)->node());
        (*file)->node().track_writes();
    }
    co_return std::make_unique<CopyOnReadDriver>(context, **file, std::move(*options), bottom);
}

}  // namespace

const DriverType kCopyOnReadDriver{
    .name = "copy-on-read",
    .options = []() -> const OptionSchema& { return CopyOnReadOptions::options(); },
    .co_open = co_open_copy_on_read,
    .is_filter = true,
};

}  // namespace ashlar
