// PagePipe: bytes on their way to a socket without being copied: pages of files, which pipes of the kernel refer to,
// behind a head of the owner's.
//
// Made, filled, sent (Socket::send_pages) and destroyed in one thread. Nothing here waits. The pages are those of the
// page cache, not a copy: what is written to the file shows until the peer has received it. A thread has only so many
// pipes, and a user of the system so many pages of them: when there are none, add_file() refuses.
//
// The kernel has no way of moving pages to a socket without a SIGPIPE when the peer is gone: where that is not ignored,
// add_file() refuses too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "util/unique_fd.h"

namespace ashlar {

class PagePipe {
public:
    // While one lives, its thread keeps pipes that have become empty for the next who needs one.
    class Keeper {
    public:
        Keeper();
        ~Keeper();
        Keeper(const Keeper&) = delete;
    };

    PagePipe() = default;
    PagePipe(const PagePipe&) = delete;
    ~PagePipe() { reset(); }

    // Goes before what is added first; stays valid until then.
    void set_head(std::span<const std::byte> head) { head_ = head; }
    // False: not all of it could be added, and what was is to be thrown away. May read from the disk what is not in the
    // page cache.
    [[nodiscard]] bool add_file(int fd, int64_t offset, int64_t bytes);

    size_t size() const { return size_; }  // of what waits to be moved
    // Moves some of it to a socket in non-blocking mode: how many bytes, or a negative errno.
    int move_to(int socket);

    void reset();  // empty, and without head

private:
    struct Pipe {
        UniqueFd from, to;
        size_t bytes = 0;
        unsigned pages = 0;
    };
    struct Cache;
    static Cache& cache();
    bool add_pipe();
    static void give_back(Pipe pipe);

    std::span<const std::byte> head_;
    std::vector<Pipe> pipes_;
    size_t first_ = 0;  // of pipes_, that is not empty
    size_t size_ = 0;
};

}  // namespace ashlar
