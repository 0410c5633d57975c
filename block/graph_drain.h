// What a drained section holds: private to the BlockGraph.
#pragma once

#include "block/block_graph.h"

#include <unordered_set>

namespace ashlar {

struct BlockGraph::DrainedSection {
    BlockGraph& graph;
    std::vector<BlockDriverState*> roots;         // what was asked for
    BlockBackend* only = nullptr;                 // instead of roots: one backend, and none that shares its nodes
    std::unordered_set<BlockBackend*> backends;   // that reach a root: closed
    std::unordered_set<BlockDriverState*> nodes;  // that these reach: may hold no request back

    explicit DrainedSection(BlockGraph& g) : graph(g) {}
    void update();  // to the graph as it is now
    void end();
};

}  // namespace ashlar
