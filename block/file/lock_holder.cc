#include "block/file/lock_holder.h"

#include <dirent.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>

namespace ashlar {

namespace {

struct CloseDir {
    void operator()(DIR* dir) const { closedir(dir); }
};
using Dir = std::unique_ptr<DIR, CloseDir>;

// Whether a descriptor's fdinfo has a lock on `byte`: "lock:\t1: OFDLCK  ADVISORY  READ -1 fe:00:1234 100 101".
bool has_lock(const std::string& fdinfo_path, int64_t byte) {
    std::ifstream info(fdinfo_path);
    for (std::string line; std::getline(info, line);) {
        long long first;
        char last[32];
        if (sscanf(line.c_str(), "lock: %*u: %*s %*s %*s %*d %*x:%*x:%*u %lld %31s", &first, last) != 2)
            continue;
        if (byte >= first && (!strcmp(last, "EOF") || byte <= atoll(last)))
            return true;
    }
    return false;
}

}  // namespace

std::string LockHolder::describe() const {
    if (pid == getpid())
        return "this process";
    return name.empty() ? fmt::format("pid {}", pid) : fmt::format("{} (pid {})", name, pid);
}

LockHolder lock_holder_of(pid_t pid) {
    LockHolder holder{.pid = pid};
    std::ifstream comm(fmt::format("/proc/{}/comm", pid));
    std::getline(comm, holder.name);
    return holder;
}

std::optional<LockHolder> find_lock_holder(int fd, int64_t byte) {
    struct stat image;
    Dir proc(opendir("/proc"));
    if (!proc || fstat(fd, &image) < 0)
        return std::nullopt;
    while (const dirent* process = readdir(proc.get())) {
        pid_t pid = atoi(process->d_name);
        if (pid <= 0)
            continue;
        std::string base = fmt::format("/proc/{}", pid);
        Dir fds(opendir((base + "/fd").c_str()));
        if (!fds)
            continue;
        while (const dirent* entry = readdir(fds.get())) {
            struct stat st;
            if (entry->d_name[0] == '.' || (pid == getpid() && atoi(entry->d_name) == fd))
                continue;
            if (fstatat(dirfd(fds.get()), entry->d_name, &st, 0) == 0 && st.st_dev == image.st_dev &&
                st.st_ino == image.st_ino && has_lock(fmt::format("{}/fdinfo/{}", base, entry->d_name), byte))
                return lock_holder_of(pid);
        }
    }
    return std::nullopt;
}

}  // namespace ashlar
