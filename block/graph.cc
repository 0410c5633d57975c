#include "block/block_graph.h"

#include "block/graph_transaction.h"
#include "block/request_tracker.h"
#include "util/json.h"
#include "util/report.h"

#include <algorithm>
#include <cassert>
#include <unordered_set>

namespace ashlar {

namespace {

constexpr size_t kMaxNodeName = 31;

// A letter, then letters, digits, and "-._"
bool is_well_formed(std::string_view id) {
    auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
    return !id.empty() && letter(id[0]) && std::all_of(id.begin(), id.end(), [&](char c) {
        return letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
    });
}

void keep_first(Result<void>& result, Result<void> other) {
    if (result && !other)
        result = std::move(other);
}

}  // namespace

BlockGraph::BlockGraph(AioContext& main_context, const DriverRegistry& registry)
    : main_context_(main_context), registry_(registry) {}

BlockGraph::~BlockGraph() {
    assert(nodes_.empty() && all_backends_.empty() && drained_.empty());
}

// --- nodes ---

Result<BlockDriverState*> BlockGraph::add_node(std::optional<std::string> name, const DriverType& type) {
    if (!name) {
        do
            name = fmt::format("#block{:03}", next_auto_name_++);
        while (find_node(*name));
    } else if (!is_well_formed(*name) || name->size() > kMaxNodeName) {
        return fail("Invalid node-name: '{}'", *name);
    } else if (find_backend(*name)) {
        return fail("node-name={} is conflicting with a device id", *name);
    }
    for (const auto& node : nodes_)
        if (node->node_name() == *name)
            return fail("Duplicate nodes with node-name='{}'", *name);
    auto& node = nodes_.emplace_back(std::make_unique<BlockDriverState>(*this, std::move(*name), type));
    node->references_ = 1;
    return node.get();
}

void BlockGraph::ref(BlockDriverState& node) {
    assert(node.references_ > 0);
    ++node.references_;
}

Task<Result<void>> BlockGraph::co_unref(BlockDriverState& node) {
    assert(main_context_.in_own_thread() && node.references_ > 0);
    if (--node.references_ > 0)
        co_return {};
    co_return co_await co_close(node, true);
}

// Without references; with or without a driver. Its name is taken until the end.
Task<Result<void>> BlockGraph::co_close(BlockDriverState& node, bool flush) {
    assert(node.references_ == 0 && node.parents_.empty());
    Result<void> result;
    if (node.driver_) {
        if (flush && !node.is_read_only())
            if (int ret = co_await node.co_flush(); ret < 0)
                result = fail_errno(-ret, "{}: cannot flush", node.filename());
        if (int ret = co_await node.driver_->co_close(); ret < 0)
            keep_first(result, fail_errno(-ret, "{}: cannot close", node.filename()));
    }
    std::vector<BlockDriverState*> below;
    {
        GraphTransaction transaction;
        for (const auto& edge : node.children_) {
            below.push_back(&edge->node());
            transaction.detach(*edge);
        }
        // Giving up permissions; should a driver object, the edges still have to go.
        if (auto done = transaction.commit(); !done) {
            keep_first(result, std::move(done));
            transaction.commit_anyway();
        }
    }
    for (DrainedSection* section : drained_)
        forget(*section, node);
    node.children_.clear();
    node.driver_.reset();
    for (BlockDriverState* child : below) {
        if (child->inherits_from_ == &node)
            child->stop_inheriting();
        keep_first(result, co_await co_unref(*child));
    }
    std::erase_if(nodes_, [&](const auto& n) { return n.get() == &node; });
    co_return result;
}

BlockDriverState* BlockGraph::find_node(std::string_view node_name) const {
    auto it = std::find_if(nodes_.begin(), nodes_.end(), [&](const auto& node) {
        return node->node_name() == node_name && node->references_ > 0 && node->driver_;
    });
    return it == nodes_.end() ? nullptr : it->get();
}

std::vector<BlockDriverState*> BlockGraph::nodes() const {
    std::vector<BlockDriverState*> all;
    for (const auto& node : nodes_)
        if (node->references_ > 0 && node->driver_)
            all.push_back(node.get());
    return all;
}

Result<BlockDriverState*> BlockGraph::find_device_or_node(std::string_view name) const {
    if (BlockBackend* backend = find_backend(name)) {
        if (!backend->root())
            return fail("Device '{}' has no medium", name);
        return backend->root();
    }
    if (BlockDriverState* node = find_node(name))
        return node;
    return fail("Cannot find device='{}' nor node-name='{}'", name, name);
}

Task<Result<BlockDriverState*>> BlockGraph::co_blockdev_add(Json options, Typing typing) {
    const Json* name = json_find(options, "node-name");
    if (!name)
        co_return fail("'node-name' must be specified for the root node");
    auto node = co_await co_open_complete(std::move(options), typing);
    if (node)
        (*node)->monitor_owned_ = true;
    co_return node;
}

Task<Result<void>> BlockGraph::co_blockdev_del(std::string node_name) {
    BlockDriverState* node = find_node(node_name);
    if (!node)
        co_return fail("Failed to find node with node-name='{}'", node_name);
    for (const BdrvChild* parent : node->parents_)
        if (const BlockBackend* backend = parent->parent().as_backend(); backend && !backend->name().empty())
            co_return fail("Node {} is in use", node_name);
    if (!node->monitor_owned_)
        co_return fail("Node {} is not owned by the monitor", node_name);
    if (node->references_ > 1)
        co_return fail("Block device {} is in use", node_name);
    node->monitor_owned_ = false;
    co_return co_await co_unref(*node);
}

// --- backends ---

Result<BlockBackend*> BlockGraph::add_backend(std::string name, ChildPerm perms) {
    if (!is_well_formed(name))
        return fail("Invalid device name: '{}'", name);
    if (find_backend(name))
        return fail("Device with id '{}' already exists", name);
    if (find_node(name))
        return fail("Device name '{}' conflicts with an existing node name", name);
    return owned_backends_.emplace_back(std::make_unique<BlockBackend>(*this, std::move(name), perms)).get();
}

BlockBackend* BlockGraph::find_backend(std::string_view name) const {
    for (BlockBackend* backend : all_backends_)
        if (!name.empty() && backend->name() == name)
            return backend;
    return nullptr;
}

std::vector<BlockBackend*> BlockGraph::backends() const {
    std::vector<BlockBackend*> named;
    for (BlockBackend* backend : all_backends_)
        if (!backend->name().empty())
            named.push_back(backend);
    return named;
}

Task<Result<void>> BlockGraph::co_remove_backend(BlockBackend& backend) {
    Result<void> result = co_await backend.co_detach();
    std::erase_if(owned_backends_, [&](const auto& owned) { return owned.get() == &backend; });
    co_return result;
}

Task<Result<void>> BlockGraph::co_close_all() {
    Result<void> result;
    while (!owned_backends_.empty())
        keep_first(result, co_await co_remove_backend(*owned_backends_.back()));
    for (bool found = true; found;) {
        found = false;
        for (const auto& node : nodes_) {
            if (!node->monitor_owned_)
                continue;
            node->monitor_owned_ = false;
            keep_first(result, co_await co_unref(*node));
            found = true;
            break;
        }
    }
    co_await background_.join();
    for (const auto& node : nodes_)
        keep_first(result, fail("Node '{}' is still in use", node->node_name()));
    co_return result;
}

// --- resizing ---

void BlockGraph::announce_resize(BlockDriverState& node) {
    background_.spawn_on(main_context_, co_announce_resize(node.node_name()));
}

Task<void> BlockGraph::co_announce_resize(std::string node_name) {
    if (BlockDriverState* node = find_node(node_name))
        look_anew(*node);
    co_return;
}

void BlockGraph::look_anew(BlockDriverState& node) {
    for (BlockBackend* backend : backends_above(node)) {
        backend->refresh_facts();
        if (int64_t length = backend->length(); std::exchange(backend->announced_length_, length) != length)
            if (backend->resize_hook_)
                backend->resize_hook_();
    }
}

std::vector<BlockBackend*> BlockGraph::backends_above(const BlockDriverState& node) const {
    std::vector<BlockBackend*> found;
    std::unordered_set<const BlockDriverState*> seen{&node};
    std::vector<const BlockDriverState*> unvisited{&node};
    while (!unvisited.empty()) {
        const BlockDriverState* at = unvisited.back();
        unvisited.pop_back();
        for (const BdrvChild* edge : at->parents_) {
            if (BlockBackend* backend = edge->parent().as_backend())
                found.push_back(backend);
            else if (const BlockDriverState* above = edge->parent().as_node(); seen.insert(above).second)
                unvisited.push_back(above);
        }
    }
    return found;
}

}  // namespace ashlar
