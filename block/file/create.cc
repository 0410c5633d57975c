#include "block/file/create.h"

#include "block/block_graph.h"
#include "block/file/host_file.h"
#include "block/file/image_lock.h"
#include "block/file_name.h"
#include "util/thread_pool.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

namespace ashlar {

const OptionSet<FileCreateOptions>& FileCreateOptions::options() {
    static const auto set =
        OptionSet<FileCreateOptions>("file")
            .required("size", &FileCreateOptions::size, "Virtual disk size")
            .optional("preallocation", &FileCreateOptions::preallocation,
                      "Preallocation mode (allowed values: off, falloc, full)")
            .optional("nocow", &FileCreateOptions::nocow, "Turn off copy-on-write (valid only on btrfs)")
            .optional("extent_size_hint", &FileCreateOptions::extent_size_hint,
                      "Extent size hint for the image file, 0 to disable");
    return set;
}

namespace {

std::string path_of(const std::string& filename) {
    auto prefix = protocol_prefix(filename);
    return prefix ? filename.substr(prefix->size() + 1) : filename;
}

// Advice: not every file system takes it.
void set_nocow(int fd) {
    int attributes = 0;
    if (ioctl(fd, FS_IOC_GETFLAGS, &attributes) == 0) {
        attributes |= FS_NOCOW_FL;
        (void)ioctl(fd, FS_IOC_SETFLAGS, &attributes);
    }
}

void set_extent_size_hint(int fd, uint32_t bytes) {
    fsxattr attributes{};
    if (ioctl(fd, FS_IOC_FSGETXATTR, &attributes) == 0) {
        attributes.fsx_xflags |= FS_XFLAG_EXTSIZE;
        attributes.fsx_extsize = bytes;
        (void)ioctl(fd, FS_IOC_FSSETXATTR, &attributes);
    }
}

}  // namespace

Task<Result<void>> co_create_file(CreateContext& context) {
    auto options = context.parse<FileCreateOptions>();
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    if (options->preallocation == PreallocMode::Metadata)
        co_return fail("Unsupported preallocation mode: metadata");
    if (options->extent_size_hint > UINT32_MAX)
        co_return fail("extent_size_hint: {} does not fit into 32 bits", options->extent_size_hint.bytes);
    if (options->size > static_cast<uint64_t>(kMaxLength))
        co_return fail("size: {} exceeds the limit of {}", options->size.bytes, kMaxLength);
    const std::string path = path_of(context.filename());

    auto description = co_await run_blocking([&]() -> Result<HostFile::Description> {
        UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644));
        if (!fd)
            return fail_errno(errno, "Could not create '{}'", path);
        return HostFile::examine(std::move(fd), path, AioMode::Threads, false);
    });
    if (!description)
        co_return std::unexpected(std::move(description.error()));
    const int fd = description->fd.get();
    auto lock = ImageLock::create(fd, path, LockingMode::Auto);
    if (!lock)
        co_return std::unexpected(std::move(lock.error()));
    if (auto locked = lock->prepare(BlockPerm::Write | BlockPerm::Resize, BlockPerm::ConsistentRead); !locked)
        co_return std::unexpected(std::move(locked.error()));
    lock->commit();

    HostFile file(std::move(*description), path);
    // Empty first: what it held is not to be seen in the new image.
    auto done = co_await file.co_truncate(0, true, PreallocMode::Off);
    if (done) {
        if (options->nocow)
            set_nocow(fd);
        if (options->extent_size_hint)
            set_extent_size_hint(fd, static_cast<uint32_t>(options->extent_size_hint.bytes));
        done = co_await file.co_truncate(static_cast<int64_t>(options->size.bytes), true, options->preallocation);
        if (!done)
            (void)remove_file(path);
    }
    co_return done;
}

Result<void> remove_file(const std::string& filename) {
    if (unlink(path_of(filename).c_str()) < 0)
        return fail_errno(errno, "Could not remove '{}'", filename);
    return {};
}

}  // namespace ashlar
