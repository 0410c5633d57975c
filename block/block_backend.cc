#include "block/block_backend.h"

#include "block/accounting.h"
#include "block/block_graph.h"
#include "block/graph_transaction.h"

#include <algorithm>
#include <cassert>
#include <cerrno>

namespace ashlar {

BlockBackend::BlockBackend(BlockGraph& graph, std::string name, ChildPerm perms)
    : accounting_(std::make_unique<BlockAccounting>()),
      write_allowed_(has(perms.perm, BlockPerm::Write)),
      graph_(graph),
      name_(std::move(name)),
      perms_(perms) {
    refresh_facts();
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
    root_ = std::make_unique<BdrvChild>(*this, "root", ChildRole::Filtered | ChildRole::Primary);
    Result<void> done;
    {
        GraphTransaction transaction;
        transaction.attach(*root_, node);
        transaction.set_edge_perms(*root_, perms_);
        done = transaction.commit();
    }
    if (done) {
        graph_.ref(node);
        refresh_facts();
        announced_length_ = length();
    } else {
        root_.reset();
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
    refresh_facts();
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

BlockBackend::Facts BlockBackend::facts() const {
    std::lock_guard guard(facts_lock_);
    return facts_;
}

void BlockBackend::refresh_facts() {
    Facts now{.length = -ENOMEDIUM, .read_only = true};
    if (BlockDriverState* node = root()) {
        const BlockDriver& driver = node->driver();
        now = {.length = node->length(),
               .limits = node->merged_limits(),
               .read_only = node->is_read_only(),
               .may_have_holes = node->cow_child() || driver.may_have_holes(),
               .is_rotational = driver.is_rotational(),
               .supports_fast_zero = driver.supports_fast_zero(),
               .can_multi_conn = driver.can_multi_conn()};
    }
    std::lock_guard guard(facts_lock_);
    facts_ = now;
}

void BlockBackend::note_length() {
    std::lock_guard guard(facts_lock_);
    facts_.length = root_->length();
}

int64_t BlockBackend::length() const {
    return facts().length;
}

bool BlockBackend::is_read_only() const {
    return facts().read_only;
}

BlockLimits BlockBackend::limits() const {
    return facts().limits;
}

bool BlockBackend::may_have_holes() const {
    return facts().may_have_holes;
}

bool BlockBackend::is_rotational() const {
    return facts().is_rotational;
}

bool BlockBackend::supports_fast_zero() const {
    return facts().supports_fast_zero;
}

bool BlockBackend::can_multi_conn() const {
    return facts().can_multi_conn;
}

}  // namespace ashlar
