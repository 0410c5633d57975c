// The filter `preallocate`, for between a format and its file: a file that grows by being written is made longer than
// it need be, in few large steps, so that the file system allocates contiguous space and not a piece for each write.
//
// What is above sees the file as long as it has made it. The rest is cut off when the node is closed or becomes
// read-only; after a crash it stays.
#include <algorithm>

#include "block/filter/filter_driver.h"
#include "block/filter/filters.h"
#include "block/keep_options.h"
#include "util/co_mutex.h"

namespace ashlar {

namespace {

struct PreallocateOptions {
    BlockdevRef file;
    Size prealloc_align{1 << 20};
    Size prealloc_size{128 << 20};

    static const OptionSet<PreallocateOptions>& options() {
        using O = PreallocateOptions;
        static const auto set =
            OptionSet<O>("preallocate")
                .required("file", &O::file, "the file that grows")
                .optional("prealloc-align", &O::prealloc_align, "multiple to which its length is rounded up")
                .optional("prealloc-size", &O::prealloc_size, "how much to allocate beyond what is written");
        return set;
    }
    Result<void> check() const {
        if (prealloc_align == 0 || prealloc_align % kSectorSize != 0)
            return fail("prealloc-align parameter of preallocate filter is not aligned to {}", kSectorSize);
        if (prealloc_align > static_cast<uint64_t>(kMaxLength) || prealloc_size > static_cast<uint64_t>(kMaxLength))
            return fail("prealloc-align and prealloc-size expect at most {}", kMaxLength);
        return {};
    }
};

class PreallocateDriver final : public FilterDriver {
public:
    PreallocateDriver(const OpenContext& context, BdrvChild& file, PreallocateOptions options)
        : FilterDriver(context, file), options_(std::move(options)), file_end_(file.length()) {
        length_.set(file_end_);
    }

    Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override {
        if (offset + bytes <= length_.get())
            return file().co_pwritev(offset, bytes, iov, flags);
        return co_grow(offset + bytes, file().co_pwritev(offset, bytes, iov, flags));
    }
    Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) override {
        if (offset + bytes <= length_.get())
            return file().co_pwrite_zeroes(offset, bytes, flags);
        // What has just been allocated is not given back.
        return co_grow(offset + bytes, file().co_pwrite_zeroes(offset, bytes, flags & ~RequestFlags::MayUnmap));
    }
    Task<Result<>> co_truncate(int64_t size, bool exact, PreallocMode prealloc, RequestFlags flags) override {
        auto guard = co_await growing_.co_lock();
        if (prealloc == PreallocMode::Off && size >= length_.get() && size <= file_end_) {
            length_.set(size);  // zeroes are there
            co_return {};
        }
        if (auto cut = co_await co_cut(); !cut)
            co_return cut;
        auto done = co_await file().co_truncate(size, exact, prealloc, flags);
        if (done) {
            file_end_ = size;
            length_.set(size);
        }
        co_return done;
    }
    int64_t length() const override { return node().is_read_only() ? file().length() : length_.get(); }

    // Nobody else may have an opinion of how long the file is.
    ChildPerm child_perm(const BdrvChild& child, ChildPerm cumulative) const override {
        using enum BlockPerm;
        ChildPerm perms = FilterDriver::child_perm(child, cumulative);
        if (node().is_read_only())
            return perms;
        return {perms.perm | Write | Resize, perms.shared & ~(Write | Resize)};
    }
    Task<Result<void>> co_reopen_prepare(ReopenContext& context) override {
        if (auto kept = co_await co_keep_options(context, options_); !kept)
            co_return kept;
        if (&context.new_child("file") != &file().node())
            co_return fail("Cannot change the option 'file'");
        if (node().is_read_only()) {
            file_end_ = file().length();
            length_.set(file_end_);
            co_return {};
        }
        auto guard = co_await growing_.co_lock();
        co_return co_await co_cut();
    }
    Task<int> co_close() override {
        if (node().is_read_only())
            co_return 0;
        auto guard = co_await growing_.co_lock();
        auto cut = co_await co_cut();
        co_return cut ? 0 : -cut.error().code;
    }

private:
    // Makes room up to `end`, then writes.
    Task<int> co_grow(int64_t end, Task<int> write) {
        {
            auto guard = co_await growing_.co_lock();
            if (end > file_end_ && possible_) {
                const auto size = static_cast<int64_t>(options_.prealloc_size.bytes);
                const auto align = static_cast<int64_t>(options_.prealloc_align.bytes);
                const int64_t most = kMaxLength - kMaxLength % align;
                const int64_t target = end > most - size - align ? most : (end + size + align - 1) / align * align;
                if (auto done = co_await file().co_truncate(target, true, PreallocMode::Falloc); done)
                    file_end_ = target;
                else
                    possible_ = done.error().code != ENOTSUP;  // the write may fit all the same
            }
        }
        int ret = co_await std::move(write);
        if (ret == 0)
            length_.grow_to(end);
        co_return ret;
    }
    Task<Result<>> co_cut() {
        const int64_t length = length_.get();
        if (file_end_ <= length)
            co_return {};
        auto done = co_await file().co_truncate(length, true, PreallocMode::Off);
        if (done)
            file_end_ = length;
        co_return done;
    }

    const PreallocateOptions options_;
    ImageLength length_;  // as those above see it
    CoMutex growing_;
    int64_t file_end_;  // up to where it is ours, and zero behind length_; the file may be longer by writes that did
                        // not fit
    bool possible_ = true;
};

Task<Result<std::unique_ptr<BlockDriver>>> co_open_preallocate(OpenContext& context) {
    auto options = context.parse<PreallocateOptions>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    if (auto fine = options->check(); !fine)
        co_return std::unexpected(std::move(fine.error()));
    auto file = co_await context.co_open_child("file", options->file, ChildRole::Filtered | ChildRole::Primary);
    if (!file)
        co_return std::unexpected(std::move(file.error()));
    if (int64_t length = (*file)->length(); length < 0)
        co_return fail_errno(static_cast<int>(-length), "Could not get the size of the file");
    co_return std::make_unique<PreallocateDriver>(context, **file, std::move(*options));
}

}  // namespace

const DriverType kPreallocateDriver{
    .name = "preallocate",
    .options = []() -> const OptionSchema& { return PreallocateOptions::options(); },
    .co_open = co_open_preallocate,
    .is_filter = true,
};

}  // namespace ashlar
