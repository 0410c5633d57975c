// Commands about dirty bitmaps.
#include "monitor/bitmap_args.h"
#include "monitor/commands.h"
#include "monitor/daemon.h"

namespace ashlar {

namespace {

struct BitmapHash {
    std::string sha256;

    static const OptionSet<BitmapHash>& options() {
        static const auto set = OptionSet<BitmapHash>("BlockDirtyBitmapSha256")
                                    .required("sha256", &BitmapHash::sha256, "hash of the bits, in hexadecimal digits");
        return set;
    }
};

// fn(node) for the node of that name.
template <class Fn>
auto on_node(Daemon& daemon, const std::string& name, Fn fn) -> decltype(fn(std::declval<BlockDriverState&>())) {
    auto node = daemon.graph().find_device_or_node(name);
    if (!node)
        return fail("Node '{}' not found", name);
    return fn(**node);
}

Task<Result<void>> bitmap_add(Daemon& daemon, BitmapAddArgs args) {
    auto node = daemon.graph().find_device_or_node(args.node);
    if (!node)
        co_return std::unexpected(std::move(node.error()));
    co_return co_await co_add_bitmap(**node, args.wanted());
}

Task<Result<void>> bitmap_remove(Daemon& daemon, BitmapArgs args) {
    auto node = on_node(daemon, args.node, [](BlockDriverState& n) -> Result<BlockDriverState*> { return &n; });
    if (!node)
        co_return std::unexpected(std::move(node.error()));
    co_return co_await co_remove_bitmap(**node, std::move(args.name));
}

Task<Result<void>> bitmap_clear(Daemon& daemon, BitmapArgs args) {
    co_return on_node(daemon, args.node, [&](BlockDriverState& node) { return clear_bitmap(node, args.name); });
}

Task<Result<void>> bitmap_enable(Daemon& daemon, BitmapArgs args) {
    co_return on_node(daemon, args.node, [&](BlockDriverState& node) { return enable_bitmap(node, args.name, true); });
}

Task<Result<void>> bitmap_disable(Daemon& daemon, BitmapArgs args) {
    co_return on_node(daemon, args.node, [&](BlockDriverState& node) { return enable_bitmap(node, args.name, false); });
}

Task<Result<void>> bitmap_merge(Daemon& daemon, BitmapMergeArgs args) {
    co_return on_node(daemon, args.node,
                      [&](BlockDriverState& node) { return merge_bitmaps(node, args.target, args.sources()); });
}

Task<Result<BitmapHash>> bitmap_hash(Daemon& daemon, BitmapArgs args) {
    co_return on_node(daemon, args.node, [&](BlockDriverState& node) -> Result<BitmapHash> {
        auto bitmap = get_bitmap(node, args.name);
        if (!bitmap)
            return std::unexpected(std::move(bitmap.error()));
        return BitmapHash{bitmap_sha256(**bitmap)};
    });
}

}  // namespace

void add_bitmap_commands(QmpCommands& commands, Daemon& daemon) {
    commands.add("block-dirty-bitmap-add", daemon, bitmap_add);
    commands.add("block-dirty-bitmap-clear", daemon, bitmap_clear);
    commands.add("block-dirty-bitmap-disable", daemon, bitmap_disable);
    commands.add("block-dirty-bitmap-enable", daemon, bitmap_enable);
    commands.add("block-dirty-bitmap-merge", daemon, bitmap_merge);
    commands.add("block-dirty-bitmap-remove", daemon, bitmap_remove);
    commands.add("x-debug-block-dirty-bitmap-sha256", daemon, bitmap_hash);
}

}  // namespace ashlar
