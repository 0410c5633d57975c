#include "block/graph_drain.h"

#include "block/request_throttle.h"

#include <algorithm>

namespace ashlar {

namespace {

void add_subtree(BlockDriverState& node, std::unordered_set<BlockDriverState*>& into) {
    if (!node.driver_is_open() || !into.insert(&node).second)
        return;
    for (const auto& child : node.children())
        add_subtree(child->node(), into);
}

}  // namespace

void BlockGraph::begin_drained(BlockBackend& backend) {
    backend.gate_.close_begin();
    if (backend.throttle_)
        backend.throttle_->drain_begin();
}

void BlockGraph::end_drained(BlockBackend& backend) {
    if (backend.throttle_)
        backend.throttle_->drain_end();
    backend.gate_.open();
}

void BlockGraph::DrainedSection::update() {
    std::unordered_set<BlockBackend*> new_backends;
    std::unordered_set<BlockDriverState*> new_nodes;
    if (only) {
        new_backends.insert(only);
        if (only->root())
            add_subtree(*only->root(), new_nodes);
    }
    for (BlockDriverState* root : roots) {
        add_subtree(*root, new_nodes);
        for (BlockBackend* backend : graph.backends_above(*root)) {
            new_backends.insert(backend);
            add_subtree(*backend->root(), new_nodes);
        }
    }
    // Gates first: what a node lets go must not come back.
    for (BlockBackend* backend : new_backends)
        if (!backends.contains(backend))
            graph.begin_drained(*backend);
    for (BlockDriverState* node : new_nodes)
        if (!nodes.contains(node))
            node->driver().drain_begin();
    for (BlockDriverState* node : nodes)
        if (!new_nodes.contains(node))
            node->driver().drain_end();
    for (BlockBackend* backend : backends)
        if (!new_backends.contains(backend))
            graph.end_drained(*backend);
    backends = std::move(new_backends);
    nodes = std::move(new_nodes);
}

void BlockGraph::DrainedSection::end() {
    std::erase(graph.drained_, this);
    for (BlockDriverState* node : nodes)
        node->driver().drain_end();
    for (BlockBackend* backend : backends)
        graph.end_drained(*backend);
}

void BlockGraph::forget(DrainedSection& section, BlockDriverState& node) {
    std::erase(section.roots, &node);
    section.nodes.erase(&node);
}

void BlockGraph::update_drained() {
    for (DrainedSection* section : drained_)
        section->update();
}

Task<BlockGraph::Drained> BlockGraph::co_drain_section(std::unique_ptr<DrainedSection> section) {
    drained_.push_back(section.get());
    section->update();
    // The set may change while this waits.
    for (;;) {
        auto busy = std::find_if(section->backends.begin(), section->backends.end(),
                                 [](BlockBackend* backend) { return backend->in_flight() > 0; });
        if (busy == section->backends.end())
            break;
        co_await (*busy)->gate_.wait_empty();
    }
    co_return Drained(std::move(section));
}

Task<BlockGraph::Drained> BlockGraph::co_drain(BlockDriverState& node) {
    auto section = std::make_unique<DrainedSection>(*this);
    section->roots.push_back(&node);
    return co_drain_section(std::move(section));
}

Task<BlockGraph::Drained> BlockGraph::co_drain_backend(BlockBackend& backend) {
    auto section = std::make_unique<DrainedSection>(*this);
    section->only = &backend;
    return co_drain_section(std::move(section));
}

Task<BlockGraph::Drained> BlockGraph::co_drain_all() {
    auto section = std::make_unique<DrainedSection>(*this);
    section->roots = nodes();
    return co_drain_section(std::move(section));
}

BlockGraph::Drained::Drained(std::unique_ptr<DrainedSection> section) : section_(std::move(section)) {}
BlockGraph::Drained::Drained(Drained&& other) noexcept = default;

BlockGraph::Drained::~Drained() {
    end();
}

void BlockGraph::Drained::end() {
    if (section_)
        section_->end();
    section_.reset();
}

}  // namespace ashlar
