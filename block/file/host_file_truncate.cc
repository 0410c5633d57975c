#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "block/file/host_file.h"
#include "block/file/probe.h"
#include "block/file/reopen_fd.h"
#include "util/buffer_pool.h"

namespace ashlar {

Task<Result<>> HostFile::co_truncate(int64_t size, bool exact, PreallocMode prealloc) {
    if (!now_.device)
        co_return co_await resize_regular(size, prealloc);
    int64_t now = file_length(fd());
    if (now < 0)
        co_return fail_errno(static_cast<int>(-now), "{}: cannot tell the size of the device", filename_);
    if (prealloc != PreallocMode::Off)
        co_return std::unexpected(Error{
            .message = fmt::format("{}: Preallocation mode unsupported for this device", filename_), .code = ENOTSUP});
    if (size > now)
        co_return std::unexpected(
            Error{.message = fmt::format("{}: Cannot grow device files", filename_), .code = EINVAL});
    if (exact && size != now)
        co_return std::unexpected(
            Error{.message = fmt::format("{}: Cannot resize device files", filename_), .code = ENOTSUP});
    length_.set(now);
    co_return Result<>();
}

Task<Result<>> HostFile::resize_regular(int64_t size, PreallocMode prealloc) {
    int64_t old = file_length(fd());
    if (old < 0)
        co_return fail_errno(static_cast<int>(-old), "{}: cannot tell the size of the file", filename_);
    if (prealloc == PreallocMode::Metadata)
        co_return std::unexpected(
            Error{.message = fmt::format("{}: Unsupported preallocation mode 'metadata'", filename_), .code = ENOTSUP});
    if (prealloc != PreallocMode::Off && size < old)
        co_return std::unexpected(Error{
            .message = fmt::format("{}: Preallocation can't be used for shrinking files", filename_), .code = ENOTSUP});

    forget_data();
    int ret = 0;
    const char* what = "Failed to resize the file";
    if (prealloc == PreallocMode::Off) {
        ret = co_await run_blocking([file = fd(), size] { return ftruncate(file, size) < 0 ? -errno : 0; });
    } else if (size > old && prealloc == PreallocMode::Falloc) {
        what = "Could not preallocate data for the new file";
        ret = co_await allocate(0, old, size - old, can_fallocate_);
        if (ret == -ENOTSUP)
            what = "preallocation=falloc: the file system cannot preallocate";
    } else if (size > old) {
        what = "Could not write zeros for preallocation";
        ret = co_await write_zero_buffers(old, size);
    }
    forget_data();
    if (ret == 0) {
        length_.set(size);
        co_return Result<>();
    }
    std::string undo;
    if (prealloc != PreallocMode::Off) {
        int error = co_await run_blocking([file = fd(), old] { return ftruncate(file, old) < 0 ? errno : 0; });
        if (error)
            undo = fmt::format(" (and its old size could not be restored: {})", strerror(error));
    }
    co_return std::unexpected(
        Error{.message = fmt::format("{}: {}: {}{}", filename_, what, strerror(-ret), undo), .code = -ret});
}

// By a description of its own in the page cache, since O_DIRECT could not begin or end within a block.
Task<int> HostFile::write_zero_buffers(int64_t offset, int64_t end) {
    auto cached = reopen_fd(fd(), filename_, O_WRONLY);
    if (!cached)
        co_return -cached.error().code;
    constexpr int64_t kChunk = 1 << 20;
    Buffer zeroes = Buffer::try_alloc(kChunk);
    if (!zeroes)
        co_return -ENOMEM;
    memset(zeroes.data(), 0, zeroes.size());
    while (offset < end) {
        int n = co_await run_blocking([&] {
            ssize_t ret =
                pwrite(cached->get(), zeroes.data(), static_cast<size_t>(std::min(kChunk, end - offset)), offset);
            return ret < 0 ? -errno : static_cast<int>(ret);
        });
        if (n < 0 && n != -EINTR)
            co_return n;
        offset += std::max(n, 0);
    }
    co_return co_await run_blocking([&] { return fdatasync(cached->get()) < 0 ? -errno : 0; });
}

}  // namespace ashlar
