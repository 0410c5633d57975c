// Commands about nodes and devices.
#include "block/throttle_groups.h"
#include "monitor/block_info.h"
#include "monitor/block_stats.h"
#include "monitor/commands.h"
#include "monitor/daemon.h"
#include "util/json.h"

#include <algorithm>

namespace ashlar {

namespace {

struct NodeNameArgs {
    std::string node_name;

    static const OptionSet<NodeNameArgs>& options() {
        static const auto set =
            OptionSet<NodeNameArgs>("blockdev-del").required("node-name", &NodeNameArgs::node_name, "the node");
        return set;
    }
};

struct ReopenArgs {
    std::vector<BlockdevDefinition> nodes;

    static const OptionSet<ReopenArgs>& options() {
        static const auto set = OptionSet<ReopenArgs>("blockdev-reopen")
                                    .required("options", &ReopenArgs::nodes, "all options of each node to change");
        return set;
    }
};

struct ResizeArgs {
    std::optional<std::string> device;
    std::optional<std::string> node_name;
    int64_t size = 0;

    static const OptionSet<ResizeArgs>& options() {
        static const auto set = OptionSet<ResizeArgs>("block_resize")
                                    .optional("device", &ResizeArgs::device, "the device")
                                    .optional("node-name", &ResizeArgs::node_name, "or the node")
                                    .required("size", &ResizeArgs::size, "bytes it is to have");
        return set;
    }
};

struct FlatArgs {
    bool flat = false;

    static const OptionSet<FlatArgs>& options() {
        static const auto set = OptionSet<FlatArgs>("query-named-block-nodes")
                                    .optional("flat", &FlatArgs::flat, "without the backing files of each");
        return set;
    }
};

struct QueryNodesArgs {
    bool query_nodes = false;

    static const OptionSet<QueryNodesArgs>& options() {
        static const auto set = OptionSet<QueryNodesArgs>("query-blockstats")
                                    .optional("query-nodes", &QueryNodesArgs::query_nodes, "nodes instead of devices");
        return set;
    }
};

struct IoThrottleArgs {
    std::optional<std::string> device;
    std::optional<std::string> id;
    QmpThrottleLimits limits;
    std::optional<std::string> group;

    static const OptionSet<IoThrottleArgs>& options() {
        static const auto set = OptionSet<IoThrottleArgs>("block_set_io_throttle")
                                    .optional("device", &IoThrottleArgs::device, "the device")
                                    .optional("id", &IoThrottleArgs::id, "or its id")
                                    .include(&IoThrottleArgs::limits)
                                    .optional("group", &IoThrottleArgs::group, "devices of a group share its limits");
        return set;
    }
};

Task<Result<void>> blockdev_add(Daemon& daemon, BlockdevDefinition node) {
    auto added = co_await daemon.graph().co_blockdev_add(node.definition(), node.typing());
    if (!added)
        co_return std::unexpected(std::move(added.error()));
    co_return Result<void>();
}

Task<Result<void>> blockdev_del(Daemon& daemon, NodeNameArgs args) {
    return daemon.graph().co_blockdev_del(std::move(args.node_name));
}

Task<Result<void>> blockdev_reopen(Daemon& daemon, ReopenArgs args) {
    std::vector<Json> options;
    for (const BlockdevDefinition& node : args.nodes)
        options.push_back(node.definition());
    return daemon.graph().co_blockdev_reopen(std::move(options), Typing::Strict);
}

Result<BlockDriverState*> device_or_node(Daemon& daemon, const std::optional<std::string>& device,
                                         const std::optional<std::string>& node_name) {
    if (device && node_name)
        return fail("Device name and node-name can't be specified at the same time");
    BlockBackend* backend = device ? daemon.graph().find_backend(*device) : nullptr;
    BlockDriverState* node = node_name ? daemon.graph().find_node(*node_name) : backend ? backend->root() : nullptr;
    if (backend && !node)
        return fail("Device '{}' has no medium", *device);
    if (!node)
        return fail("Cannot find device='{}' nor node-name='{}'", device.value_or(""), node_name.value_or(""));
    return node;
}

Task<Result<void>> block_resize(Daemon& daemon, ResizeArgs args) {
    auto node = device_or_node(daemon, args.device, args.node_name);
    if (!node)
        co_return std::unexpected(std::move(node.error()));
    if (args.size < 0)
        co_return fail("Parameter 'size' expects a >0 size");
    BlockBackend backend(daemon.graph(), "", {BlockPerm::Resize, BlockPerm::All});
    if (auto attached = co_await backend.co_attach(**node); !attached)
        co_return attached;
    auto done = co_await backend.co_truncate(args.size, false, PreallocMode::Off);
    if (!done)
        done = std::unexpected(std::move(done.error()).prefixed(fmt::format("Node '{}'", (*node)->node_name())));
    auto detached = co_await backend.co_detach();
    co_return done ? detached : done;
}

Task<Result<std::vector<BlockInfo>>> query_block(Daemon& daemon) {
    std::vector<BlockInfo> list;
    const std::vector<MachineControl::Disk> disks = daemon.machine().disks();
    for (BlockBackend* backend : daemon.graph().backends()) {
        const auto disk = std::ranges::find(disks, backend, &MachineControl::Disk::backend);
        list.push_back(block_info(*backend, disk == disks.end() ? nullptr : &*disk));
    }
    // Those on a node have a backend without a name.
    for (const MachineControl::Disk& disk : disks)
        if (disk.backend->name().empty())
            list.push_back(block_info(*disk.backend, &disk));
    co_return list;
}

Task<Result<std::vector<BlockDeviceInfo>>> query_named_block_nodes(Daemon& daemon, FlatArgs args) {
    std::vector<BlockDeviceInfo> list;
    for (BlockDriverState* node : daemon.graph().nodes())
        if (node->driver_is_open())
            list.push_back(block_device_info(*node, nullptr, !args.flat));
    co_return list;
}

Task<Result<std::vector<BlockStats>>> query_blockstats(Daemon& daemon, QueryNodesArgs args) {
    std::vector<BlockStats> list;
    if (args.query_nodes) {
        for (BlockDriverState* node : daemon.graph().nodes())
            if (node->driver_is_open())
                list.push_back(node_stats(*node, false));
        co_return list;
    }
    for (BlockBackend* backend : daemon.graph().backends())
        list.push_back(backend_stats(*backend));
    for (auto& [id, backend] : daemon.exports().backends()) {
        BlockStats stats = backend_stats(*backend);
        stats.qdev = id;
        list.push_back(std::move(stats));
    }
    co_return list;
}

Task<Result<void>> block_set_io_throttle(Daemon& daemon, IoThrottleArgs args) {
    const auto& name = args.device ? args.device : args.id;
    if (!name || (args.device && args.id))
        co_return fail("Need exactly one of 'device' and 'id'");
    BlockBackend* backend = daemon.graph().find_backend(*name);
    if (!backend)
        co_return std::unexpected(
            Error{fmt::format("Device '{}' not found", *name)}.with_class(ErrorClass::DeviceNotFound));
    if (!backend->root())
        co_return fail("Device '{}' has no medium", *name);
    if (auto set = co_await co_set_io_throttle(*backend, args.limits, args.group, *name); !set)
        co_return set;
    co_return co_await daemon.exports().co_follow_throttle(*backend);
}

}  // namespace

void add_block_commands(QmpCommands& commands, Daemon& daemon) {
    QmpCommands::BlockdevType type{.common = &NodeOptions::options()};
    for (const DriverType* driver : daemon.graph().registry().types())
        type.drivers.push_back({std::string(driver->name), &driver->options()});
    commands.set_blockdev_type(std::move(type));

    commands.add("blockdev-add", daemon, blockdev_add);
    commands.add("blockdev-del", daemon, blockdev_del);
    commands.add("blockdev-reopen", daemon, blockdev_reopen);
    commands.add("block_resize", daemon, block_resize);
    commands.add("block_set_io_throttle", daemon, block_set_io_throttle);
    commands.add("query-block", daemon, query_block);
    commands.add("query-blockstats", daemon, query_blockstats);
    commands.add("query-named-block-nodes", daemon, query_named_block_nodes);
}

}  // namespace ashlar
