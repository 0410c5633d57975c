#include "tools/pid_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <utility>

namespace ashlar {

Result<PidFile> PidFile::create(const std::string& path) {
    UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd)
        return fail_errno(errno, "cannot create PID file: '{}'", path);
    struct flock lock{};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (fcntl(fd.get(), F_SETLK, &lock) < 0)
        return fail_errno(errno, "cannot create PID file: '{}' is held by a running process", path);
    std::string text = fmt::format("{}\n", getpid());
    if (ftruncate(fd.get(), 0) < 0 ||
        pwrite(fd.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
        return fail_errno(errno, "cannot create PID file: '{}'", path);
    std::error_code ignored;
    auto absolute = std::filesystem::absolute(path, ignored);
    return PidFile(ignored ? path : absolute.string(), std::move(fd));
}

PidFile::PidFile(PidFile&& other) noexcept : path_(std::exchange(other.path_, {})), fd_(std::move(other.fd_)) {}

PidFile& PidFile::operator=(PidFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(fd_, other.fd_);
    return *this;
}

PidFile::~PidFile() {
    if (!path_.empty())
        unlink(path_.c_str());
}

}  // namespace ashlar
