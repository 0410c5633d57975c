// Any image, opened to be checked: a check changes nothing, a repair leaves what it says it leaves, and what it has
// declared whole can be written to.
#include <algorithm>
#include <cassert>
#include <cstdint>

#include "tests/fuzz/qcow2_world.h"

using namespace ashlar;

namespace {

Task<int> co_write(BlockGraph& graph) {
    auto node = co_await graph.co_open(Qcow2World::node_options(true), Typing::Strict, {});
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

void check_once(Qcow2World& world) {
    BlockGraph graph(*world.context, world.registry);
    auto run = [&](CheckFix fix) { return world.check(graph, fix); };
    const auto before = g_memory_file.bytes;
    auto found = run(CheckFix::None);
    assert(g_memory_file.bytes == before);
    if (found) {
        if (auto leaks = run(CheckFix::Leaks))
            assert(leaks->corruptions <= found->corruptions + leaks->leaks_fixed);
        if (auto repaired = run(CheckFix::All)) {
            auto again = run(CheckFix::None);
            assert(again);
            if (is_sound(repaired)) {
                assert(is_sound(again) && again->leaks == repaired->leaks);
                sync_wait(*world.context, co_write(graph));
                assert(is_still_sound(run(CheckFix::None)));
            }
        }
    }
    auto closed = sync_wait(*world.context, graph.co_close_all());
    assert(closed);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static Qcow2World world;
    if (size < 72 || size > (1 << 20))
        return 0;
    Qcow2World::load(data, size);
    check_once(world);
    return 0;
}
