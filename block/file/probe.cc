#include "block/file/probe.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "util/buffer_pool.h"

namespace ashlar {

namespace {

constexpr uint32_t kMaxAlignment = 4096;
constexpr uint32_t kAlignments[] = {1, 512, 1024, 2048, kMaxAlignment};

bool can_read(int fd, std::byte* memory, size_t bytes) {
    ssize_t ret;
    do
        ret = pread(fd, memory, bytes, 0);
    while (ret < 0 && errno == EINTR);
    // Any other failure is not about alignment, and will be met again where it can be reported.
    return ret >= 0 || errno != EINVAL;
}

bool ask_statx(int fd, DirectAlignment& alignment) {
#ifdef STATX_DIOALIGN
    struct statx info;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) < 0 || !(info.stx_mask & STATX_DIOALIGN))
        return false;
    alignment = {info.stx_dio_offset_align, info.stx_dio_mem_align};
    return alignment.request > 0 && alignment.memory > 0;
#else
    (void)fd, (void)alignment;
    return false;
#endif
}

}  // namespace

Result<DirectAlignment> probe_direct_alignment(int fd, const char* filename) {
    DirectAlignment alignment;
    if (ask_statx(fd, alignment))
        return alignment;
    alignment.request = static_cast<uint32_t>(device_sector_size(fd));
    Buffer buffer(2 * kMaxAlignment);
    for (uint32_t align : kAlignments) {
        if (alignment.request == 0 && can_read(fd, buffer.data(), align))
            alignment.request = align;
        if (alignment.memory == 0 && can_read(fd, buffer.data() + align, kMaxAlignment))
            alignment.memory = align;
    }
    // An empty file or a hole may be read in any way, and the data written later may not.
    if (alignment.request == 1)
        alignment.request = kMaxAlignment;
    if (alignment.memory == 1)
        alignment.memory = alignment.request;
    if (alignment.request == 0 || alignment.memory == 0)
        return std::unexpected(
            Error{.message = fmt::format("{}: Could not find working O_DIRECT alignment", filename)}.with_hint(
                "Try cache.direct=off"));
    return alignment;
}

int64_t file_length(int fd) {
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISBLK(st.st_mode))
        return st.st_size;
    uint64_t size;
    return ioctl(fd, BLKGETSIZE64, &size) < 0 ? -errno : static_cast<int64_t>(size);
}

int device_sector_size(int fd) {
    int size = 0;
    return ioctl(fd, BLKSSZGET, &size) < 0 ? 0 : size;
}

bool is_on_rotational_disk(int fd) {
    struct stat st;
    if (fstat(fd, &st) < 0)
        return false;
    dev_t device = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
    std::string base = fmt::format("/sys/dev/block/{}:{}/", major(device), minor(device));
    for (const char* name : {"queue/rotational", "../queue/rotational"}) {  // a disk, a partition of one
        std::ifstream attribute(base + name);
        if (int value; attribute >> value)
            return value != 0;
    }
    return false;
}

}  // namespace ashlar
