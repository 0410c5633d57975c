// PidFile: a file with the process's number, locked while the process lives and removed at the end.
#pragma once

#include "util/error.h"
#include "util/unique_fd.h"

#include <string>

namespace ashlar {

class PidFile {
public:
    PidFile() = default;
    // Relative paths are those of the working directory of now. Fails if another living process has it.
    static Result<PidFile> create(const std::string& path);
    PidFile(PidFile&&) noexcept;
    PidFile& operator=(PidFile&&) noexcept;
    ~PidFile();

private:
    PidFile(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

    std::string path_;  // absolute; empty: none
    UniqueFd fd_;
};

}  // namespace ashlar
