#include "block/qcow2/read.h"

#include "block/io_vector.h"
#include "block/qcow2/compression.h"
#include "util/buffer_pool.h"
#include "util/task_scope.h"
#include "util/thread_pool.h"

#include <cerrno>

namespace ashlar::qcow2 {

namespace {

constexpr unsigned kMaxParallelRuns = 16;

Task<int> co_read_part_of_compressed(Image& image, Run run, int64_t offset, int64_t bytes, IoVector iov) {
    Buffer cluster = Buffer::try_alloc(image.geometry().cluster_size());
    if (!cluster)
        co_return -ENOMEM;
    if (int ret = co_await co_read_compressed(image, run.entry, cluster.span()); ret < 0)
        co_return ret;
    iov_copy_in(iov, 0, cluster.data() + image.geometry().in_cluster(static_cast<uint64_t>(offset)), bytes);
    co_return 0;
}

Task<int> co_debug(BdrvChild& child, BlkdebugEvent event, Task<int> then) {
    if (child.wants_debug_events())
        co_await child.co_debug_event(event);
    co_return co_await std::move(then);
}

Task<int> co_zero(IoVector iov, int64_t bytes) {
    iov_fill_zero(iov, 0, bytes);
    co_return 0;
}

// Of one kind from beginning to end; `iov` is as long as `bytes`.
Task<int> co_read_run(Image& image, BdrvChild* backing, const Run& run, int64_t offset, int64_t bytes, IoVector iov) {
    switch (run.kind) {
        case Kind::Normal: {
            auto then = image.data.co_preadv(static_cast<int64_t>(run.host), bytes, iov);
            if (image.file.wants_debug_events()) [[unlikely]]
                return co_debug(image.file, BlkdebugEvent::ReadAio, std::move(then));
            return then;
        }
        case Kind::Unallocated:
        case Kind::UnallocatedAlloc:
            if (!backing)
                return co_zero(iov, bytes);
            if (image.file.wants_debug_events()) [[unlikely]]
                return co_debug(image.file, BlkdebugEvent::ReadBackingAio, backing->co_preadv(offset, bytes, iov));
            return backing->co_preadv(offset, bytes, iov);
        case Kind::Compressed:
            return co_read_part_of_compressed(image, run, offset, bytes, iov);
        default:
            return co_zero(iov, bytes);
    }
}

// Whether `next` goes on where `run` ends, so that one request reads both.
bool continues(const Run& run, const Run& next) {
    if (run.kind == Kind::Normal)
        return next.kind == Kind::Normal && next.host == run.host + run.bytes;
    return (is_zero(run.kind) && is_zero(next.kind)) || (is_unallocated(run.kind) && is_unallocated(next.kind));
}

struct Pieces {
    Image& image;
    BdrvChild* backing;
    int64_t offset;
    IoVector iov;
    TaskScope scope;
    int ret = 0;
};

Task<void> co_read_piece(Pieces& all, Run run, int64_t done) {
    auto bytes = static_cast<int64_t>(run.bytes);
    IovSlice slice(all.iov, done, bytes);
    int ret = co_await co_read_run(all.image, all.backing, run, all.offset + done, bytes, slice.get());
    if (ret < 0 && all.ret == 0)
        all.ret = ret;
}

// `first` is the run at `offset`, shorter than the request.
Task<int> co_read_pieces(Image& image, BdrvChild* backing, int64_t offset, int64_t bytes, IoVector iov, Run first) {
    Pieces all{image, backing, offset, iov, {}};
    Run run = first;
    int64_t done = 0;
    while (all.ret == 0) {
        int64_t behind = done + static_cast<int64_t>(run.bytes);
        Run next;
        if (behind < bytes) {
            all.ret = co_await image.co_map(static_cast<uint64_t>(offset + behind),
                                            static_cast<uint64_t>(bytes - behind), next);
            if (all.ret < 0)
                break;
            if (continues(run, next)) {
                run.bytes += next.bytes;
                continue;
            }
        }
        if (is_zero(run.kind) || (is_unallocated(run.kind) && !backing)) {
            iov_fill_zero(iov, done, static_cast<int64_t>(run.bytes));
        } else if (behind == bytes) {
            co_await co_read_piece(all, run, done);
        } else {
            if (all.scope.running() >= kMaxParallelRuns)
                co_await all.scope.join();
            all.scope.spawn(co_read_piece(all, run, done));
        }
        if (behind == bytes)
            break;
        run = next;
        done = behind;
    }
    co_await all.scope.join();
    co_return all.ret;
}

// The L2 table is not in memory.
Task<int> co_read_slow(Image& image, BdrvChild* backing, int64_t offset, int64_t bytes, IoVector iov) {
    Run run;
    if (int ret = co_await image.co_map(static_cast<uint64_t>(offset), static_cast<uint64_t>(bytes), run); ret < 0)
        co_return ret;
    if (static_cast<int64_t>(run.bytes) == bytes)
        co_return co_await co_read_run(image, backing, run, offset, bytes, iov);
    co_return co_await co_read_pieces(image, backing, offset, bytes, iov, run);
}

Task<int> co_fail(int ret) {
    co_return ret;
}

}  // namespace

Task<int> co_read(Image& image, BdrvChild* backing, int64_t offset, int64_t bytes, IoVector iov) {
    Run run;
    auto mapped = image.try_map(static_cast<uint64_t>(offset), static_cast<uint64_t>(bytes), run);
    if (!mapped)
        return co_read_slow(image, backing, offset, bytes, iov);
    if (*mapped < 0)
        return co_fail(*mapped);
    if (static_cast<int64_t>(run.bytes) == bytes)
        return co_read_run(image, backing, run, offset, bytes, iov);
    return co_read_pieces(image, backing, offset, bytes, iov, run);
}

Task<int> co_read_compressed(Image& image, L2Entry entry, std::span<std::byte> cluster) {
    CompressedExtent extent = compressed_extent(entry, image.geometry());
    int64_t file_length = image.file.length();
    if (file_length < 0)
        co_return static_cast<int>(file_length);
    if (extent.offset >= static_cast<uint64_t>(file_length))
        co_return image.report_corruption(
            fmt::format("compressed cluster at {:#x} is beyond the end of the file", extent.offset));
    Buffer compressed = Buffer::try_alloc(extent.bytes);
    if (!compressed)
        co_return -ENOMEM;
    if (image.file.wants_debug_events())
        co_await image.file.co_debug_event(BlkdebugEvent::ReadCompressed);
    int ret = co_await image.file.co_pread(static_cast<int64_t>(extent.offset), static_cast<int64_t>(extent.bytes),
                                           compressed.data());
    if (ret < 0)
        co_return ret;
    Compression type = image.compression;
    bool whole =
        co_await run_busy([type, in = compressed.span(), cluster] { return decompress(type, in, cluster); });
    co_return whole ? 0 : -EIO;
}

}  // namespace ashlar::qcow2
