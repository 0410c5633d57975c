#include "block/file/host_file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "block/file/io_progress.h"
#include "block/file/page_cache.h"
#include "block/file/probe.h"
#include "util/page_pipe.h"

namespace ashlar {

namespace {

bool is_unsupported(int error) {
    return error == -EOPNOTSUPP || error == -ENOSYS || error == -ENOTTY || error == -ENODEV;
}

// A write of so many bytes is worth a call that allocates them first.
constexpr int64_t kAllocateFirst = 256 << 10;

// The system call did nothing and may be made again.
bool is_transient(int result) {
    return result == -EINTR || result == -EAGAIN;
}

}  // namespace

Result<HostFile::Description> HostFile::examine(UniqueFd fd, const std::string& filename, AioMode aio, bool direct) {
    struct stat st;
    if (fstat(fd.get(), &st) < 0)
        return fail_errno(errno, "{}: fstat", filename);
    Description result{.aio = aio, .direct = direct, .device = S_ISBLK(st.st_mode)};
    result.length = file_length(fd.get());
    if (result.length < 0)
        return fail_errno(static_cast<int>(-result.length), "{}: cannot tell its size", filename);
    result.rotational = is_on_rotational_disk(fd.get());
    if (result.device) {
        // Half a sector cannot be discarded, nor zeroed without being written.
        auto sector = static_cast<uint32_t>(std::max<int>(device_sector_size(fd.get()), kSectorSize));
        result.limits.pwrite_zeroes_alignment = result.limits.pdiscard_alignment = sector;
    }
    if (direct) {
        auto alignment = probe_direct_alignment(fd.get(), filename.c_str());
        if (!alignment)
            return std::unexpected(std::move(alignment.error()));
        result.limits.request_alignment = alignment->request;
        result.limits.min_mem_alignment = alignment->memory;
    }
    // Blocks that are all there may be preallocated ones that were never written: only SEEK_HOLE knows.
    result.dense = result.device || (st.st_blocks * 512 >= st.st_size && lseek(fd.get(), 0, SEEK_HOLE) == st.st_size);
    struct statfs fs;
    result.reserves_blocks = !result.device && fstatfs(fd.get(), &fs) == 0 && fs.f_type == EXT4_SUPER_MAGIC;
    if (!direct)
        result.hot = std::make_unique<HotMap>(fd.get(), result.length);
    result.fd = std::move(fd);
    return result;
}

HostFile::HostFile(Description description, std::string filename) : filename_(std::move(filename)) {
    replace(std::move(description));
}

void HostFile::replace(Description description) {
    now_ = std::move(description);
    // Between its description and now the others that are reopened may have written to it.
    if (const int64_t length = file_length(fd()); length >= 0)
        now_.length = length;
    length_.set(now_.length);
    forget_data();
    may_have_holes_ = !now_.dense;
}

int64_t HostFile::allocated_size() const {
    struct stat st;
    return fstat(fd(), &st) < 0 ? -errno : st.st_blocks * 512;
}

bool HostFile::supports_fast_zero() const {
    if (now_.device)
        return can_punch_hole_;
    return can_zero_range_ || (can_punch_hole_ && can_fallocate_);
}

// --- reading and writing ---

// What changes a file through the page cache is not asynchronous: the ring has a thread of the kernel's do it, one
// change of a file after the other. A thread that makes blocking calls itself is better at that.
bool HostFile::changes_here() const {
    return !now_.direct && makes_blocking_calls();
}

Task<int> HostFile::co_preadv(int64_t offset, int64_t bytes, IoVector iov) {
    int n = co_await file_readv(now_.aio, fd(), offset, iov.iov, iov.count);
    if (n == bytes)
        co_return 0;
    co_return co_await read_rest(offset, bytes, iov, n);
}

bool HostFile::try_read_pages(int64_t offset, int64_t bytes, PagePipe& pages) {
    return !now_.direct && is_in_page_cache(fd(), offset, bytes) && pages.add_file(fd(), offset, bytes);
}

const std::byte* HostFile::try_map(int64_t offset, int64_t bytes) {
    return now_.hot ? now_.hot->find(offset, bytes) : nullptr;
}

Task<int> HostFile::read_rest(int64_t offset, int64_t bytes, IoVector iov, int first) {
    IoProgress progress(iov);
    AioMode aio = now_.aio;
    int64_t done = 0;
    for (int n = first;;) {
        if (n < 0 && !is_transient(n))
            co_return n;
        if (n == -EAGAIN)
            aio = AioMode::Threads;  // where a call waits for what it lacks
        if (n > 0) {
            done += n;
            progress.advance(static_cast<size_t>(n));
        }
        if (done == bytes)
            co_return 0;
        // The end of the file: nothing was read, or O_DIRECT read a part of a block.
        if (n == 0 || (n > 0 && done % now_.limits.request_alignment != 0)) {
            progress.fill_zero();
            co_return 0;
        }
        n = co_await file_readv(aio, fd(), offset + done, progress.rest().iov, progress.rest().count);
    }
}

Task<int> HostFile::co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
    bool dsync = has(flags, RequestFlags::Fua) && can_dsync_.load(std::memory_order_relaxed);
    const bool allocate = now_.reserves_blocks && bytes >= kAllocateFirst && changes_here();
    int n = co_await file_writev(aio_for_changes(), fd(), offset, iov.iov, iov.count, dsync ? RWF_DSYNC : 0,
                                 allocate ? bytes : 0);
    if (n == bytes && (dsync || !has(flags, RequestFlags::Fua))) {
        length_.grow_to(offset + bytes);
        co_return 0;
    }
    co_return co_await write_rest(offset, bytes, iov, flags, dsync, n);
}

Task<int> HostFile::write_rest(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags, bool dsync, int first) {
    IoProgress progress(iov);
    AioMode aio = aio_for_changes();
    int64_t done = 0;
    for (int n = first;;) {
        if (n == -EOPNOTSUPP && dsync) {
            dsync = can_dsync_ = false;
        } else if (n < 0 && !is_transient(n)) {
            if (dsync && n == -EIO)  // the others are from before anything was written
                remember_write_back_error(n);
            co_return n;
        } else if (n == 0) {
            co_return -ENOSPC;
        }
        if (n == -EAGAIN)
            aio = AioMode::Threads;
        if (n > 0) {
            done += n;
            progress.advance(static_cast<size_t>(n));
            length_.grow_to(offset + done);
        }
        if (done == bytes)
            break;
        n = co_await file_writev(aio, fd(), offset + done, progress.rest().iov, progress.rest().count,
                                 dsync ? RWF_DSYNC : 0);
    }
    if (has(flags, RequestFlags::Fua) && !dsync)
        co_return co_await co_flush();
    co_return 0;
}

// --- durability ---

// After a failed write-back the kernel takes the pages for clean and reports the error just once: a later fdatasync
// succeeds though the data are lost. O_DIRECT leaves nothing in the page cache to be lost.
void HostFile::remember_write_back_error(int error) {
    if (!now_.direct)
        write_back_error_ = error;
}

Task<int> HostFile::co_flush() {
    if (int error = write_back_error_.load(std::memory_order_acquire); error < 0)
        co_return error;
    int ret;
    do
        ret = co_await file_datasync(now_.aio, fd());
    while (is_transient(ret));
    if (ret < 0)
        remember_write_back_error(ret);
    co_return ret < 0 ? ret : write_back_error_.load(std::memory_order_acquire);
}

Task<int> HostFile::co_prefetch(int64_t offset, int64_t bytes) {
    if (now_.direct)
        co_return 0;
    co_return co_await run_blocking(
        [file = fd(), offset, bytes] { return -posix_fadvise(file, offset, bytes, POSIX_FADV_WILLNEED); });
}

// --- allocation ---

void HostFile::forget_data() {
    may_have_holes_ = true;
    std::lock_guard guard(extent_lock_);
    extent_ = {};
    extent_generation_++;
}

// fallocate(mode), unless `supported` says that it is known not to work.
Task<int> HostFile::allocate(int mode, int64_t offset, int64_t bytes, std::atomic<bool>& supported) {
    if (!supported)
        co_return -ENOTSUP;
    int ret;
    do
        ret = co_await file_fallocate(aio_for_changes(), fd(), mode, offset, bytes);
    while (is_transient(ret));
    if (is_unsupported(ret)) {
        supported = false;
        ret = -ENOTSUP;
    }
    co_return ret;
}

Task<int> HostFile::co_pdiscard(int64_t offset, int64_t bytes) {
    forget_data();
    int ret;
    if (!now_.device) {
        ret = co_await allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes, can_punch_hole_);
    } else {
        ret = co_await run_blocking([file = fd(), offset, bytes] {
            uint64_t range[2] = {static_cast<uint64_t>(offset), static_cast<uint64_t>(bytes)};
            return ioctl(file, BLKDISCARD, range) < 0 ? -errno : 0;
        });
        if (is_unsupported(ret))
            ret = -ENOTSUP;
    }
    forget_data();  // of an answer given meanwhile
    co_return ret;
}

Task<int> HostFile::co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) {
    forget_data();
    int ret = now_.device ? co_await zero_device(offset, bytes, flags) : co_await zero_regular(offset, bytes, flags);
    forget_data();
    if (ret == 0)
        length_.grow_to(offset + bytes);
    if (ret == 0 && has(flags, RequestFlags::Fua))
        ret = co_await co_flush();
    co_return ret;
}

Task<int> HostFile::zero_regular(int64_t offset, int64_t bytes, RequestFlags flags) {
    constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    int ret;
    if (has(flags, RequestFlags::MayUnmap) && offset + bytes <= file_length(fd())) {
        ret = co_await allocate(kPunch, offset, bytes, can_punch_hole_);
        if (ret != -ENOTSUP)
            co_return ret;
    }
    ret = co_await allocate(FALLOC_FL_ZERO_RANGE, offset, bytes, can_zero_range_);
    if (ret != -ENOTSUP && ret != -EINVAL)
        co_return ret;
    if (can_fallocate_) {  // a hole filled again; behind the end there is nothing to punch
        ret = offset < file_length(fd()) ? co_await allocate(kPunch, offset, bytes, can_punch_hole_) : 0;
        if (ret == 0)
            ret = co_await allocate(0, offset, bytes, can_fallocate_);
        co_return ret;
    }
    co_return -ENOTSUP;
}

Task<int> HostFile::zero_device(int64_t offset, int64_t bytes, RequestFlags flags) {
    if ((offset | bytes) % now_.limits.pwrite_zeroes_alignment != 0)
        co_return -ENOTSUP;
    // The kernel fails this one where the device would need to be written to; BLKZEROOUT writes.
    if (has(flags, RequestFlags::MayUnmap)) {
        int ret = co_await allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes, can_punch_hole_);
        if (ret != -ENOTSUP)
            co_return ret;
    }
    if (has(flags, RequestFlags::NoFallback) || !can_zero_range_)
        co_return -ENOTSUP;
    int ret = co_await run_blocking([file = fd(), offset, bytes] {
        uint64_t range[2] = {static_cast<uint64_t>(offset), static_cast<uint64_t>(bytes)};
        return ioctl(file, BLKZEROOUT, range) < 0 ? -errno : 0;
    });
    if (is_unsupported(ret)) {
        can_zero_range_ = false;
        ret = -ENOTSUP;
    }
    co_return ret;
}

// --- block status ---

Task<BlockStatus> HostFile::co_block_status(bool want_zero, int64_t offset, int64_t bytes) {
    auto answer = [offset](unsigned flags, int64_t length) {
        return BlockStatus{.flags = flags | BlockStatus::OffsetValid, .bytes = length, .offset = offset};
    };
    if (!want_zero || !may_have_holes() || !can_seek_data_)
        co_return answer(BlockStatus::Data, bytes);
    unsigned generation;
    {
        std::lock_guard guard(extent_lock_);
        if (offset >= extent_.begin && offset < extent_.end)
            co_return answer(BlockStatus::Data, std::min(bytes, extent_.end - offset));
        generation = extent_generation_;
    }

    struct Found {
        int64_t data;  // where data begin at or after `offset`; negative errno
        int64_t hole;  // where they end, if they begin at `offset`
    };
    auto [data, hole] = co_await run_blocking([file = fd(), offset] {
        Found found{lseek(file, offset, SEEK_DATA), 0};
        if (found.data < 0)
            found.data = -errno;
        else if (found.data == offset && (found.hole = lseek(file, offset, SEEK_HOLE)) < 0)
            found.hole = -errno;
        return found;
    });
    if (data == -ENXIO)  // a hole up to the end
        co_return answer(BlockStatus::Zero, bytes);
    if (data > offset)
        co_return answer(BlockStatus::Zero, std::min(bytes, data - offset));
    if (data < 0 || hole <= offset) {
        if (data == -EINVAL)
            can_seek_data_ = false;
        co_return answer(BlockStatus::Data, bytes);  // always a safe answer
    }
    std::lock_guard guard(extent_lock_);
    if (generation == extent_generation_)
        extent_ = {offset, hole};
    co_return answer(BlockStatus::Data, std::min(bytes, hole - offset));
}

}  // namespace ashlar
