// HostFile: an open regular file or block device, and what it has shown that it can do.
//
// The operations of the `file` and `host_device` drivers, with the kernel's irregularities dealt with: short transfers,
// what the file system does not know (remembered), errors of write-back that the kernel reports only once. Requests
// come from any AioContext at any time; replace() only while there are none. Results are 0 or a negative errno.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "block/block_driver.h"
#include "block/file/hot_map.h"
#include "util/error.h"
#include "util/file_io.h"
#include "util/task.h"
#include "util/unique_fd.h"

namespace ashlar {

class HostFile {
public:
    // One open file description, examined.
    struct Description {
        UniqueFd fd;
        AioMode aio = AioMode::IoUring;
        bool direct = false;  // opened with O_DIRECT
        bool device = false;
        bool rotational = false;
        bool dense = false;  // without holes now
        // The file system reserves each block of what is written by itself, unless it has been allocated before.
        bool reserves_blocks = false;
        int64_t length = 0;
        BlockLimits limits;
        std::unique_ptr<HotMap> hot;  // null with O_DIRECT
    };
    // Makes blocking calls.
    static Result<Description> examine(UniqueFd fd, const std::string& filename, AioMode aio, bool direct);

    HostFile(Description description, std::string filename);

    [[nodiscard]] Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov);     // zeroes behind the end
    [[nodiscard]] bool try_read_pages(int64_t offset, int64_t bytes, PagePipe& pages);  // BlockDriver's
    [[nodiscard]] const std::byte* try_map(int64_t offset, int64_t bytes);              // BlockDriver's
    [[nodiscard]] Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags);
    [[nodiscard]] Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags);
    [[nodiscard]] Task<int> co_pdiscard(int64_t offset, int64_t bytes);
    [[nodiscard]] Task<int> co_flush();
    // By the host: -ENOTSUP if it cannot, and then some of it may have been copied.
    [[nodiscard]] Task<int> co_copy_from(const HostFile& from, int64_t from_offset, int64_t offset, int64_t bytes);
    [[nodiscard]] Task<int> co_prefetch(int64_t offset, int64_t bytes);  // into the page cache
    [[nodiscard]] Task<BlockStatus> co_block_status(bool want_zero, int64_t offset, int64_t bytes);
    // On failure the file has its old size. A device has the size that it has: `exact` asks for just that.
    [[nodiscard]] Task<Result<>> co_truncate(int64_t size, bool exact, PreallocMode prealloc);

    // As of the last change that was made here.
    int64_t length() const { return length_.get(); }
    int64_t allocated_size() const;  // bytes on the disk; negative errno
    const std::string& filename() const { return filename_; }
    const BlockLimits& limits() const { return now_.limits; }
    bool may_have_holes() const { return may_have_holes_.load(std::memory_order_relaxed); }
    bool supports_fast_zero() const;
    bool is_rotational() const { return now_.rotational; }
    bool is_direct() const { return now_.direct; }

    int fd() const { return now_.fd.get(); }
    AioMode aio() const { return now_.aio; }
    // Another description of the same file: with other access rights, mechanism or cache mode.
    void replace(Description description);

private:
    // The last range found to be data: most questions are about what follows the last answer.
    struct DataExtent {
        int64_t begin = 0;
        int64_t end = 0;
    };

    bool changes_here() const;
    AioMode aio_for_changes() const { return changes_here() ? AioMode::Threads : now_.aio; }
    Task<int> read_rest(int64_t offset, int64_t bytes, IoVector iov, int first);
    Task<int> write_rest(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags, bool dsync, int first);
    Task<int> zero_device(int64_t offset, int64_t bytes, RequestFlags flags);
    Task<int> zero_regular(int64_t offset, int64_t bytes, RequestFlags flags);
    Task<int> allocate(int mode, int64_t offset, int64_t bytes, std::atomic<bool>& supported);
    Task<Result<>> resize_regular(int64_t size, PreallocMode prealloc);
    Task<int> write_zero_buffers(int64_t offset, int64_t end);
    void forget_data();  // something may have become a hole
    void remember_write_back_error(int error);

    Description now_;
    const std::string filename_;
    ImageLength length_;

    // Capabilities, true until the kernel says otherwise.
    std::atomic<bool> can_dsync_{true};
    std::atomic<bool> can_punch_hole_{true};
    std::atomic<bool> can_zero_range_{true};
    std::atomic<bool> can_fallocate_{true};
    std::atomic<bool> can_seek_data_{true};
    std::atomic<bool> may_have_holes_{true};

    std::atomic<int> write_back_error_{0};  // negative errno: what was written may be lost, for good

    std::mutex extent_lock_;
    DataExtent extent_;
    unsigned extent_generation_ = 0;
};

}  // namespace ashlar
