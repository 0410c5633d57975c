#include "tools/daemonize.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace ashlar {

namespace {

[[noreturn]] void wait_for_daemon(pid_t daemon, UniqueFd ready) {
    char byte;
    ssize_t got;
    do
        got = read(ready.get(), &byte, 1);
    while (got < 0 && errno == EINTR);
    if (got == 1)
        _exit(0);
    int status = 0;
    while (waitpid(daemon, &status, 0) < 0 && errno == EINTR) {
    }
    _exit(WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 1);
}

}  // namespace

Result<Daemonizer> Daemonizer::fork() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return fail_errno(errno, "cannot become a daemon: pipe");
    UniqueFd reader(ends[0]), writer(ends[1]);
    pid_t daemon = ::fork();
    if (daemon < 0)
        return fail_errno(errno, "cannot become a daemon: fork");
    if (daemon > 0) {
        writer.reset();
        wait_for_daemon(daemon, std::move(reader));
    }
    setsid();
    return Daemonizer(std::move(writer));
}

Result<void> Daemonizer::detach() {
    if (chdir("/") < 0)
        return fail_errno(errno, "cannot become a daemon: /");
    UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!null)
        return fail_errno(errno, "cannot become a daemon: /dev/null");
    for (int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        dup2(null.get(), stream);
    char byte = 0;
    if (write(ready_.get(), &byte, 1) != 1)
        return fail_errno(errno, "cannot tell the starter that the daemon is ready");
    ready_.reset();
    return {};
}

}  // namespace ashlar
