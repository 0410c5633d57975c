// NbdExport: one disk as NBD clients see it: a name, a BlockBackend and what clients may do with it.
//
// Made and closed in the main context (the server's home); otherwise immutable, and shared by the server and by the
// connections that use it. The server closes it when it is removed. The AioContexts outlive the server.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "block/block_backend.h"
#include "block/node_bitmaps.h"
#include "nbd/handshake.h"
#include "nbd/protocol.h"
#include "util/aio_context.h"
#include "util/error.h"
#include "util/task.h"

namespace ashlar {

struct NbdExportOptions {
    std::string name;
    std::string description;
    bool writable = false;
    bool writethrough = false;          // every write is on stable storage before it is answered
    bool allocation_depth = false;      // offer the metadata context qemu:allocation-depth
    std::vector<BitmapName> bitmaps;    // each offered as qemu:dirty-bitmap:NAME; of the node or what is below it
    std::optional<bool> multi_conn;     // unset: if the backend keeps its promise
    std::vector<AioContext*> contexts;  // its connections are spread over these; none: the server's home context
};

class NbdExport {
public:
    // Fails if the name or the description is not a valid NBD string, if the node has no medium, or if `writable` is
    // asked of a read-only one or conflicts with what others do with it; or if a bitmap is not there, cannot be used,
    // or would change behind the back of clients that may only read.
    static Task<Result<std::shared_ptr<NbdExport>>> co_create(NbdExportOptions options, BlockGraph& graph,
                                                              BlockDriverState& node);
    ~NbdExport();  // after co_close()

    // Lets go of the node, when no connection uses it any more. An error is one of flushing or closing.
    Task<Result<void>> co_close();

    const std::string& name() const { return options_.name; }
    const std::string& description() const { return options_.description; }
    bool is_writable() const { return options_.writable; }
    bool has_allocation_depth() const { return options_.allocation_depth; }
    std::span<const std::shared_ptr<DirtyBitmap>> bitmaps() const { return bitmaps_; }  // busy until it is closed
    BlockBackend& backend() const { return *backend_; }

    // What a client that talks in `style` is told, as of now; `agreed` if it asked for the block sizes and so promised
    // to keep to them.
    nbd::ExportInfo info(nbd::HeaderStyle style, bool has_meta_contexts) const;
    nbd::BlockSizes block_sizes(bool agreed) const;

    // Where the next connection is to run: the contexts in turn.
    AioContext& next_context(AioContext& home);

private:
    NbdExport(NbdExportOptions options, std::unique_ptr<BlockBackend> backend);

    NbdExportOptions options_;
    std::unique_ptr<BlockBackend> backend_;
    std::vector<std::shared_ptr<DirtyBitmap>> bitmaps_;
    size_t next_context_ = 0;
};

}  // namespace ashlar
