#include "tools/program.h"

#include <unistd.h>

namespace ashlar {

Result<Readiness> Readiness::create(bool background, std::string pid_file) {
    Readiness readiness;
    readiness.pid_file_name_ = std::move(pid_file);
    if (background) {
        auto forked = Daemonizer::fork();
        if (!forked)
            return std::unexpected(std::move(forked.error()));
        readiness.daemonizer_ = std::move(*forked);
    }
    return readiness;
}

bool Readiness::is_watched() const {
    return !daemonizer_ && isatty(STDERR_FILENO);
}

Result<void> Readiness::announce() {
    if (!pid_file_name_.empty()) {
        auto file = PidFile::create(pid_file_name_);
        if (!file)
            return std::unexpected(std::move(file.error()));
        pid_file_ = std::move(*file);
    }
    if (daemonizer_)
        return daemonizer_->detach();
    return {};
}

}  // namespace ashlar
