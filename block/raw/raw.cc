#include "block/raw/raw.h"

#include "block/block_graph.h"
#include "block/image_create.h"
#include "block/io_vector.h"
#include "util/co_mutex.h"

#include <algorithm>
#include <cerrno>

namespace ashlar {

namespace {

struct RawOptions {
    Size offset;
    std::optional<Size> size;
    BlockdevRef file;

    static const OptionSet<RawOptions>& options() {
        static const auto set = OptionSet<RawOptions>("raw")
                                    .optional("offset", &RawOptions::offset, "where the disk begins in the file")
                                    .optional("size", &RawOptions::size, "of the disk (default: what follows)")
                                    .required("file", &RawOptions::file, "the file");
        return set;
    }
};

// Which part of the file is the disk.
struct Window {
    int64_t offset = 0;
    int64_t size = kToEnd;

    static constexpr int64_t kToEnd = -1;
};

Result<Window> make_window(const RawOptions& options, int64_t file_length) {
    if (file_length < 0)
        return fail_errno(static_cast<int>(-file_length), "Could not get image size");
    const auto file = static_cast<uint64_t>(file_length);
    if (options.offset > file)
        return fail("Offset ({}) cannot be greater than size of the containing file ({})", options.offset.bytes, file);
    if (options.size && *options.size > file - options.offset)
        return fail(
            "The sum of offset ({}) and size ({}) has to be smaller or equal to the  actual size of the "
            "containing file ({})",
            options.offset.bytes, options.size->bytes, file);
    return Window{static_cast<int64_t>(options.offset.bytes),
                  options.size ? static_cast<int64_t>(options.size->bytes) : Window::kToEnd};
}

constexpr RequestFlags kPassedOn = RequestFlags::Fua | RequestFlags::Compressed | RequestFlags::Unchanged;

class RawDriver final : public BlockDriver {
public:
    RawDriver(const OpenContext& context, BdrvChild& file, Window window)
        : BlockDriver(context), file_(file), window_(window) {}

    Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override {
        if (file_.wants_debug_events())
            return co_preadv_debug(offset, bytes, iov, flags);
        return file_.co_preadv(offset + window_.offset, bytes, iov, flags);
    }
    bool try_read_pages(int64_t offset, int64_t bytes, PagePipe& pages) override {
        return !file_.wants_debug_events() && file_.try_read_pages(offset + window_.offset, bytes, pages);
    }
    const std::byte* try_map(int64_t offset, int64_t bytes) override {
        return file_.wants_debug_events() ? nullptr : file_.try_map(offset + window_.offset, bytes);
    }
    Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) override {
        if (outside(offset, bytes))
            return co_refuse(-ENOSPC);
        if (file_.wants_debug_events() || guards_header(offset))
            return co_pwritev_with_care(offset, bytes, iov, flags);
        return file_.co_pwritev(offset + window_.offset, bytes, iov, flags);
    }
    Task<int> co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) override {
        if (outside(offset, bytes))
            return co_refuse(-ENOSPC);
        if (guards_header(offset))
            return co_pwrite_zeroes_with_care(offset, bytes, flags);
        return file_.co_pwrite_zeroes(offset + window_.offset, bytes, flags);
    }
    Task<int> co_pdiscard(int64_t offset, int64_t bytes) override {
        if (outside(offset, bytes))
            return co_refuse(-ENOSPC);
        return file_.co_pdiscard(offset + window_.offset, bytes);
    }
    Task<int> co_flush() override { return file_.co_flush(); }
    Task<BlockStatus> co_block_status(bool, int64_t offset, int64_t bytes) override {
        co_return BlockStatus{
            .flags = BlockStatus::Raw | BlockStatus::OffsetValid, .bytes = bytes, .offset = offset + window_.offset};
    }
    Task<Result<>> co_truncate(int64_t size, bool exact, PreallocMode prealloc, RequestFlags flags) override {
        if (window_.size != Window::kToEnd)
            return co_refuse_resize({.message = "Cannot resize fixed-size raw disks", .code = ENOTSUP});
        if (size > kMaxLength - window_.offset)
            return co_refuse_resize({.message = "Disk size too large for the given offset", .code = EFBIG});
        return file_.co_truncate(size + window_.offset, exact, prealloc, flags);
    }
    int64_t length() const override {
        if (window_.size != Window::kToEnd)
            return window_.size;
        int64_t file = file_.length();
        return file < 0 ? file : std::max<int64_t>(file - window_.offset, 0);
    }

    SupportedFlags supported_flags() const override {
        const SupportedFlags below = file_.node().driver().supported_flags();
        return {.read = RequestFlags::Prefetch,
                .write = kPassedOn & below.write,
                .write_zeroes =
                    (RequestFlags::Fua & below.write_zeroes) | RequestFlags::MayUnmap | RequestFlags::NoFallback};
    }
    // It has no metadata: what its users do is all that it does.
    ChildPerm child_perm(const BdrvChild&, ChildPerm cumulative) const override {
        return {cumulative.perm, node().flags().force_share ? BlockPerm::All : cumulative.shared};
    }
    std::string filename() const override { return shows_whole_file() ? file_.node().driver().filename() : ""; }

    Task<Result<void>> co_reopen_prepare(ReopenContext& context) override {
        auto options = context.parse<RawOptions>();
        if (!options)
            co_return std::unexpected(std::move(options.error()));
        auto window = make_window(*options, context.new_child("file").length());
        if (!window)
            co_return std::unexpected(std::move(window.error()));
        new_window_ = *window;
        co_return {};
    }
    void reopen_commit(ReopenContext&) override { window_ = new_window_; }

private:
    bool shows_whole_file() const { return window_.offset == 0 && window_.size == Window::kToEnd; }
    bool outside(int64_t offset, int64_t bytes) const {
        return window_.size == Window::kToEnd ? offset > kMaxLength - window_.offset - bytes
                                              : offset > window_.size - bytes;
    }
    bool guards_header(int64_t offset) const {
        return node().is_probed_raw() && offset < static_cast<int64_t>(DriverType::kProbeSize);
    }
    static Task<int> co_refuse(int error) { co_return error; }
    static Task<Result<>> co_refuse_resize(Error error) { co_return std::unexpected(std::move(error)); }

    Task<int> co_preadv_debug(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
        co_await file_.co_debug_event(BlkdebugEvent::ReadAio);
        co_return co_await file_.co_preadv(offset + window_.offset, bytes, iov, flags);
    }

    // The first sector as the write would leave it must not look like another format's: the next to open the image,
    // guessing its format, would believe what a guest wrote. `data`: null for zeroes. Called, and the write made, with
    // the lock held, so that no other adds to it.
    Task<int> co_check_header(int64_t offset, int64_t bytes, const IoVector* data) {
        std::array<std::byte, DriverType::kProbeSize> head{};
        const auto size = static_cast<int64_t>(head.size());
        const int64_t n = std::min(bytes, size - offset);
        if (n < size)
            if (int ret = co_await file_.co_pread(window_.offset, size, head.data()); ret < 0)
                co_return ret;
        if (data)
            iov_copy_out(*data, 0, head.data() + offset, n);
        else
            std::fill_n(head.begin() + offset, n, std::byte{0});
        co_return node().graph().registry().looks_like_format(head) ? -EPERM : 0;
    }

    Task<int> co_pwritev_with_care(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
        std::optional<CoMutex::Guard> guard;
        if (guards_header(offset)) {
            guard.emplace(co_await header_lock_.co_lock());
            if (int ret = co_await co_check_header(offset, bytes, &iov); ret < 0)
                co_return ret;
        }
        if (file_.wants_debug_events())
            co_await file_.co_debug_event(BlkdebugEvent::WriteAio);
        co_return co_await file_.co_pwritev(offset + window_.offset, bytes, iov, flags);
    }

    Task<int> co_pwrite_zeroes_with_care(int64_t offset, int64_t bytes, RequestFlags flags) {
        CoMutex::Guard guard = co_await header_lock_.co_lock();
        if (int ret = co_await co_check_header(offset, bytes, nullptr); ret < 0)
            co_return ret;
        co_return co_await file_.co_pwrite_zeroes(offset + window_.offset, bytes, flags);
    }

    BdrvChild& file_;
    Window window_, new_window_;
    CoMutex header_lock_;
};

Task<Result<std::unique_ptr<BlockDriver>>> co_open_raw(OpenContext& context) {
    auto options = context.parse<RawOptions>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    auto file = co_await context.co_open_child("file", options->file, ChildRole::Data | ChildRole::Primary);
    if (!file)
        co_return std::unexpected(std::move(file.error()));
    auto window = make_window(*options, (*file)->length());
    if (!window)
        co_return std::unexpected(std::move(window.error()));
    co_return std::make_unique<RawDriver>(context, **file, *window);
}

struct RawCreateOptions {
    Size size;

    static const OptionSet<RawCreateOptions>& options() {
        static const auto set =
            OptionSet<RawCreateOptions>("raw").required("size", &RawCreateOptions::size, "Virtual disk size");
        return set;
    }
};

// Whole sectors, as of all images.
Result<int64_t> take_image_size(Result<RawCreateOptions> options) {
    if (!options)
        return std::unexpected(std::move(options.error()));
    if (options->size > static_cast<uint64_t>(kMaxLength - kSectorSize))
        return fail("The image size is too large for file format 'raw'");
    return (static_cast<int64_t>(options->size.bytes) + kSectorSize - 1) & -kSectorSize;
}

Task<Result<void>> co_create_raw(CreateContext& context) {
    auto size = take_image_size(context.take<RawCreateOptions>());
    if (!size)
        co_return std::unexpected(std::move(size.error()));
    auto file = co_await context.co_create_file(*size);
    if (!file)
        co_return std::unexpected(std::move(file.error()));
    co_return {};
}

Task<Result<MeasuredSize>> co_measure_raw(MeasureContext& context) {
    auto size = take_image_size(context.take<RawCreateOptions>());
    if (!size)
        co_return std::unexpected(std::move(size.error()));
    const auto bytes = static_cast<uint64_t>(*size);
    co_return MeasuredSize{.required = bytes, .fully_allocated = bytes};
}

int probe_raw(std::span<const std::byte>, std::string_view) {
    return DriverType::kRawScore;
}

}  // namespace

const DriverType kRawDriver{
    .name = "raw",
    .options = []() -> const OptionSchema& { return RawOptions::options(); },
    .co_open = co_open_raw,
    .probe = probe_raw,
    .create_options = []() -> const OptionSchema& { return RawCreateOptions::options(); },
    .co_create = co_create_raw,
    .co_measure = co_measure_raw,
};

}  // namespace ashlar
