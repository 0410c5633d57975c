// HotMap: a map of a file, for the parts of it that are read so often that it pays to use them through one.
//
// A map saves a read looking for its pages, but whoever touches a page that is not in the page cache waits for the
// disk. So a part (a window) is handed out only after kHot reads of it, and if all of it was in the page cache less
// than a second ago: to lose what has just been used, memory must be so short that the program waits for its own code
// too.
//
// Any thread, any time. What find() returns is for system calls that take EFAULT for an answer (the file may be cut),
// not to be read directly, and stays valid as long as this lives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace ashlar {

class HotMap {
public:
    // Of the first `length` bytes of what `fd` refers to, which stays open as long as this lives. Where it cannot be
    // mapped nothing is ever found.
    HotMap(int fd, int64_t length);
    ~HotMap();
    HotMap(const HotMap&) = delete;

    // To be called for each read, as it counts them. Null: read them otherwise.
    const std::byte* find(int64_t offset, int64_t bytes);

    static constexpr int64_t kWindow = 256 << 10;
    static constexpr int64_t kHot = 8;

private:
    // What is known of a window, in a table that has room for those of a few gigabytes. Used as atomics, each by
    // itself: what threads do to it at the same time makes it inexact, which is good enough.
    struct Window {
        int64_t number;  // counted from 1
        int64_t reads;   // since it was last looked at
        int64_t good_until;
    };
    static constexpr size_t kWindows = 32768;
    struct Free {
        void operator()(Window* windows) const;
    };

    int fd_;
    int64_t length_;
    std::byte* map_ = nullptr;
    std::unique_ptr<Window[], Free> windows_;  // zero at first, which takes no memory
};

}  // namespace ashlar
