// BlockDriverState: a node of the graph, with the generic request path in front of its driver.
//
// Nodes are made by BlockGraph and live while they are referenced: by the edges that lead to them, by the monitor (a
// node that was added by name), and by BlockGraph::ref(). Everything but the requests belongs to the main context.
// Requests may be made from any AioContext, without a lock; they come through an edge (BdrvChild), from a parent that
// is held back while the node is drained.
#pragma once

#include "block/bdrv_child.h"
#include "block/block_driver.h"
#include "block/block_types.h"
#include "block/node_flags.h"

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace ashlar {

class BlockBackend;
class DirtyBitmap;
class FlushQueue;
class RequestTracker;

// What edges go out from: a node or a BlockBackend.
class EdgeParent {
public:
    virtual std::string description() const = 0;  // for messages: "node 'fmt0'", "block device 'drive0'"
    virtual BlockDriverState* as_node() { return nullptr; }
    virtual BlockBackend* as_backend() { return nullptr; }

protected:
    ~EdgeParent() = default;
};

class BlockDriverState final : public EdgeParent {
public:
    BlockDriverState(BlockGraph& graph, std::string node_name, const DriverType& type);
    ~BlockDriverState();

    // --- what it is ---
    BlockGraph& graph() const { return graph_; }
    const std::string& node_name() const { return node_name_; }
    bool has_auto_name() const { return node_name_.starts_with('#'); }
    const DriverType& type() const { return type_; }
    BlockDriver& driver() const { return *driver_; }
    bool driver_is_open() const { return driver_ != nullptr; }  // false while the node is being opened or closed
    const NodeFlags& flags() const { return flags_; }
    bool is_read_only() const { return flags_.read_only; }
    const JsonBox& options() const { return options_; }  // what it was opened with, but for the children
    Json full_options() const;                           // the same with the children's, nested
    std::string filename() const;  // driver().filename(), or a `json:` name, so that it is never empty
    std::span<const std::unique_ptr<BdrvChild>> children() const { return children_; }
    std::span<BdrvChild* const> parents() const { return parents_; }
    BdrvChild* find_child(std::string_view name) const;
    BdrvChild* primary_child() const { return child_with(ChildRole::Primary); }  // or null
    BdrvChild* cow_child() const { return child_with(ChildRole::Cow); }          // the backing file, or null
    ChildPerm cumulative_perms() const { return cumulative_; }
    const BlockLimits& limits() const { return limits_; }  // its own: what lies below sees to its own
    BlockLimits merged_limits() const;                     // with those below: what is best for a request to be
    bool is_monitor_owned() const { return monitor_owned_; }
    // A raw image whose format was guessed: nothing may turn its first sector into another format's header.
    bool is_probed_raw() const { return probed_raw_; }
    std::string description() const override;
    BlockDriverState* as_node() override { return this; }

    // --- requests (any context) ---
    [[nodiscard]] Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags);
    [[nodiscard]] bool try_read_pages(int64_t offset, int64_t bytes, PagePipe& pages);  // BlockDriver's
    [[nodiscard]] const std::byte* try_map(int64_t offset, int64_t bytes);              // BlockDriver's
    [[nodiscard]] Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags);
    [[nodiscard]] Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags);
    [[nodiscard]] Task<int> co_pdiscard(int64_t offset, int64_t bytes);
    [[nodiscard]] Task<int> co_flush();
    [[nodiscard]] Task<Result<>> co_truncate(int64_t size, bool exact, PreallocMode prealloc, RequestFlags flags);
    // Of this layer: `offset` in the result is in the file below; `Raw` has been followed.
    [[nodiscard]] Task<BlockStatus> co_block_status(bool want_zero, int64_t offset, int64_t bytes);
    // Of the chain of backing files; `depth` counts the layers down to the one that has the data.
    [[nodiscard]] Task<BlockStatus> co_block_status_above(bool want_zero, int64_t offset, int64_t bytes);
    int64_t length() const { return driver_->length(); }
    // Emits `event` if blkdebug is this node's driver.
    bool wants_debug_events() const { return wants_debug_events_; }

    // Whether writes are tracked, so that requests with RequestFlags::Serialising may be made: always where the
    // alignment is more than a byte, else after this, in a drained section.
    void track_writes();

    // From now on a read writes what comes from a backing file to this node: -drive copy-on-read=on. In a drained
    // section; somebody above has WriteUnchanged.
    void copy_on_read();

    // --- dirty bitmaps (block/node_bitmaps.h): the list changes in a drained section ---
    std::span<const std::shared_ptr<DirtyBitmap>> dirty_bitmaps() const { return dirty_bitmaps_; }
    void add_dirty_bitmap(std::shared_ptr<DirtyBitmap> bitmap);
    void remove_dirty_bitmap(const DirtyBitmap& bitmap);

private:
    friend class BlockGraph;
    friend class GraphTransaction;
    friend class OpenContext;
    friend struct NodeIo;  // block/io_*.cc

    BdrvChild* child_with(ChildRole role) const;
    void refresh_limits();
    void refresh_write_care();
    void mark_dirty(int64_t offset, int64_t bytes);
    void describe_options();
    void stop_inheriting();

    // Read by every request, changed only when drained.
    std::unique_ptr<BlockDriver> driver_;
    BlockLimits limits_;
    SupportedFlags supported_;
    int64_t max_read_ = 0, max_write_ = 0;  // what goes to the driver without splitting
    bool tracks_writes_ = false;
    bool copies_on_read_ = false;
    bool needs_write_care_ = false;  // a write must not go to the driver at once, whatever it is
    bool wants_debug_events_ = false;
    bool probed_raw_ = false;
    std::atomic<bool> may_grow_ = false;  // by writes behind its end
    NodeFlags flags_;
    std::vector<std::shared_ptr<DirtyBitmap>> dirty_bitmaps_;

    std::unique_ptr<RequestTracker> tracker_;
    std::unique_ptr<FlushQueue> flush_queue_;

    // The main context's.
    BlockGraph& graph_;
    std::string node_name_;
    const DriverType& type_;
    JsonBox options_;
    NodeOptions node_options_;                   // as given; what is not is inherited or a default
    JsonBox driver_options_;                     // as given
    Typing typing_ = Typing::Strict;             // of driver_options_
    BlockDriverState* inherits_from_ = nullptr;  // the parent that it was opened for
    ChildRole inherits_as_ = ChildRole::None;
    NodeFlags base_flags_;  // what it inherits if that is no node
    std::vector<std::unique_ptr<BdrvChild>> children_;
    std::vector<BdrvChild*> parents_;
    ChildPerm cumulative_{BlockPerm::None, BlockPerm::All};
    unsigned references_ = 0;
    bool monitor_owned_ = false;
};

}  // namespace ashlar
