// BlockFixture: an AioContext, the drivers and an empty graph, for a test of the block layer.
#pragma once

#include "block/block_graph.h"
#include "tests/unit/assert_text.h"
#include "tests/unit/mock_driver.h"
#include "util/json.h"
#include "util/sync_wait.h"

#include <glib.h>

#include <memory>
#include <string>
#include <string_view>

namespace ashlar {

struct BlockFixture {
    std::unique_ptr<AioContext> context;
    DriverRegistry registry;
    std::unique_ptr<BlockGraph> graph;

    BlockFixture() {
        auto made = AioContext::create();
        g_assert_true(made.has_value());
        context = std::move(*made);
        register_all_drivers(registry);
        registry.add(kMockDriver);
        graph = std::make_unique<BlockGraph>(*context, registry);
    }
    ~BlockFixture() {
        check(run(graph->co_close_all()));
        graph.reset();
    }

    template <class T>
    T run(Task<T> task) {
        return sync_wait(*context, std::move(task));
    }

    template <class T>
    static T check(Result<T> result) {
        if (!result)
            g_error("%s", result.error().message.c_str());
        if constexpr (!std::is_void_v<T>)
            return std::move(*result);
    }

    // As in blockdev-add, with single quotes for double ones.
    BlockDriverState& add(std::string_view options) {
        return *check(run(graph->co_blockdev_add(check(parse_json_object(options)), Typing::Strict)));
    }
    std::string add_error(std::string_view options) {
        auto node = run(graph->co_blockdev_add(check(parse_json_object(options)), Typing::Strict));
        g_assert_false(node.has_value());
        return node.error().message;
    }
    void del(std::string name) { check(run(graph->co_blockdev_del(std::move(name)))); }

    static constexpr ChildPerm kReadWrite{BlockPerm::ConsistentRead | BlockPerm::Write, BlockPerm::All};
    static constexpr ChildPerm kReadOnly{BlockPerm::ConsistentRead, BlockPerm::All};

    std::unique_ptr<BlockBackend> attach(BlockDriverState& node, ChildPerm perms = kReadWrite) {
        auto backend = std::make_unique<BlockBackend>(*graph, "", perms);
        check(run(backend->co_attach(node)));
        return backend;
    }
    void detach(std::unique_ptr<BlockBackend>& backend) {
        check(run(backend->co_detach()));
        backend.reset();
    }
};

}  // namespace ashlar
