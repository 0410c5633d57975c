// Buffer: memory for I/O, aligned for O_DIRECT (4096 bytes), from a per-thread cache of recently freed ones.
//
// A value with one owner; may be freed on another thread than the one that made it. Contents are not initialised. The
// cache holds a bounded number of bytes; what is larger than kMaxCached comes from and goes to the system.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

namespace ashlar {

class Buffer {
public:
    static constexpr size_t kAlignment = 4096;
    static constexpr size_t kMaxCached = 2 << 20;

    Buffer() = default;
    explicit Buffer(size_t size);          // ends the program when memory is exhausted
    static Buffer try_alloc(size_t size);  // empty when memory is exhausted
    Buffer(Buffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    Buffer& operator=(Buffer&& other) noexcept {
        reset();
        data_ = std::exchange(other.data_, nullptr);
        size_ = std::exchange(other.size_, 0);
        return *this;
    }
    ~Buffer() { reset(); }

    void reset();
    std::byte* data() const { return data_; }
    size_t size() const { return size_; }
    explicit operator bool() const { return data_ != nullptr; }
    std::span<std::byte> span() const { return {data_, size_}; }

private:
    std::byte* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace ashlar
