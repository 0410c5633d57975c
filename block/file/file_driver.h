// The protocol drivers `file` and `host_device`: an image in a file or on a disk of the host (docs/block.md).
#pragma once

#include "block/block_driver.h"
#include "block/file/host_file.h"
#include "block/file/image_lock.h"
#include "block/host_storage.h"

#include <atomic>
#include <optional>
#include <string>

namespace ashlar {

constexpr auto enum_names(AioMode) {
    return std::to_array<EnumName<AioMode>>(
        {{AioMode::Threads, "threads"}, {AioMode::Native, "native"}, {AioMode::IoUring, "io_uring"}});
}

struct FileOptions {
    std::string filename;
    LockingMode locking = LockingMode::Auto;
    std::optional<AioMode> aio;  // default: the ring of each AioContext that has one, else threads

    static const OptionSet<FileOptions>& options();
};

class FileDriver final : public BlockDriver, public HostStorage {
public:
    FileDriver(const OpenContext& context, FileOptions options, HostFile::Description description, ImageLock lock);

    Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override;
    bool try_read_pages(int64_t offset, int64_t bytes, PagePipe& pages) override;
    const std::byte* try_map(int64_t offset, int64_t bytes) override;
    Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override;
    Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) override;
    Task<int> co_pdiscard(int64_t offset, int64_t bytes) override;
    Task<int> co_flush() override;
    Task<BlockStatus> co_block_status(bool want_zero, int64_t offset, int64_t bytes) override;
    Task<Result<>> co_truncate(int64_t size, bool exact, PreallocMode prealloc, RequestFlags flags) override;
    int64_t length() const override { return file_.length(); }

    BlockLimits limits() const override { return file_.limits(); }
    SupportedFlags supported_flags() const override;

    Result<void> check_perm(ChildPerm perms) override { return lock_.prepare(perms.perm, perms.shared); }
    void set_perm(ChildPerm) override { lock_.commit(); }
    void abort_perm() override { lock_.abort(); }

    Task<Result<void>> co_reopen_prepare(ReopenContext& context) override;
    void reopen_commit(ReopenContext& context) override;
    void reopen_abort(ReopenContext& context) override;

    std::string filename() const override;
    DiscardCounts discard_counts() const override;
    int64_t allocated_size() const override { return file_.allocated_size(); }
    bool may_have_holes() const override { return file_.may_have_holes(); }
    bool is_rotational() const override { return file_.is_rotational(); }
    bool can_multi_conn() const override { return true; }
    bool supports_fast_zero() const override { return file_.supports_fast_zero(); }

    HostFile& host_file() { return file_; }

private:
    FileOptions options_;
    HostFile file_;
    ImageLock lock_;
    std::atomic<uint64_t> discards_ok_{0}, discards_failed_{0}, discarded_bytes_{0};

    struct Reopening {
        FileOptions options;
        HostFile::Description description;
    };
    std::optional<Reopening> reopening_;
};

extern const DriverType kFileDriver;
extern const DriverType kHostDeviceDriver;

}  // namespace ashlar
