// BlockBackend: how a user (an export, a device, a job, a tool) holds a tree of nodes.
//
// Requests may be made from any AioContext, at any time, by any of three interfaces: co_* for coroutines; aio_* with a
// Completion for everyone else in a loop; the blocking ones for tools, which turn the main context's loop meanwhile.
// All three take the same path: admission (drained sections hold new requests here), checks (medium, range, read-only),
// accounting, throttling, then the root node. Results are 0 or a negative errno, never a short count; resizing has a
// Result, whose error says why.
//
// Made, configured and closed in the main context. Buffers and vectors stay valid until the request completes.
#pragma once

#include "block/bdrv_child.h"
#include "block/block_node.h"
#include "block/block_types.h"
#include "block/request_throttle.h"
#include "util/completion.h"
#include "util/error.h"
#include "util/gate.h"
#include "util/task.h"

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace ashlar {

class BlockAccounting;
class BlockDriverState;
class BlockGraph;

class BlockBackend final : public EdgeParent {
public:
    // --- life, in the main context ---
    // Without a root at first. `perms` is what the user is going to do, and what it lets others do meanwhile.
    BlockBackend(BlockGraph& graph, std::string name, ChildPerm perms);
    ~BlockBackend();  // after co_detach(), if it had a root
    // Takes a reference. Fails if the permissions conflict with those of others; if the node is read-only, writing is
    // refused here: "Block node is read-only".
    [[nodiscard]] Task<Result<void>> co_attach(BlockDriverState& node);
    // Waits for the requests, flushes if it could write, and gives the reference back. Errors are those of flushing
    // and closing: the root is gone all the same.
    [[nodiscard]] Task<Result<void>> co_detach();
    [[nodiscard]] Result<void> set_perms(ChildPerm perms);
    ChildPerm perms() const { return perms_; }

    void set_write_cache(bool on) { write_cache_ = on; }  // off: every write is Fua (writethrough)
    bool write_cache() const { return write_cache_; }
    void set_allow_write_beyond_end(bool on) { allow_beyond_end_ = on; }  // for who also has BlockPerm::Resize
    // Called in the main context after the root's length has changed, by whomever.
    void set_resize_hook(std::function<void()> hook) { resize_hook_ = std::move(hook); }
    // Called when a request has failed (a negative errno; not when it was refused before it began), in the context of
    // the request. Set before the first one.
    void set_error_hook(std::function<void(bool is_write, int error)> hook) { error_hook_ = std::move(hook); }
    // Holds requests back for a rate limit; null: none. In a drained section, which is over for what is replaced.
    void set_throttle(std::unique_ptr<RequestThrottle> throttle) { throttle_ = std::move(throttle); }
    RequestThrottle* throttle() const { return throttle_.get(); }

    // --- requests, in a coroutine ---
    [[nodiscard]] Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags = {});
    [[nodiscard]] Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags = {});
    [[nodiscard]] Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags = {});
    [[nodiscard]] Task<int> co_pdiscard(int64_t offset, int64_t bytes);
    [[nodiscard]] Task<int> co_flush();
    [[nodiscard]] Task<Result<>> co_truncate(int64_t size, bool exact, PreallocMode prealloc, RequestFlags flags = {});
    // Of the whole chain (backing files included): data or hole, and how deep; at least one byte or an error.
    [[nodiscard]] Task<BlockStatus> co_block_status_above(int64_t offset, int64_t bytes);

    // --- a read, at once and without copying ---
    // True: the bytes are in `pages`, to be sent to a socket; what is written to them before the peer has received them
    // shows. False: `pages` is to be reset, and the bytes are to be read by one of the other ways, which may be slower.
    [[nodiscard]] bool try_read_pages(int64_t offset, int64_t bytes, PagePipe& pages);
    // Where the bytes are, until `pass` is given up, to which drained sections wait: before whoever holds it waits for
    // anything. Not to be read directly, but by system calls, which say EFAULT when they are no longer there. Null:
    // they are to be read by one of the other ways, and there is no pass.
    [[nodiscard]] const std::byte* try_map(int64_t offset, int64_t bytes, std::optional<Gate::Pass>& pass);

    // --- requests, with a callback: never called before these have returned ---
    void aio_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags, Completion& completion);
    void aio_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags, Completion& completion);
    void aio_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags, Completion& completion);
    void aio_pdiscard(int64_t offset, int64_t bytes, Completion& completion);
    void aio_flush(Completion& completion);

    // --- requests, blocking: in the main context's thread, outside of its loop ---
    [[nodiscard]] int pread(int64_t offset, int64_t bytes, void* data);
    [[nodiscard]] int pwrite(int64_t offset, int64_t bytes, const void* data, RequestFlags flags = {});
    [[nodiscard]] int pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags = {});
    [[nodiscard]] int pdiscard(int64_t offset, int64_t bytes);
    [[nodiscard]] int flush();
    [[nodiscard]] Result<> truncate(int64_t size, bool exact, PreallocMode prealloc);

    // --- what is there: any context; as of the last change that was announced to this backend, or made by it ---
    int64_t length() const;  // bytes; negative errno without a medium
    bool is_read_only() const;
    BlockLimits limits() const;       // the root's, merged with what is below
    bool may_have_holes() const;      // false: co_block_status_above always says Data
    bool is_rotational() const;       // the storage below says that it is a spinning disk
    bool supports_fast_zero() const;  // co_pwrite_zeroes with NoFallback has a chance
    bool can_multi_conn() const;      // a flush by one connection covers writes by all
    // --- main context ---
    BlockDriverState* root() const { return root_ && root_->is_attached() ? &root_->node() : nullptr; }
    const std::string& name() const { return name_; }  // "" when it is not the monitor's
    BlockGraph& graph() const { return graph_; }
    BlockAccounting& accounting() { return *accounting_; }
    unsigned in_flight() const { return gate_.inside(); }  // stale as soon as it is read
    std::string description() const override;
    BlockBackend* as_backend() override { return this; }

private:
    friend class BlockGraph;
    friend class GraphTransaction;
    friend struct BackendIo;  // block/block_backend_io.cc

    // Read by every request.
    Gate gate_;  // closed while drained
    std::unique_ptr<BdrvChild> root_;
    std::unique_ptr<BlockAccounting> accounting_;
    std::unique_ptr<RequestThrottle> throttle_;
    std::atomic<bool> write_allowed_;  // perms_ has Write
    std::atomic<bool> write_cache_ = true;
    bool allow_beyond_end_ = false;
    std::function<void(bool, int)> error_hook_;

    // The main context's.
    BlockGraph& graph_;
    std::string name_;
    ChildPerm perms_;
    std::function<void()> resize_hook_;
    int64_t announced_length_ = 0;

    // What others may ask for while the graph is being changed.
    struct Facts {
        int64_t length;
        BlockLimits limits;
        bool read_only, may_have_holes, is_rotational, supports_fast_zero, can_multi_conn;
    };
    Facts facts() const;
    void refresh_facts();  // main context
    void note_length();    // inside a request
    mutable std::mutex facts_lock_;
    Facts facts_;
};

}  // namespace ashlar
