// Daemonizer: becoming a daemon whose starter learns whether it could start.
//
// fork() comes before any thread or AioContext exists. In the starter it does not return: it waits until the daemon is
// ready and exits with status 0, or until the daemon has ended and exits with its status. The daemon's standard streams
// are the terminal's until detach(), so that what goes wrong before is seen.
#pragma once

#include "util/error.h"
#include "util/unique_fd.h"

namespace ashlar {

class Daemonizer {
public:
    static Result<Daemonizer> fork();

    // It serves: lets go of the terminal and the working directory, and of the starter.
    Result<void> detach();

private:
    explicit Daemonizer(UniqueFd ready) : ready_(std::move(ready)) {}

    UniqueFd ready_;
};

}  // namespace ashlar
