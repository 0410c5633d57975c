// Who locks a file: found in /proc, for the message that refuses to open it.
//
// The kernel does not tell the owner of an open-file-description lock (F_OFD_GETLK and /proc/locks say -1), but
// /proc/PID/fdinfo lists the locks of each descriptor. Sees the processes that we may inspect; slow: after a failure
// only. Any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

namespace ashlar {

struct LockHolder {
    pid_t pid = 0;
    std::string name;  // as /proc/PID/comm has it

    std::string describe() const;  // "qemu-nbd (pid 4711)", "this process"
};

// A process with a lock on byte `byte` of the file that `fd` is open on; a lock of `fd`'s own description is not meant.
std::optional<LockHolder> find_lock_holder(int fd, int64_t byte);

// What /proc has to say about a process whose id is known.
LockHolder lock_holder_of(pid_t pid);

}  // namespace ashlar
