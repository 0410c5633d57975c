// GraphTransaction: a change of edges, flags and permissions that happens as a whole, or not at all.
//
// In the main context, without a suspension between the first step and commit(): the steps take effect at once, so that
// the permissions are computed on the graph as it is going to be, and are undone in reverse order when the transaction
// is destroyed without commit(). Who replaces or removes an edge that requests may be using has drained it.
//
// References are the caller's: an edge counts as one, which is why co_unref() of what lost it comes after commit().
#pragma once

#include "block/block_graph.h"

#include <functional>
#include <vector>

namespace ashlar {

class GraphTransaction {
public:
    GraphTransaction() = default;
    GraphTransaction(const GraphTransaction&) = delete;
    ~GraphTransaction();  // rolls back what is not committed

    void attach(BdrvChild& edge, BlockDriverState& node);
    void detach(BdrvChild& edge);
    void set_wish(BlockBackend& backend, ChildPerm perms);
    void set_flags(BlockDriverState& node, NodeFlags flags);
    void set_edge_perms(BdrvChild& edge, ChildPerm perms);  // until its parent's driver is asked for them

    // Computes and checks the permissions of the nodes that the steps touched and of everything below them, and commits
    // if there is no conflict.
    [[nodiscard]] Result<void> commit();
    // For who closes something: the steps stay although commit() has failed.
    void commit_anyway();

private:
    void touch(BlockDriverState* node) { touched_.push_back(node); }
    void undo_later(std::function<void()> undo) { undo_.push_back(std::move(undo)); }
    Result<void> refresh(BlockDriverState& node);

    std::vector<std::function<void()>> undo_;
    std::vector<BlockDriverState*> touched_;
    std::vector<BlockDriverState*> checked_;  // whose driver has to be told how it ends
    bool committed_ = false;
};

}  // namespace ashlar
