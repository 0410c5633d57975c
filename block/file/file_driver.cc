#include "block/file/file_driver.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "block/block_node.h"
#include "block/file/create.h"
#include "block/file/reopen_fd.h"

namespace ashlar {

const OptionSet<FileOptions>& FileOptions::options() {
    static const auto set =
        OptionSet<FileOptions>("file")
            .required("filename", &FileOptions::filename, "path of the image file")
            .optional("locking", &FileOptions::locking, "lock the image against other processes (auto: if possible)")
            .optional("aio", &FileOptions::aio,
                      "how requests are made: threads, native (needs cache.direct=on), io_uring (default: if there)");
    return set;
}

namespace {

std::string_view kind_of(mode_t mode) {
    switch (mode & S_IFMT) {
        case S_IFREG:
            return "a regular file";
        case S_IFDIR:
            return "a directory";
        case S_IFBLK:
            return "a block device";
        case S_IFCHR:
            return "a character device";
        case S_IFIFO:
            return "a FIFO";
        case S_IFSOCK:
            return "a socket";
        default:
            return "something else";
    }
}

Result<> check_kind(const struct stat& st, const std::string& filename, bool device) {
    if (device ? S_ISBLK(st.st_mode) : S_ISREG(st.st_mode))
        return {};
    Error error{.message =
                    fmt::format("'{}' driver requires '{}' to be {}, but it is {}", device ? "host_device" : "file",
                                filename, device ? "a block device" : "a regular file", kind_of(st.st_mode))};
    if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))
        error.hint = fmt::format("Use the '{}' driver for it.", device ? "file" : "host_device");
    return std::unexpected(std::move(error));
}

int open_flags(const NodeFlags& flags) {
    return (flags.read_only ? O_RDONLY : O_RDWR) | (flags.direct ? O_DIRECT : 0) | O_CLOEXEC;
}

Error with_direct_hint(Error error, const NodeFlags& flags) {
    if (flags.direct && error.code == EINVAL)
        error.hint = "The file system may not support O_DIRECT: try cache.direct=off.";
    return error;
}

// Blocking.
Result<HostFile::Description> open_description(const FileOptions& options, const NodeFlags& flags, bool device) {
    struct stat st;
    // Before it is opened: opening a FIFO waits for its other end.
    if (stat(options.filename.c_str(), &st) < 0)
        return fail_errno(errno, "Could not open '{}'", options.filename);
    if (auto right = check_kind(st, options.filename, device); !right)
        return std::unexpected(std::move(right.error()));
    UniqueFd fd(open(options.filename.c_str(), open_flags(flags)));
    if (!fd)
        return std::unexpected(
            with_direct_hint(fail_errno(errno, "Could not open '{}'", options.filename).error(), flags));
    return HostFile::examine(std::move(fd), options.filename, options.aio.value_or(AioMode::IoUring), flags.direct);
}

Result<> check_aio(const FileOptions& options, const NodeFlags& flags) {
    return options.aio ? check_aio_mode(*options.aio, flags.direct) : Result<>();
}

Task<Result<std::unique_ptr<BlockDriver>>> co_open_file(OpenContext& context) {
    auto options = context.parse<FileOptions>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    if (auto possible = check_aio(*options, context.flags()); !possible)
        co_return std::unexpected(std::move(possible.error()));

    bool device = &context.node().type() == &kHostDeviceDriver;
    auto description = co_await run_blocking([&] { return open_description(*options, context.flags(), device); });
    if (!description && !context.flags().read_only) {
        int code = description.error().code;
        if (code == EACCES || code == EPERM || code == EROFS) {
            auto allowed = context.fall_back_to_read_only(std::move(description.error()));
            if (!allowed)
                co_return std::unexpected(std::move(allowed.error()));
            description = co_await run_blocking([&] { return open_description(*options, context.flags(), device); });
        }
    }
    if (!description)
        co_return std::unexpected(std::move(description.error()));
    auto lock = ImageLock::create(description->fd.get(), options->filename, options->locking);
    if (!lock)
        co_return std::unexpected(std::move(lock.error()));
    co_return std::make_unique<FileDriver>(context, std::move(*options), std::move(*description), std::move(*lock));
}

int probe_file(const std::string&) {
    return 1;
}

int probe_host_device(const std::string& filename) {
    struct stat st;
    return stat(filename.c_str(), &st) == 0 && S_ISBLK(st.st_mode) ? 100 : 0;
}

constexpr std::string_view kFilePrefixes[] = {"file"};
constexpr std::string_view kHostDevicePrefixes[] = {"host_device"};

const OptionSchema& schema() {
    return FileOptions::options();
}

const OptionSchema& create_schema() {
    return FileCreateOptions::options();
}

}  // namespace

const DriverType kFileDriver = {.name = "file",
                                .options = schema,
                                .co_open = co_open_file,
                                .is_protocol = true,
                                .prefixes = kFilePrefixes,
                                .probe_filename = probe_file,
                                .create_options = create_schema,
                                .co_create = co_create_file,
                                .remove = remove_file};

const DriverType kHostDeviceDriver = {.name = "host_device",
                                      .options = schema,
                                      .co_open = co_open_file,
                                      .is_protocol = true,
                                      .prefixes = kHostDevicePrefixes,
                                      .probe_filename = probe_host_device};

FileDriver::FileDriver(const OpenContext& context, FileOptions options, HostFile::Description description,
                       ImageLock lock)
    : BlockDriver(context),
      options_(std::move(options)),
      file_(std::move(description), options_.filename),
      lock_(std::move(lock)) {}

// --- requests ---

Task<int> FileDriver::co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
    if (has(flags, RequestFlags::Prefetch))
        return file_.co_prefetch(offset, bytes);
    return file_.co_preadv(offset, bytes, iov);
}

bool FileDriver::try_read_pages(int64_t offset, int64_t bytes, PagePipe& pages) {
    return file_.try_read_pages(offset, bytes, pages);
}

const std::byte* FileDriver::try_map(int64_t offset, int64_t bytes) {
    return file_.try_map(offset, bytes);
}

Task<int> FileDriver::co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags flags) {
    return file_.co_pwritev(offset, bytes, iov, flags);
}

Task<int> FileDriver::co_pwrite_zeroes(int64_t offset, int64_t bytes, RequestFlags flags) {
    return file_.co_pwrite_zeroes(offset, bytes, flags);
}

Task<int> FileDriver::co_pdiscard(int64_t offset, int64_t bytes) {
    int ret = co_await file_.co_pdiscard(offset, bytes);
    if (ret >= 0) {
        discards_ok_.fetch_add(1, std::memory_order_relaxed);
        discarded_bytes_.fetch_add(static_cast<uint64_t>(bytes), std::memory_order_relaxed);
    } else {
        discards_failed_.fetch_add(1, std::memory_order_relaxed);
    }
    co_return ret;
}

Task<int> FileDriver::co_flush() {
    return file_.co_flush();
}

Task<BlockStatus> FileDriver::co_block_status(bool want_zero, int64_t offset, int64_t bytes) {
    return file_.co_block_status(want_zero, offset, bytes);
}

Task<Result<>> FileDriver::co_truncate(int64_t size, bool exact, PreallocMode prealloc, RequestFlags) {
    return file_.co_truncate(size, exact, prealloc);
}

SupportedFlags FileDriver::supported_flags() const {
    return {.read = RequestFlags::Prefetch,
            .write = RequestFlags::Fua,
            .write_zeroes = RequestFlags::Fua | RequestFlags::MayUnmap | RequestFlags::NoFallback};
}

// --- reopening ---

Task<Result<void>> FileDriver::co_reopen_prepare(ReopenContext& context) {
    auto options = context.parse<FileOptions>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    if (options->filename != options_.filename)
        co_return fail("Cannot change the option 'filename'");
    if (options->locking != options_.locking)
        co_return fail("Cannot change the option 'locking'");
    if (auto possible = check_aio(*options, context.new_flags()); !possible)
        co_return std::unexpected(std::move(possible.error()));
    NodeFlags flags = context.new_flags();
    auto description = co_await run_blocking([&]() -> Result<HostFile::Description> {
        auto fd = reopen_fd(file_.fd(), options->filename, open_flags(flags));
        if (!fd)
            return std::unexpected(with_direct_hint(std::move(fd.error()), flags));
        return HostFile::examine(std::move(*fd), options->filename, options->aio.value_or(AioMode::IoUring),
                                 flags.direct);
    });
    if (!description)
        co_return std::unexpected(std::move(description.error()));
    reopening_.emplace(std::move(*options), std::move(*description));
    co_return Result<void>();
}

void FileDriver::reopen_commit(ReopenContext&) {
    options_ = std::move(reopening_->options);
    file_.replace(std::move(reopening_->description));
    reopening_.reset();
}

void FileDriver::reopen_abort(ReopenContext&) {
    reopening_.reset();
}

std::string FileDriver::filename() const {
    // A name that looks like a protocol's is to be told from one.
    size_t colon = options_.filename.find(':');
    bool ambiguous = colon != std::string::npos && options_.filename.find('/') > colon;
    return ambiguous ? "./" + options_.filename : options_.filename;
}

DiscardCounts FileDriver::discard_counts() const {
    return {discards_ok_.load(std::memory_order_relaxed), discards_failed_.load(std::memory_order_relaxed),
            discarded_bytes_.load(std::memory_order_relaxed)};
}

}  // namespace ashlar
