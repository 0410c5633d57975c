#include "util/buffer_pool.h"

#include <bit>
#include <cstdlib>
#include <new>

namespace ashlar {

namespace {

constexpr size_t kSmallest = Buffer::kAlignment;
constexpr unsigned kClasses = std::countr_zero(Buffer::kMaxCached) - std::countr_zero(kSmallest) + 1;
constexpr size_t kCachedBytes = 16 << 20;  // by one thread in all

struct FreeBuffer {
    FreeBuffer* next;
};

struct Cache {
    FreeBuffer* free[kClasses] = {};
    size_t bytes = 0;

    ~Cache() {
        for (FreeBuffer* list : free)
            while (list)
                std::free(std::exchange(list, list->next));
    }
};

thread_local Cache cache;

size_t rounded(size_t size) {
    return size <= kSmallest ? kSmallest : std::bit_ceil(size);
}
unsigned class_of(size_t round) {
    return static_cast<unsigned>(std::countr_zero(round) - std::countr_zero(kSmallest));
}

std::byte* allocate(size_t size) {
    if (size > Buffer::kMaxCached)
        return static_cast<std::byte*>(std::aligned_alloc(Buffer::kAlignment, (size + 4095) / 4096 * 4096));
    size_t round = rounded(size);
    FreeBuffer*& list = cache.free[class_of(round)];
    if (list) {
        cache.bytes -= round;
        return reinterpret_cast<std::byte*>(std::exchange(list, list->next));
    }
    return static_cast<std::byte*>(std::aligned_alloc(Buffer::kAlignment, round));
}

}  // namespace

Buffer Buffer::try_alloc(size_t size) {
    Buffer buffer;
    buffer.data_ = allocate(size);
    buffer.size_ = buffer.data_ ? size : 0;
    return buffer;
}

Buffer::Buffer(size_t size) : data_(allocate(size)), size_(size) {
    if (!data_)
        throw std::bad_alloc();
}

void Buffer::reset() {
    if (!data_)
        return;
    size_t round = rounded(size_);
    if (size_ > kMaxCached || cache.bytes + round > kCachedBytes) {
        std::free(data_);
    } else {
        auto* buffer = reinterpret_cast<FreeBuffer*>(data_);
        FreeBuffer*& list = cache.free[class_of(round)];
        buffer->next = list;
        list = buffer;
        cache.bytes += round;
    }
    data_ = nullptr;
    size_ = 0;
}

}  // namespace ashlar
