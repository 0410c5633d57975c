// Any image, opened to be checked: a check changes nothing, a repair leaves what it says it leaves, and what it has
// declared whole can be written to.
#include <algorithm>
#include <cassert>
#include <cstdint>

#include "block/image_format.h"
#include "block/qcow2.h"
#include "tests/fuzz/memory_driver.h"
#include "util/json.h"
#include "util/sync_wait.h"

using namespace ashlar;

namespace {

struct World {
    std::unique_ptr<AioContext> context;
    DriverRegistry registry;

    World() {
        auto made = AioContext::create(AioContext::EngineKind::Epoll);
        assert(made);
        context = std::move(*made);
        registry.add(kMemoryDriver);
        registry.add(kQcow2Driver);
    }
};

Json node_options(bool writable) {
    return {{"driver", "qcow2"},
            {"node-name", "q"},
            {"read-only", !writable},
            {"backing", nullptr},
            {"l2-cache-size", 4096},
            {"l2-cache-entry-size", 512},
            {"file", Json{{"driver", "memory"}}}};
}

// What the check says; nothing if the image cannot be opened, or the check not be done.
Task<std::optional<ImageCheck>> co_check(BlockGraph& graph, CheckFix fix) {
    NodeFlags flags{.check = true};
    auto node = co_await graph.co_open(node_options(fix != CheckFix::None), Typing::Strict, flags);
    if (!node)
        co_return std::nullopt;
    BlockPerm perm =
        BlockPerm::ConsistentRead | (fix == CheckFix::None ? BlockPerm::None : BlockPerm::Write | BlockPerm::Resize);
    BlockBackend disk(graph, "", {perm, BlockPerm::All});
    std::optional<ImageCheck> result;
    if (co_await disk.co_attach(**node)) {
        auto check = co_await (*node)->driver().image_format()->co_check(fix, [](const std::string&) {});
        if (check)
            result = *check;
        (void)co_await disk.co_detach();
    }
    (void)co_await graph.co_unref(**node);
    co_return result;
}

Task<int> co_write(BlockGraph& graph) {
    auto node = co_await graph.co_open(node_options(true), Typing::Strict, {});
    if (!node)
        co_return 0;  // such as an image that has features which cannot be written
    BlockBackend disk(graph, "", {BlockPerm::ConsistentRead | BlockPerm::Write, BlockPerm::All});
    int ret = 0;
    if (co_await disk.co_attach(**node)) {
        std::vector<std::byte> data(3000, std::byte{0x5a});
        iovec element{data.data(), data.size()};
        if (disk.length() >= 4096)
            ret = co_await disk.co_pwritev(1000, 3000, IoVector(element));
        (void)co_await disk.co_detach();
    }
    (void)co_await graph.co_unref(**node);
    co_return ret;
}

void check_once(World& world) {
    BlockGraph graph(*world.context, world.registry);
    auto run = [&](CheckFix fix) { return sync_wait(*world.context, co_check(graph, fix)); };
    const auto before = g_memory_file.bytes;
    auto found = run(CheckFix::None);
    assert(g_memory_file.bytes == before);
    if (found) {
        if (auto leaks = run(CheckFix::Leaks))
            assert(leaks->corruptions <= found->corruptions + leaks->leaks_fixed);
        if (auto repaired = run(CheckFix::All)) {
            auto again = run(CheckFix::None);
            assert(again);
            if (repaired->corruptions == 0 && repaired->errors == 0) {
                assert(again->corruptions == 0 && again->errors == 0 && again->leaks == repaired->leaks);
                sync_wait(*world.context, co_write(graph));
            }
        }
    }
    auto closed = sync_wait(*world.context, graph.co_close_all());
    assert(closed);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static World world;
    if (size < 72 || size > (1 << 20))
        return 0;
    auto bytes = std::as_bytes(std::span(data, size));
    g_memory_file.bytes.assign(bytes.begin(), bytes.end());
    check_once(world);
    return 0;
}
