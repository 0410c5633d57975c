// BlockGraph: all nodes and BlockBackends of a program, by name, and every change to how they are connected.
//
// main() makes one, with the registry of drivers; there may be several. Used in the main context only, by its
// coroutines. A change (opening, closing, attaching, reopening) checks permissions, drains what it touches, and is then
// there as a whole, or not at all.
#pragma once

#include "block/block_backend.h"
#include "block/block_driver.h"
#include "block/block_node.h"
#include "block/throttle_groups.h"
#include "util/co_mutex.h"
#include "util/error.h"
#include "util/json_fwd.h"
#include "util/task_scope.h"

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ashlar {

class BlockGraph {
public:
    // Both outlive the graph.
    BlockGraph(AioContext& main_context, const DriverRegistry& registry);
    ~BlockGraph();  // after co_close_all()
    BlockGraph(const BlockGraph&) = delete;

    AioContext& main_context() const { return main_context_; }
    const DriverRegistry& registry() const { return registry_; }
    ThrottleGroups& throttle_groups() { return throttle_groups_; }

    // --- opening and closing ---
    // Opens a tree of nodes. `options` is an object as for blockdev-add; but `driver` may be left out, with `filename`
    // naming a file or (in legacy syntax) a protocol, or "json:{...}": then the protocol comes from the name and the
    // format is probed. `base` is what is not said in the options. The caller owns one reference.
    [[nodiscard]] Task<Result<BlockDriverState*>> co_open(Json options, Typing typing, NodeFlags base = {});
    void ref(BlockDriverState& node);
    // Gives a reference back; the last one closes the node, and what only it refers to. An error is one of flushing or
    // of the driver's close(): the node is gone all the same.
    [[nodiscard]] Task<Result<void>> co_unref(BlockDriverState& node);
    // At exit: closes the backends and nodes that the monitor owns; whatever others hold must be gone.
    [[nodiscard]] Task<Result<void>> co_close_all();

    // --- nodes by name; the monitor's commands ---
    BlockDriverState* find_node(std::string_view node_name) const;
    std::vector<BlockDriverState*> nodes() const;  // in the order in which they were made
    // What `device` means in QMP: a backend's name first, else a node-name. "Cannot find device='x' nor node-name='x'"
    Result<BlockDriverState*> find_device_or_node(std::string_view name) const;
    [[nodiscard]] Task<Result<BlockDriverState*>> co_blockdev_add(Json options, Typing typing);
    [[nodiscard]] Task<Result<void>> co_blockdev_del(std::string node_name);
    // Each of `options` is complete, as for blockdev-add, with `node-name`; all change or none.
    [[nodiscard]] Task<Result<void>> co_blockdev_reopen(std::vector<Json> options, Typing typing);

    // --- backends ---
    // One that the monitor owns (-drive id=): with a name, found by it. The name is free: "Device with id 'x' already
    // exists"...
    Result<BlockBackend*> add_backend(std::string name, ChildPerm perms);
    BlockBackend* find_backend(std::string_view name) const;
    std::vector<BlockBackend*> backends() const;  // those with a name, in the order in which they were made
    [[nodiscard]] Task<Result<void>> co_remove_backend(BlockBackend& backend);

    // --- draining ---
    // On return no request is inside any node that shares a BlockBackend with `node`, and new ones wait. Nests.
    class Drained;
    [[nodiscard]] Task<Drained> co_drain(BlockDriverState& node);
    [[nodiscard]] Task<Drained> co_drain_all();

private:
    friend class BlockBackend;
    friend class BlockDriverState;
    friend class GraphTransaction;
    friend class OpenContext;

    AioContext& main_context_;
    const DriverRegistry& registry_;
    ThrottleGroups throttle_groups_;
    std::vector<std::unique_ptr<BlockDriverState>> nodes_;
    std::vector<BlockBackend*> all_backends_;  // of everyone
    std::vector<std::unique_ptr<BlockBackend>> owned_backends_;
    CoMutex changing_;  // one change of the graph at a time
    unsigned next_auto_name_ = 0;
};

// A drained section; ended by end(), or when it is destroyed.
class BlockGraph::Drained {
public:
    Drained(Drained&& other) noexcept = default;
    Drained& operator=(Drained&&) = delete;
    ~Drained() { end(); }
    void end();

private:
    friend class BlockGraph;
    Drained() = default;
    std::vector<BlockBackend*> backends_;
    std::vector<BlockDriverState*> nodes_;
};

}  // namespace ashlar
