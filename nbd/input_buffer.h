// InputBuffer: the bytes that were received and not yet understood.
//
// Small, so that thousands of idle connections cost little; while a client streams small writes it grows, so that one
// recv brings many of them, and shrinks again when the connection has nothing to do.
#pragma once

#include <cassert>
#include <cstring>
#include <span>
#include <utility>

#include "util/buffer_pool.h"

namespace ashlar::nbd {

class InputBuffer {
public:
    static constexpr size_t kSmall = 16u << 10;
    static constexpr size_t kLarge = 256u << 10;

    InputBuffer() : buffer_(kSmall) {}

    size_t size() const { return end_ - begin_; }
    std::span<const std::byte> bytes() const { return {buffer_.data() + begin_, size()}; }
    void consume(size_t n) {
        assert(n <= size());
        begin_ += n;
    }
    // Moves up to `to.size()` bytes out; says how many.
    size_t take(std::span<std::byte> to) {
        size_t n = std::min(to.size(), size());
        std::memcpy(to.data(), buffer_.data() + begin_, n);
        begin_ += n;
        return n;
    }

    // Where to receive to, after making room for as much as possible. With `idle` the buffer is small again if it is
    // empty.
    std::span<std::byte> space(bool idle) {
        if (size() == 0) {
            begin_ = end_ = 0;
            large_ = !idle && (large_ || grow_);
            if (size_t wanted = large_ ? kLarge : kSmall; wanted != buffer_.size())
                buffer_ = Buffer(wanted);
        } else if (begin_ > 0) {
            std::memmove(buffer_.data(), buffer_.data() + begin_, size());
            end_ -= begin_;
            begin_ = 0;
        }
        grow_ = false;
        return {buffer_.data() + end_, buffer_.size() - end_};
    }
    void received(size_t n) {
        end_ += n;
        grow_ = end_ == buffer_.size();
    }
    // Where to receive the rest of a header of `length` bytes to, and what comes with it; nothing comes with it after a
    // large payload, because what is likely to follow is another one, which would have to be copied from here.
    std::span<std::byte> header_space(size_t length, bool idle) {
        std::span<std::byte> all = space(idle);
        return std::exchange(alone_, false) ? all.first(length - size()) : all;
    }
    // The same behind a large payload that is being received elsewhere.
    std::span<std::byte> next_header_space(size_t length) { return space(false).first(length - size()); }
    // The client sends large payloads, which do not come through here.
    void bypassed() {
        grow_ = false;
        large_ = false;
        alone_ = true;
    }

private:
    Buffer buffer_;
    size_t begin_ = 0;
    size_t end_ = 0;
    bool grow_ = false;   // the last recv filled it: there is more
    bool large_ = false;  // what it is to be when it is empty
    bool alone_ = false;  // the next header
};

}  // namespace ashlar::nbd
