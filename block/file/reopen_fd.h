// reopen_fd: a new description of the file that `fd` is open on, though it may have been renamed since.
#pragma once

#include <string>

#include "util/error.h"
#include "util/unique_fd.h"

namespace ashlar {

// `flags` as for open(2). The file name serves where /proc is not mounted, and in messages.
Result<UniqueFd> reopen_fd(int fd, const std::string& filename, int flags);

}  // namespace ashlar
