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
#include "util/secrets.h"
#include "util/task_scope.h"

#include <memory>
#include <optional>
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
    Secrets& secrets() { return secrets_; }

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
    // What a node was opened with, its children apart, in the form that co_blockdev_reopen() takes.
    Json given_options(const BlockDriverState& node) const;
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
    friend struct NodeIo;

    struct OpenSpec;
    struct Reopening;
    struct DrainedSection;

    // graph.cc
    Result<BlockDriverState*> add_node(std::optional<std::string> name, const DriverType& type);
    [[nodiscard]] Task<Result<void>> co_close(BlockDriverState& node, bool flush);
    std::vector<BlockBackend*> backends_above(const BlockDriverState& node) const;
    void announce_resize(BlockDriverState& node);  // any context
    void look_anew(BlockDriverState& node);        // the backends above it
    [[nodiscard]] Task<void> co_announce_resize(std::string node_name);
    // graph_open.cc
    [[nodiscard]] Task<Result<BlockDriverState*>> co_open_spec(OpenSpec spec);
    [[nodiscard]] Task<Result<BlockDriverState*>> co_open_complete(Json options, Typing typing);
    [[nodiscard]] Task<Result<BlockDriverState*>> co_open_probed(OpenSpec spec);
    [[nodiscard]] Task<Result<BlockDriverState*>> co_open_node(OpenSpec spec, const DriverType& type, bool probed);
    // graph_reopen.cc
    Result<void> queue_reopen(Reopening& reopening, Json options, Typing typing);
    Result<void> queue_inheriting(Reopening& reopening, size_t index);
    Result<void> change_edges_and_flags(Reopening& reopening);
    [[nodiscard]] Task<Result<void>> co_reopen_drained(Reopening& reopening, std::vector<BlockDriverState*> nodes);
    // graph_drain.cc
    [[nodiscard]] Task<Drained> co_drain_section(std::unique_ptr<DrainedSection> section);
    [[nodiscard]] Task<Drained> co_drain_backend(BlockBackend& backend);
    void update_drained();  // after a change
    static void begin_drained(BlockBackend& backend);
    static void end_drained(BlockBackend& backend);
    static void forget(DrainedSection& section, BlockDriverState& node);

    AioContext& main_context_;
    const DriverRegistry& registry_;
    ThrottleGroups throttle_groups_;
    Secrets secrets_;
    std::vector<std::unique_ptr<BlockDriverState>> nodes_;
    std::vector<BlockBackend*> all_backends_;  // of everyone
    std::vector<std::unique_ptr<BlockBackend>> owned_backends_;
    std::vector<DrainedSection*> drained_;
    CoMutex reopening_;  // one at a time
    TaskScope background_;
    unsigned next_auto_name_ = 0;
};

// A drained section; ended by end(), or when it is destroyed.
class BlockGraph::Drained {
public:
    Drained(Drained&& other) noexcept;
    Drained& operator=(Drained&&) = delete;
    ~Drained();
    void end();

private:
    friend class BlockGraph;
    explicit Drained(std::unique_ptr<DrainedSection> section);
    std::unique_ptr<DrainedSection> section_;
};

}  // namespace ashlar
