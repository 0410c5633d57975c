// A whole image: what opens can be read, written to, cut, flushed and closed, whatever its tables say. If a check finds
// nothing wrong with it, what was written is read back, and a check finds nothing wrong afterwards.
#include <algorithm>
#include <cassert>
#include <cstdint>

#include "tests/fuzz/qcow2_world.h"

using namespace ashlar;

namespace {

constexpr int64_t kMaxRead = 2 << 20;

Task<void> co_read_some(BlockBackend& disk, int64_t offset) {
    int64_t bytes = std::min(disk.length() - offset, kMaxRead);
    if (bytes <= 0)
        co_return;
    std::vector<std::byte> data(static_cast<size_t>(bytes));
    iovec element{data.data(), data.size()};
    co_await disk.co_preadv(offset, bytes, IoVector(element));
    for (int64_t at = offset; at < offset + bytes;) {
        BlockStatus status = co_await disk.co_block_status_above(at, offset + bytes - at);
        if (status.ret < 0)
            break;
        assert(status.bytes > 0);
        at += status.bytes;
    }
}

Task<void> co_write_some(BlockBackend& disk, bool sound, int64_t offset, int64_t bytes) {
    bytes = std::min(disk.length() - offset, bytes);
    if (bytes <= 0)
        co_return;
    std::vector<std::byte> data(static_cast<size_t>(bytes), std::byte{0x5a}), again(data.size());
    iovec element{data.data(), data.size()}, other{again.data(), again.size()};
    if (co_await disk.co_pwritev(offset, bytes, IoVector(element)) < 0)
        co_return;
    int ret = co_await disk.co_preadv(offset, bytes, IoVector(other));
    assert(!sound || (ret == 0 && data == again));
}

Task<void> co_use(BlockBackend& disk, bool sound) {
    int64_t length = disk.length();
    co_await co_read_some(disk, 0);
    co_await co_read_some(disk, std::max<int64_t>(length - kMaxRead, 0) / 512 * 512);
    co_await co_write_some(disk, sound, 1000, 3000);
    co_await co_write_some(disk, sound, length / 2 / 512 * 512, 70'000);
    co_await disk.co_pwrite_zeroes(0, std::min<int64_t>(length, 100'000), RequestFlags::MayUnmap);
    co_await disk.co_flush();
    co_await disk.co_pdiscard(0, std::min<int64_t>(length, 1 << 20));
    (void)co_await disk.co_truncate(length / 2 / 512 * 512, true, PreallocMode::Off);
    (void)co_await disk.co_truncate(length / 2 / 512 * 512 + (1 << 20), true, PreallocMode::Off);
    co_await co_write_some(disk, sound, disk.length() - 5000, 5000);
    co_await disk.co_flush();
}

Task<int> co_try(BlockGraph& graph, bool writable, bool sound) {
    auto node = co_await graph.co_blockdev_add(Qcow2World::node_options(writable), Typing::Strict);
    if (!node)
        co_return 0;
    BlockPerm perm = BlockPerm::ConsistentRead | (writable ? BlockPerm::Write | BlockPerm::Resize : BlockPerm::None);
    BlockBackend disk(graph, "", {perm, BlockPerm::All});
    if (co_await disk.co_attach(**node)) {
        if (writable)
            co_await co_use(disk, sound);
        else
            co_await co_read_some(disk, 0);
        (void)co_await disk.co_detach();
    }
    (void)co_await graph.co_blockdev_del("q");
    co_return 0;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static Qcow2World world;
    if (size < 72 || size > (1 << 20))
        return 0;
    BlockGraph graph(*world.context, world.registry);
    Qcow2World::load(data, size);
    const bool sound = is_sound(world.check(graph, CheckFix::None));
    for (bool writable : {false, true})
        sync_wait(*world.context, co_try(graph, writable, sound));
    assert(!sound || is_still_sound(world.check(graph, CheckFix::None)));
    auto closed = sync_wait(*world.context, graph.co_close_all());
    assert(closed);
    return 0;
}
