#include "block/io_vector.h"

#include <algorithm>
#include <cstring>

namespace ashlar {

namespace {

// Calls fn(address, length) for each stretch of memory of the range.
template <class Fn>
void each_stretch(IoVector iov, int64_t offset, int64_t bytes, Fn fn) {
    for (const iovec& element : iov.elements()) {
        if (bytes == 0)
            return;
        auto length = static_cast<int64_t>(element.iov_len);
        if (offset >= length) {
            offset -= length;
            continue;
        }
        int64_t n = std::min(length - offset, bytes);
        fn(static_cast<char*>(element.iov_base) + offset, static_cast<size_t>(n));
        bytes -= n;
        offset = 0;
    }
}

}  // namespace

int64_t iov_length(IoVector iov) {
    int64_t sum = 0;
    for (const iovec& element : iov.elements())
        sum += static_cast<int64_t>(element.iov_len);
    return sum;
}

void iov_fill_zero(IoVector iov, int64_t offset, int64_t bytes) {
    each_stretch(iov, offset, bytes, [](char* p, size_t n) { memset(p, 0, n); });
}

void iov_copy_in(IoVector to, int64_t offset, const void* from, int64_t bytes) {
    auto* source = static_cast<const char*>(from);
    each_stretch(to, offset, bytes, [&](char* p, size_t n) {
        memcpy(p, source, n);
        source += n;
    });
}

void iov_copy_out(IoVector from, int64_t offset, void* to, int64_t bytes) {
    auto* target = static_cast<char*>(to);
    each_stretch(from, offset, bytes, [&](char* p, size_t n) {
        memcpy(target, p, n);
        target += n;
    });
}

bool iov_is_zero(IoVector iov) {
    for (const iovec& element : iov.elements()) {
        auto* p = static_cast<const unsigned char*>(element.iov_base);
        size_t n = element.iov_len;
        // Compares the memory with itself, shifted by one, once the first byte is known to be zero.
        if (n > 0 && (p[0] != 0 || memcmp(p, p + 1, n - 1) != 0))
            return false;
    }
    return true;
}

bool iov_is_aligned(IoVector iov, uint32_t address_alignment, uint32_t length_alignment) {
    for (const iovec& element : iov.elements())
        if ((reinterpret_cast<uintptr_t>(element.iov_base) & (address_alignment - 1)) ||
            (element.iov_len & (length_alignment - 1)))
            return false;
    return true;
}

IovSlice::IovSlice(IoVector whole, int64_t offset, int64_t bytes) {
    each_stretch(whole, offset, bytes, [&](char* p, size_t n) {
        iovec element{p, n};
        if (count_ < kInline) {
            few_[count_] = element;
        } else {
            if (count_ == kInline)
                many_.assign(few_.begin(), few_.end());
            many_.push_back(element);
        }
        ++count_;
    });
}

}  // namespace ashlar
