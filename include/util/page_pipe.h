// PagePipe: bytes on their way to a socket without being copied: pages of files, which pipes of the kernel refer to,
// each piece of a file behind a head of the owner's.
//
// Made, filled, then sent (Socket::send_pages), and destroyed in one thread. Nothing here waits but for the disk, if
// what is added is not in the page cache. The pages are those of the page cache, not a copy: what is written to the
// file shows until the peer has received it. A thread has only so many pipes, and a user of the system so many pages of
// them: when there are none, nothing can be added.
//
// The kernel has no way of moving pages to a socket without a SIGPIPE when the peer is gone: where that is not ignored,
// nothing can be added either.
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

    // Goes before what is added next; stays valid until then, and fits into a page.
    void set_head(std::span<const std::byte> head) { head_ = head; }
    // False: nothing was added.
    [[nodiscard]] bool add_file(int fd, int64_t offset, int64_t bytes);
    // The same of up to kMaxMapped bytes that are also to be found at `map`: one system call instead of several. What
    // the file has lost since it was mapped is zero.
    [[nodiscard]] bool add_mapped(const std::byte* map, int fd, int64_t offset, int64_t bytes);
    static constexpr int64_t kMaxMapped = 128 << 10;

    size_t size() const { return size_; }  // of what waits to be moved
    // Moves some of it to a socket in non-blocking mode: how many bytes, or a negative errno: also that of a disk which
    // has failed when it was too late to say that nothing was added.
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
    void remove_pipes(size_t from);
    void added(size_t bytes, unsigned pages);
    void read_lost(int fd, int64_t offset, size_t bytes);
    static void give_back(Pipe pipe);

    std::span<const std::byte> head_;
    std::vector<Pipe> pipes_;
    size_t first_ = 0;  // of pipes_, that is not empty
    size_t size_ = 0;
    int error_ = 0;
};

}  // namespace ashlar
