// BlockBackend: how a user (an export, a device, a job, a tool) holds a tree of nodes.
//
// Requests may be made from any AioContext, at any time, by any of three interfaces: co_* for coroutines; aio_* with a
// Completion for everyone else in a loop; the blocking ones for tools, which turn the loop of `context` meanwhile. All
// three take the same path: admission (drained sections hold new requests here), checks (medium, range, read-only),
// accounting, throttling, then the root node. Results are 0 or a negative errno: never a short count.
//
// Made, configured and closed in the main context. Buffers and vectors stay valid until the request completes.
#pragma once

#include <memory>
#include <string>

#include "block/block_types.h"
#include "util/completion.h"
#include "util/error.h"
#include "util/gate.h"
#include "util/task.h"

namespace ashlar {

class BlockAccounting;
class BlockDriverState;
class BlockGraph;

class BlockBackend {
public:
    // --- requests, in a coroutine ---
    [[nodiscard]] Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags = {});
    [[nodiscard]] Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags = {});
    [[nodiscard]] Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags = {});
    [[nodiscard]] Task<int> co_pdiscard(int64_t offset, int64_t bytes);
    [[nodiscard]] Task<int> co_flush();
    [[nodiscard]] Task<int> co_truncate(int64_t size, bool exact, PreallocMode prealloc, RequestFlags flags = {});
    // Of the whole chain (backing files included): data or hole, and how deep; at least one byte or an error.
    [[nodiscard]] Task<BlockStatus> co_block_status_above(int64_t offset, int64_t bytes);

    // --- requests, with a callback: never called before these have returned ---
    void aio_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags, Completion& completion);
    void aio_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags, Completion& completion);
    void aio_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags, Completion& completion);
    void aio_pdiscard(int64_t offset, int64_t bytes, Completion& completion);
    void aio_flush(Completion& completion);

    // --- what is there ---
    int64_t length() const;  // bytes, as of now; negative errno without a medium
    bool is_read_only() const;
    const BlockLimits& limits() const;  // the root's, merged with what is below
    bool may_have_holes() const;        // false: co_block_status_above always says Data
    bool is_rotational() const;         // the storage below says that it is a spinning disk
    bool supports_fast_zero() const;    // co_pwrite_zeroes with NoFallback has a chance
    bool can_multi_conn() const;        // a flush by one connection covers writes by all
    BlockDriverState* root() const;
    const std::string& name() const;  // "" when it is not the monitor's
    BlockAccounting& accounting();
};

}  // namespace ashlar
