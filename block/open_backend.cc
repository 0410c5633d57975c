#include "block/open_backend.h"

#include "util/json.h"
#include "util/report.h"

namespace ashlar {

Task<Result<std::unique_ptr<BlockBackend>>> co_open_backend(BlockGraph& graph, Json options, Typing typing,
                                                            NodeFlags flags, ChildPerm perms) {
    auto node = co_await graph.co_open(std::move(options), typing, flags);
    if (!node)
        co_return std::unexpected(std::move(node.error()));
    auto backend = std::make_unique<BlockBackend>(graph, "", perms);
    auto attached = co_await backend->co_attach(**node);
    if (auto released = co_await graph.co_unref(**node); !released)
        error_report(released.error());
    if (!attached)
        co_return std::unexpected(std::move(attached.error()));
    co_return backend;
}

}  // namespace ashlar
