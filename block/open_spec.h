// What is to be opened, on its way through graph_open.cc.
#pragma once

#include "block/block_graph.h"
#include "util/json.h"

namespace ashlar {

struct BlockGraph::OpenSpec {
    Json options;  // of the node and its children
    Typing typing = Typing::Strict;
    NodeFlags base;                      // what is not said in the options
    BlockDriverState* parent = nullptr;  // that it is opened for, and whose flags `base` was made from
    ChildRole role = ChildRole::None;
    bool protocol = false;  // without `driver` it is a protocol; else an image, whose format is probed
    bool complete = false;  // `driver` must be given everywhere, as in blockdev-add
};

// What a child has from its parent if its options do not say otherwise.
NodeFlags inherited_flags(const NodeFlags& parent, ChildRole role);
// What the options of a node come to. Fails where they contradict each other.
Result<NodeFlags> resolve_flags(const NodeOptions& options, NodeFlags base);

}  // namespace ashlar
