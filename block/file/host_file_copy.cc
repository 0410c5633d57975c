#include "block/file/host_file.h"
#include "util/thread_pool.h"

#include <unistd.h>

#include <cerrno>

namespace ashlar {

Task<int> HostFile::co_copy_from(const HostFile& from, int64_t from_offset, int64_t offset, int64_t bytes) {
    forget_data();
    const int done = co_await run_blocking([in = from.fd(), out = fd(), from_offset, offset, bytes] {
        for (int64_t copied = 0; copied < bytes;) {
            loff_t source = from_offset + copied, target = offset + copied;
            const ssize_t n = copy_file_range(in, &source, out, &target, static_cast<size_t>(bytes - copied), 0);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0) {
                const bool cannot = errno == ENOSYS || errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP ||
                                    errno == ETXTBSY || errno == EBADF;
                return cannot ? -ENOTSUP : -errno;
            }
            if (n == 0)  // the source has become shorter: who reads it finds zeroes there
                return -ENOTSUP;
            copied += n;
        }
        return 0;
    });
    forget_data();  // of an answer given meanwhile
    if (done == 0)
        length_.grow_to(offset + bytes);
    co_return done;
}

}  // namespace ashlar
