#include "block/file/page_cache.h"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace ashlar {

namespace {

// cachestat(2), which the C library does not know yet; the number is the same on all architectures.
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

struct Range {
    uint64_t offset;
    uint64_t length;
};
struct Counts {  // of pages
    uint64_t cached, dirty, in_write_back, evicted, recently_evicted;
};

std::atomic<bool> has_cachestat{true};

bool all_pages_are_there(int fd, int64_t offset, int64_t bytes) {
    static const int64_t page = sysconf(_SC_PAGESIZE);
    if (!has_cachestat.load(std::memory_order_relaxed))
        return false;
    Range range{static_cast<uint64_t>(offset), static_cast<uint64_t>(bytes)};
    Counts counts;
    if (syscall(SYS_cachestat, fd, &range, &counts, 0) < 0) {
        if (errno == ENOSYS)
            has_cachestat = false;
        return false;
    }
    return counts.cached == static_cast<uint64_t>((offset + bytes - 1) / page - offset / page + 1);
}

// Pages are there, but without their contents, while they are being read ahead: in ascending order, mostly.
bool has_contents(int fd, int64_t offset) {
    char byte;
    iovec iov{&byte, 1};
    return preadv2(fd, &iov, 1, offset, RWF_NOWAIT) == 1;
}

}  // namespace

bool is_in_page_cache(int fd, int64_t offset, int64_t bytes) {
    return all_pages_are_there(fd, offset, bytes) && has_contents(fd, offset + bytes - 1);
}

}  // namespace ashlar
