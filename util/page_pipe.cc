#include "util/page_pipe.h"

#include <fcntl.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>

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

}  // namespace

struct PagePipe::Cache {
    std::vector<Pipe> free;
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

bool PagePipe::add_file(int fd, int64_t offset, int64_t bytes) {
    if (!head_.empty()) {
        if (!add_pipe())
            return false;
        Pipe& pipe = pipes_.back();
        if (write(pipe.to.get(), head_.data(), head_.size()) != static_cast<ssize_t>(head_.size())) {
            pipe.bytes = head_.size();  // whatever is in it
            return false;
        }
        pipe.bytes = head_.size();
        pipe.pages = 1;
        size_ += head_.size();
        head_ = {};
    }
    while (bytes > 0) {
        if ((pipes_.empty() || pipes_.back().pages == kPages) && !add_pipe())
            return false;
        Pipe& pipe = pipes_.back();
        const int64_t in_page = offset % kPageSize;
        const int64_t room = static_cast<int64_t>(kPages - pipe.pages) * kPageSize - in_page;
        off64_t at = offset;
        ssize_t n =
            splice(fd, &at, pipe.to.get(), nullptr, static_cast<size_t>(std::min(room, bytes)), SPLICE_F_NONBLOCK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;  // the file's end, or no room: it has been cut in smaller pieces than pages
        pipe.pages += static_cast<unsigned>((in_page + n + kPageSize - 1) / kPageSize);
        pipe.bytes += static_cast<size_t>(n);
        size_ += static_cast<size_t>(n);
        offset += n;
        bytes -= n;
    }
    return true;
}

int PagePipe::move_to(int socket) {
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
}

}  // namespace ashlar
