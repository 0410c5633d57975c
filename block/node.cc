#include "block/block_node.h"

#include "block/dirty_bitmap.h"
#include "block/flush_queue.h"
#include "block/node_io.h"
#include "block/request_tracker.h"
#include "util/json.h"

#include <algorithm>
#include <bit>
#include <cassert>

namespace ashlar {

BlockDriverState::BlockDriverState(BlockGraph& graph, std::string node_name, const DriverType& type)
    : tracker_(std::make_unique<RequestTracker>()),
      // Only where a flush costs something: what is above a protocol passes it on.
      flush_queue_(type.is_protocol ? std::make_unique<FlushQueue>() : nullptr),
      graph_(graph),
      node_name_(std::move(node_name)),
      type_(type) {}

BlockDriverState::~BlockDriverState() {
    assert(parents_.empty() && children_.empty());
}

std::string BlockDriverState::description() const {
    return fmt::format("node '{}'", node_name_);
}

BdrvChild* BlockDriverState::find_child(std::string_view name) const {
    auto it = std::find_if(children_.begin(), children_.end(), [&](const auto& c) { return c->name() == name; });
    return it == children_.end() ? nullptr : it->get();
}

BdrvChild* BlockDriverState::child_with(ChildRole role) const {
    auto it = std::find_if(children_.begin(), children_.end(), [&](const auto& c) { return has(c->role(), role); });
    return it == children_.end() ? nullptr : it->get();
}

void BlockDriverState::track_writes() {
    tracks_writes_ = needs_write_care_ = true;
}

void BlockDriverState::copy_on_read() {
    track_writes();
    copies_on_read_ = true;
}

void BlockDriverState::add_dirty_bitmap(std::shared_ptr<DirtyBitmap> bitmap) {
    dirty_bitmaps_.push_back(std::move(bitmap));
    needs_write_care_ = true;
}

void BlockDriverState::remove_dirty_bitmap(const DirtyBitmap& bitmap) {
    std::erase_if(dirty_bitmaps_, [&](const auto& b) { return b.get() == &bitmap; });
    refresh_write_care();
}

// What has been written, as far as the driver got, or may have been.
void BlockDriverState::mark_dirty(int64_t offset, int64_t bytes) {
    for (const auto& bitmap : dirty_bitmaps_)
        bitmap->mark(offset, bytes, driver_->length());
}

void BlockDriverState::refresh_limits() {
    limits_ = driver_->limits();
    limits_.request_alignment = std::max(limits_.request_alignment, 1u);
    limits_.min_mem_alignment = std::max(limits_.min_mem_alignment, 1u);
    limits_.max_iov = limits_.max_iov ? limits_.max_iov : 1024;
    const uint32_t alignment = limits_.request_alignment;
    assert(std::has_single_bit(alignment) && std::has_single_bit(limits_.min_mem_alignment));
    auto whole_blocks = [&](int64_t limit, int64_t unlimited) {
        return limit ? std::max<int64_t>(NodeIo::align_down(limit, alignment), alignment)
                     : NodeIo::align_down(unlimited, alignment);
    };
    max_read_ = max_write_ = whole_blocks(limits_.max_transfer, INT32_MAX);
    limits_.max_pwrite_zeroes = whole_blocks(limits_.max_pwrite_zeroes, 0);
    limits_.max_pdiscard = whole_blocks(limits_.max_pdiscard, 0);
    // A piece that is best would have to be whole blocks, and be allowed.
    auto best = [&](uint32_t wanted, int64_t most) -> uint32_t {
        wanted = (wanted + alignment - 1) / alignment * alignment;
        return most && wanted > most ? alignment : wanted;
    };
    limits_.pwrite_zeroes_alignment = best(limits_.pwrite_zeroes_alignment, limits_.max_pwrite_zeroes);
    limits_.pdiscard_alignment = best(limits_.pdiscard_alignment, limits_.max_pdiscard);

    supported_ = driver_->supported_flags();
    if (flags_.no_flush) {
        supported_.write &= ~RequestFlags::Fua;
        supported_.write_zeroes &= ~RequestFlags::Fua;
    }
    wants_debug_events_ = driver_->wants_debug_events();
    tracks_writes_ = tracks_writes_ || alignment > 1;
    refresh_write_care();
}

void BlockDriverState::refresh_write_care() {
    needs_write_care_ = flags_.read_only || tracks_writes_ || wants_debug_events_ || !dirty_bitmaps_.empty() ||
                        flags_.detect_zeroes != DetectZeroes::Off;
}

BlockLimits BlockDriverState::merged_limits() const {
    auto smaller = [](auto a, auto b) { return a == 0 ? b : b == 0 ? a : std::min(a, b); };
    BlockLimits merged = limits_;
    for (const auto& child : children_) {
        if (has(child->role(), ChildRole::Cow) || has(child->role(), ChildRole::Metadata))
            continue;
        BlockLimits below = child->node().merged_limits();
        merged.min_mem_alignment = std::max(merged.min_mem_alignment, below.min_mem_alignment);
        merged.opt_transfer = std::max(merged.opt_transfer, below.opt_transfer);
        merged.max_transfer = smaller(merged.max_transfer, below.max_transfer);
        merged.max_iov = std::min(merged.max_iov, below.max_iov);
        merged.max_pwrite_zeroes = smaller(merged.max_pwrite_zeroes, below.max_pwrite_zeroes);
        merged.max_pdiscard = smaller(merged.max_pdiscard, below.max_pdiscard);
        merged.pwrite_zeroes_alignment = std::max(merged.pwrite_zeroes_alignment, below.pwrite_zeroes_alignment);
        merged.pdiscard_alignment = std::max(merged.pdiscard_alignment, below.pdiscard_alignment);
    }
    return merged;
}

std::string BlockDriverState::filename() const {
    std::string name = driver_->filename();
    return name.empty() ? "json:" + dump_json(full_options()) : name;
}

void BlockDriverState::describe_options() {
    Json described{{"driver", type_.name}};
    for (const auto& [key, value] : driver_options_->items())
        if (!find_child(key))
            described[key] = value;
    options_ = JsonBox(std::move(described));
}

Json BlockDriverState::full_options() const {
    Json all = *options_;
    // What the image itself names it finds again.
    for (const auto& child : children_)
        if (has(child->role(), ChildRole::Primary) || driver_options_->contains(child->name()))
            all[child->name()] = child->node().full_options();
    return all;
}

}  // namespace ashlar
