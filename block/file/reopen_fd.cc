#include "block/file/reopen_fd.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

namespace ashlar {

Result<UniqueFd> reopen_fd(int fd, const std::string& filename, int flags) {
    UniqueFd fresh(open(fmt::format("/proc/self/fd/{}", fd).c_str(), flags | O_CLOEXEC));
    if (fresh || errno != ENOENT) {
        if (!fresh)
            return fail_errno(errno, "Could not open '{}'", filename);
        return fresh;
    }
    fresh.reset(open(filename.c_str(), flags | O_CLOEXEC));
    struct stat was, is;
    if (!fresh || fstat(fd, &was) < 0 || fstat(fresh.get(), &is) < 0)
        return fail_errno(errno, "Could not open '{}'", filename);
    if (was.st_dev != is.st_dev || was.st_ino != is.st_ino)
        return fail("Could not open '{}': the name is another file's by now", filename);
    return fresh;
}

}  // namespace ashlar
