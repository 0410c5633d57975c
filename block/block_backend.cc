#include "block/block_backend.h"

#include "block/accounting.h"
#include "block/block_graph.h"
#include "block/graph_transaction.h"

#include <algorithm>
#include <cassert>

namespace ashlar {

BlockBackend::BlockBackend(BlockGraph& graph, std::string name, ChildPerm perms)
    : accounting_(std::make_unique<BlockAccounting>()),
      write_allowed_(has(perms.perm, BlockPerm::Write)),
      graph_(graph),
      name_(std::move(name)),
      perms_(perms) {
    graph_.all_backends_.push_back(this);
}

BlockBackend::~BlockBackend() {
    assert(!root_);
    std::erase(graph_.all_backends_, this);
}

std::string BlockBackend::description() const {
    return name_.empty() ? "a block device" : fmt::format("block device '{}'", name_);
}

Task<Result<void>> BlockBackend::co_attach(BlockDriverState& node) {
    assert(!root_);
    co_await gate_.close();
    auto edge = std::make_unique<BdrvChild>(*this, "root", ChildRole::Filtered | ChildRole::Primary);
    Result<void> done;
    {
        GraphTransaction transaction;
        transaction.attach(*edge, node);
        transaction.set_edge_perms(*edge, perms_);
        done = transaction.commit();
    }
    if (done) {
        graph_.ref(node);
        root_ = std::move(edge);
        limits_ = node.merged_limits();
        graph_.update_drained();
    }
    gate_.open();
    co_return done;
}

Task<Result<void>> BlockBackend::co_detach() {
    if (!root_)
        co_return {};
    auto drained = co_await graph_.co_drain_backend(*this);
    BlockDriverState& node = root_->node();
    Result<void> result;
    if (has(perms_.perm, BlockPerm::Write) && !node.is_read_only())
        if (int ret = co_await node.co_flush(); ret < 0)
            result = fail_errno(-ret, "{}: cannot flush", node.filename());
    {
        GraphTransaction transaction;
        transaction.detach(*root_);
        if (auto done = transaction.commit(); !done) {
            if (result)
                result = std::move(done);
            transaction.commit_anyway();
        }
    }
    root_.reset();
    drained.end();
    if (auto closed = co_await graph_.co_unref(node); !closed && result)
        result = std::move(closed);
    co_return result;
}

Result<void> BlockBackend::set_perms(ChildPerm perms) {
    GraphTransaction transaction;
    transaction.set_wish(*this, perms);
    auto done = transaction.commit();
    if (done)
        write_allowed_ = has(perms.perm, BlockPerm::Write);
    return done;
}

int64_t BlockBackend::length() const {
    return root_ ? root_->length() : -ENOMEDIUM;
}

bool BlockBackend::is_read_only() const {
    return !root_ || root_->node().is_read_only();
}

const BlockLimits& BlockBackend::limits() const {
    return limits_;
}

bool BlockBackend::may_have_holes() const {
    return root_ && (root_->node().cow_child() || root_->node().driver().may_have_holes());
}

bool BlockBackend::is_rotational() const {
    return root_ && root_->node().driver().is_rotational();
}

bool BlockBackend::supports_fast_zero() const {
    return root_ && root_->node().driver().supports_fast_zero();
}

bool BlockBackend::can_multi_conn() const {
    return root_ && root_->node().driver().can_multi_conn();
}

}  // namespace ashlar
