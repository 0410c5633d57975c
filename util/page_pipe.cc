#include "util/page_pipe.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>

namespace ashlar {

namespace {

// A pipe has room for so many pieces of a page; the system lets an ordinary user have some 16000 in all.
constexpr unsigned kPages = 128;
constexpr unsigned kPipes = 32;  // of one thread

const auto kPageSize = static_cast<int64_t>(sysconf(_SC_PAGESIZE));

bool survives_a_broken_pipe() {
    struct sigaction action;
    return sigaction(SIGPIPE, nullptr, &action) == 0 && action.sa_handler != SIG_DFL;
}

unsigned pages_of(int64_t offset, int64_t bytes) {
    return static_cast<unsigned>((offset + bytes - 1) / kPageSize - offset / kPageSize + 1);
}

// Memory for heads that a pipe refers to. It is never written again, for nobody knows when a peer has received it: when
// all of it is used it is replaced, and the kernel frees each page with the last reference to it.
class HeadMemory {
public:
    HeadMemory() = default;
    HeadMemory(const HeadMemory&) = delete;
    ~HeadMemory() { drop(); }

    // Within one page; null: there is no memory.
    std::byte* put(std::span<const std::byte> head) {
        const size_t in_page = used_ % static_cast<size_t>(kPageSize);
        if (in_page + head.size() > static_cast<size_t>(kPageSize))
            used_ += static_cast<size_t>(kPageSize) - in_page;
        if (!memory_ || used_ + head.size() > kSize) {
            drop();
            void* memory = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (memory == MAP_FAILED)
                return nullptr;
            memory_ = static_cast<std::byte*>(memory);
        }
        std::byte* at = memory_ + used_;
        std::memcpy(at, head.data(), head.size());
        used_ += head.size();
        return at;
    }
    void drop() {
        if (memory_)
            munmap(memory_, kSize);
        memory_ = nullptr;
        used_ = 0;
    }

private:
    static constexpr size_t kSize = 64u << 10;
    std::byte* memory_ = nullptr;
    size_t used_ = 0;
};

}  // namespace

struct PagePipe::Cache {
    std::vector<Pipe> free;
    HeadMemory heads;
    unsigned made = 0;
    unsigned keepers = 0;
};

PagePipe::Keeper::Keeper() {
    cache().keepers++;
}

PagePipe::Keeper::~Keeper() {
    Cache& own = cache();
    if (--own.keepers > 0)
        return;
    own.made -= static_cast<unsigned>(own.free.size());
    own.free.clear();
    own.heads.drop();
}

PagePipe::Cache& PagePipe::cache() {
    static thread_local Cache cache;
    return cache;
}

bool PagePipe::add_pipe() {
    Cache& own = cache();
    if (!own.free.empty()) {
        pipes_.push_back(std::move(own.free.back()));
        own.free.pop_back();
        return true;
    }
    static const bool allowed = survives_a_broken_pipe();
    int fds[2];
    if (!allowed || own.made == kPipes || pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return false;
    Pipe pipe{.from = UniqueFd(fds[0]), .to = UniqueFd(fds[1])};
    if (fcntl(fds[1], F_SETPIPE_SZ, kPages * kPageSize) < kPages * kPageSize)
        return false;
    own.made++;
    pipes_.push_back(std::move(pipe));
    return true;
}

void PagePipe::give_back(Pipe pipe) {
    Cache& own = cache();
    if (pipe.bytes > 0 || own.keepers == 0) {
        own.made--;  // closed, which empties it
        return;
    }
    pipe.pages = 0;
    own.free.push_back(std::move(pipe));
}

void PagePipe::remove_pipes(size_t from) {
    for (; pipes_.size() > from; pipes_.pop_back()) {
        size_ -= pipes_.back().bytes;
        give_back(std::move(pipes_.back()));
    }
}

void PagePipe::added(size_t bytes, unsigned pages) {
    pipes_.back().bytes += bytes;
    pipes_.back().pages += pages;
    size_ += bytes;
}

bool PagePipe::add_file(int fd, int64_t offset, int64_t bytes) {
    const std::span<const std::byte> head = std::exchange(head_, {});
    const size_t before = pipes_.size();  // what is in a pipe cannot be taken back, but the pipe can
    if (!add_pipe())
        return false;
    if (!head.empty()) {
        const ssize_t n = write(pipes_.back().to.get(), head.data(), head.size());
        added(static_cast<size_t>(std::max<ssize_t>(n, 0)), 1);
        if (n != static_cast<ssize_t>(head.size())) {
            remove_pipes(before);
            return false;
        }
    }
    while (bytes > 0) {
        if (pipes_.back().pages == kPages && !add_pipe()) {
            remove_pipes(before);
            return false;
        }
        Pipe& pipe = pipes_.back();
        const int64_t room = static_cast<int64_t>(kPages - pipe.pages) * kPageSize - offset % kPageSize;
        off64_t at = offset;
        ssize_t n =
            splice(fd, &at, pipe.to.get(), nullptr, static_cast<size_t>(std::min(room, bytes)), SPLICE_F_NONBLOCK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {  // the file's end, or no room: it has been cut in smaller pieces than pages
            remove_pipes(before);
            return false;
        }
        added(static_cast<size_t>(n), pages_of(offset, n));
        offset += n;
        bytes -= n;
    }
    return true;
}

bool PagePipe::add_mapped(const std::byte* map, int fd, int64_t offset, int64_t bytes) {
    assert(bytes > 0 && bytes <= kMaxMapped);
    const std::span<const std::byte> head = std::exchange(head_, {});
    const size_t before = pipes_.size();
    const unsigned pages = 1 + pages_of(offset, bytes);
    if ((pipes_.empty() || pipes_.back().pages + pages > kPages) && !add_pipe())
        return false;
    std::byte* kept = head.empty() ? nullptr : cache().heads.put(head);
    const iovec iov[] = {{kept, head.size()}, {const_cast<std::byte*>(map), static_cast<size_t>(bytes)}};
    ssize_t n = -1;
    if (kept || head.empty())
        n = vmsplice(pipes_.back().to.get(), iov + head.empty(), 2 - head.empty(), SPLICE_F_NONBLOCK);
    if (n <= 0) {
        remove_pipes(before);
        return false;
    }
    added(static_cast<size_t>(n), pages);
    const auto of_map = n - static_cast<ssize_t>(head.size());
    if (of_map < bytes)
        read_lost(fd, offset + of_map, static_cast<size_t>(bytes - of_map));
    return true;
}

// The rest of a piece that has been begun: its pages were lost, with the end of the file or to other uses of the
// memory, so they cannot be referred to. There is room for them.
void PagePipe::read_lost(int fd, int64_t offset, size_t bytes) {
    char data[4096];
    while (bytes > 0) {
        const size_t part = std::min(bytes, sizeof data);
        ssize_t n = pread(fd, data, part, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n >= 0) {
            std::memset(data + n, 0, part - static_cast<size_t>(n));
            n = write(pipes_.back().to.get(), data, part);
        }
        if (n != static_cast<ssize_t>(part)) {
            error_ = n < 0 ? -errno : -EIO;
            return;
        }
        added(part, 0);
        offset += n;
        bytes -= part;
    }
}

int PagePipe::move_to(int socket) {
    if (error_ < 0)
        return error_;
    Pipe& pipe = pipes_[first_];
    const bool last = first_ + 1 == pipes_.size();
    ssize_t n;
    do
        n = splice(pipe.from.get(), nullptr, socket, nullptr, pipe.bytes,
                   SPLICE_F_NONBLOCK | (last ? 0u : static_cast<unsigned>(SPLICE_F_MORE)));
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    pipe.bytes -= static_cast<size_t>(n);
    size_ -= static_cast<size_t>(n);
    if (pipe.bytes == 0)
        give_back(std::move(pipes_[first_++]));
    return static_cast<int>(n);
}

void PagePipe::reset() {
    for (; first_ < pipes_.size(); first_++)
        give_back(std::move(pipes_[first_]));
    pipes_.clear();
    head_ = {};
    first_ = 0;
    size_ = 0;
    error_ = 0;
}

}  // namespace ashlar
