// Transaction: what the actions of one `transaction` have done, and how that is undone or finished.
//
// Everything is drained while it lasts. An action takes effect as far as can be undone and then says, by done(), how
// to; when one has failed co_end() undoes them, the last one first, else it finishes them in order, which cannot fail.
// Main context; other commands may run while an action or co_end() suspends.
#pragma once

#include "block/block_graph.h"

#include <functional>
#include <vector>

namespace ashlar {

class Transaction {
public:
    Transaction(BlockGraph& graph, BlockGraph::Drained drained) : graph_(graph), drained_(std::move(drained)) {}
    Transaction(const Transaction&) = delete;

    // The device or node of that name; it stays until co_end().
    Result<BlockDriverState*> hold(const std::string& name);
    void done(std::function<void()> undo, std::function<void()> finish = {});
    // Once. An error is one of closing a node that nobody else uses any more.
    [[nodiscard]] Task<Result<void>> co_end(bool success);

private:
    struct Step {
        std::function<void()> undo, finish;
    };

    BlockGraph& graph_;
    BlockGraph::Drained drained_;
    std::vector<BlockDriverState*> held_;
    std::vector<Step> steps_;
};

}  // namespace ashlar
