#include "block/graph_transaction.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <unordered_set>

namespace ashlar {

namespace {

// QEMU's names, in its order.
std::string perm_names(BlockPerm perms) {
    static constexpr std::array<std::pair<BlockPerm, std::string_view>, 4> kNames{{
        {BlockPerm::ConsistentRead, "consistent read"},
        {BlockPerm::Write, "write"},
        {BlockPerm::WriteUnchanged, "write unchanged"},
        {BlockPerm::Resize, "resize"},
    }};
    std::string out;
    for (auto [perm, name] : kNames) {
        if (!has(perms, perm))
            continue;
        if (!out.empty())
            out += ", ";
        out += name;
    }
    return out;
}

void add_below(BlockDriverState& node, std::unordered_set<BlockDriverState*>& seen,
               std::vector<BlockDriverState*>& postorder) {
    if (!seen.insert(&node).second)
        return;
    for (const auto& child : node.children())
        add_below(child->node(), seen, postorder);
    postorder.push_back(&node);
}

// A write to the last block, if that is not whole, would make the node longer. (Up to a whole sector that goes unsaid.)
Result<void> check_last_block(const BlockDriverState& node, BlockPerm perms) {
    if (!has(perms, BlockPerm::Write) || has(perms, BlockPerm::Resize))
        return {};
    const int64_t end = (node.length() + kSectorSize - 1) / kSectorSize * kSectorSize;
    if (end % node.limits().request_alignment == 0)
        return {};
    return fail("Cannot get 'write' permission without 'resize': Image size is not a multiple of request alignment");
}

Result<void> check_parents(const BlockDriverState& node) {
    for (const BdrvChild* user : node.parents()) {
        const BlockPerm writing = BlockPerm::Write | BlockPerm::WriteUnchanged;
        if ((user->perms().perm & writing) != BlockPerm::None && node.is_read_only())
            return fail("Block node is read-only");
        for (const BdrvChild* other : node.parents()) {
            BlockPerm refused = user->perms().perm & ~other->perms().shared;
            if (other != user && refused != BlockPerm::None)
                return fail("Conflicts with use by {} as '{}', which does not allow '{}' on {}",
                            other->parent().description(), other->name(), perm_names(refused), node.node_name());
        }
    }
    return {};
}

}  // namespace

GraphTransaction::~GraphTransaction() {
    if (committed_)
        return;
    for (BlockDriverState* node : checked_)
        node->driver().abort_perm();
    for (auto undo = undo_.rbegin(); undo != undo_.rend(); ++undo)
        (*undo)();
}

void GraphTransaction::attach(BdrvChild& edge, BlockDriverState& node) {
    assert(!edge.node_);
    edge.node_ = &node;
    node.parents_.push_back(&edge);
    touch(&node);
    touch(edge.parent().as_node());
    undo_later([&edge, &node] {
        std::erase(node.parents_, &edge);
        edge.node_ = nullptr;
    });
}

void GraphTransaction::detach(BdrvChild& edge) {
    BlockDriverState& node = edge.node();
    std::erase(node.parents_, &edge);
    edge.node_ = nullptr;
    touch(&node);
    undo_later([&edge, &node] {
        node.parents_.push_back(&edge);
        edge.node_ = &node;
    });
}

void GraphTransaction::set_wish(BlockBackend& backend, ChildPerm perms) {
    undo_later([&backend, before = backend.perms_] { backend.perms_ = before; });
    backend.perms_ = perms;
    if (backend.root_)
        set_edge_perms(*backend.root_, perms);
    touch(backend.root());
}

void GraphTransaction::set_flags(BlockDriverState& node, NodeFlags flags) {
    undo_later([&node, before = node.flags_] { node.flags_ = before; });
    node.flags_ = flags;
    touch(&node);
}

void GraphTransaction::set_edge_perms(BdrvChild& edge, ChildPerm perms) {
    if (edge.perms_ == perms)
        return;
    undo_later([&edge, before = edge.perms_] { edge.perms_ = before; });
    edge.perms_ = perms;
}

// The parents' permissions are final: takes them together, and says what the node now needs of its children.
Result<void> GraphTransaction::refresh(BlockDriverState& node) {
    ChildPerm together{BlockPerm::None, BlockPerm::All};
    for (const BdrvChild* parent : node.parents_) {
        together.perm = together.perm | parent->perms_.perm;
        together.shared = together.shared & parent->perms_.shared;
    }
    if (auto ok = check_parents(node); !ok)
        return ok;
    if (!node.driver_)
        return {};  // being opened: refreshed when it is there
    if (auto ok = check_last_block(node, together.perm); !ok)
        return ok;
    if (together != node.cumulative_) {
        undo_later([&node, before = node.cumulative_] { node.cumulative_ = before; });
        node.cumulative_ = together;
        if (auto ok = node.driver_->check_perm(together); !ok)
            return ok;
        checked_.push_back(&node);
    }
    for (const auto& child : node.children_)
        if (child->node_)
            set_edge_perms(*child, node.driver_->child_perm(*child, together));
    return {};
}

Result<void> GraphTransaction::commit() {
    std::unordered_set<BlockDriverState*> seen;
    std::vector<BlockDriverState*> order;
    for (BlockDriverState* node : touched_)
        if (node)
            add_below(*node, seen, order);
    std::reverse(order.begin(), order.end());  // parents before children
    for (BlockDriverState* node : order)
        if (auto ok = refresh(*node); !ok)
            return ok;
    committed_ = true;
    for (BlockDriverState* node : checked_)
        node->driver().set_perm(node->cumulative_);
    for (BlockDriverState* node : order)
        node->may_grow_.store(has(node->cumulative_.perm, BlockPerm::Resize), std::memory_order_relaxed);
    if (!order.empty())
        order.front()->graph().update_drained();
    return {};
}

void GraphTransaction::commit_anyway() {
    for (BlockDriverState* node : checked_)
        node->driver().abort_perm();
    committed_ = true;
}

}  // namespace ashlar
