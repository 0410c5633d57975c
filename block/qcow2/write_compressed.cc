#include "block/io_vector.h"
#include "block/qcow2/compression.h"
#include "block/qcow2/write.h"
#include "block/qcow2/write_state.h"
#include "util/buffer_pool.h"
#include "util/task_scope.h"
#include "util/thread_pool.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace ashlar::qcow2 {

namespace {

constexpr unsigned kParallelClusters = 16;

// Takes room for `bytes` of compressed data of the cluster at `guest`, which nobody else changes from then on.
Task<int> co_take_room(WriteState& state, WriteState::Allocation& allocation, uint64_t bytes, uint64_t& host) {
    for (;;) {
        auto guard = co_await state.allocation_lock.co_lock();
        uint64_t end = allocation.end;
        if (!co_await state.co_may_change(guard, allocation.start, end))
            continue;
        if (state.refcounts.has_many_frees())
            if (int ret = co_await state.co_writeback(); ret < 0)
                co_return ret;
        int ret = co_await state.co_own_l2_table(allocation.start);
        if (ret == 0)
            ret = co_await state.refcounts.co_allocate_bytes(bytes, host);
        if (ret == 0)
            state.allocations.push_back(&allocation);
        co_return ret;
    }
}

// With the lock held.
Task<int> co_link_compressed(Image& image, uint64_t guest, uint64_t descriptor) {
    WriteState& state = *image.writing;
    L2Entry old;
    while (!state.change_entries(guest, 1, [&](uint64_t, const L2Entry& entry) {
        old = entry;
        return L2Entry{descriptor, 0};
    }))
        if (int ret = co_await image.l2_cache.co_load(image.l2_entry_offset(guest)); ret < 0)
            co_return ret;
    state.free_cluster(old);
    co_return 0;
}

// Stores the compressed form of the cluster at `guest`.
Task<int> co_store(Image& image, uint64_t guest, std::span<const std::byte> data) {
    WriteState& state = *image.writing;
    WriteState::Allocation allocation{guest, guest + image.geometry().cluster_size(), {}};
    uint64_t host;
    if (int ret = co_await co_take_room(state, allocation, data.size(), host); ret < 0)
        co_return ret;
    if (image.file.wants_debug_events())
        co_await image.file.co_debug_event(BlkdebugEvent::WriteCompressed);
    int ret = co_await image.file.co_pwrite(static_cast<int64_t>(host), static_cast<int64_t>(data.size()), data.data());

    auto guard = co_await state.allocation_lock.co_lock();
    if (ret == 0)
        ret = co_await co_link_compressed(image, guest, compressed_descriptor(host, data.size(), image.geometry()));
    if (ret < 0)
        state.refcounts.free_later(host, data.size());
    std::erase(state.allocations, &allocation);
    allocation.ended.wake_all();
    co_return ret;
}

// One cluster, or what the disk has of its last one.
Task<int> co_compress_one(Image& image, BdrvChild* backing, int64_t offset, int64_t bytes, IoVector iov) {
    size_t cluster = image.geometry().cluster_size();
    Buffer compressed = Buffer::try_alloc(cluster), whole;
    if (!compressed)
        co_return -ENOMEM;
    std::span<const std::byte> plain;
    if (iov.count == 1 && static_cast<size_t>(bytes) == cluster) {
        plain = {static_cast<const std::byte*>(iov.iov->iov_base), cluster};
    } else {
        whole = Buffer::try_alloc(cluster);
        if (!whole)
            co_return -ENOMEM;
        iov_copy_out(iov, 0, whole.data(), bytes);
        std::memset(whole.data() + bytes, 0, cluster - static_cast<size_t>(bytes));
        plain = whole.span();
    }
    Compression type = image.compression;
    // What does not get smaller is stored as it is.
    size_t size = co_await run_busy(
        [type, in = plain, out = compressed.span().first(cluster - 1)] { return compress(type, in, out); });
    if (size == 0)
        co_return co_await co_write(image, backing, offset, bytes, iov);
    co_return co_await co_store(image, static_cast<uint64_t>(offset), compressed.span().first(size));
}

struct Clusters {
    Image& image;
    BdrvChild* backing;
    IoVector iov;
    TaskScope scope;
    int ret = 0;
};

Task<void> co_compress_part(Clusters& all, int64_t offset, int64_t done, int64_t bytes) {
    IovSlice slice(all.iov, done, bytes);
    int ret = co_await co_compress_one(all.image, all.backing, offset + done, bytes, slice.get());
    if (ret < 0 && all.ret == 0)
        all.ret = ret;
}

}  // namespace

Task<int> co_write_compressed(Image& image, BdrvChild* backing, int64_t offset, int64_t bytes, IoVector iov) {
    const Geometry& geometry = image.geometry();
    if (image.format.data_file)
        co_return -ENOTSUP;
    if (geometry.in_cluster(static_cast<uint64_t>(offset)) != 0 ||
        (geometry.in_cluster(static_cast<uint64_t>(bytes)) != 0 && offset + bytes != image.length.get()))
        co_return -EINVAL;
    auto cluster = static_cast<int64_t>(geometry.cluster_size());
    if (bytes <= cluster)
        co_return co_await co_compress_one(image, backing, offset, bytes, iov);
    Clusters all{image, backing, iov, {}};
    for (int64_t done = 0; done < bytes && all.ret == 0; done += cluster) {
        if (all.scope.running() >= kParallelClusters)
            co_await all.scope.join();
        all.scope.spawn(co_compress_part(all, offset, done, std::min(cluster, bytes - done)));
    }
    co_await all.scope.join();
    co_return all.ret;
}

}  // namespace ashlar::qcow2
