// What is done to the memory that an IoVector describes. Pure functions; offsets and lengths lie within the vector.
#pragma once

#include "block/block_types.h"

#include <array>
#include <vector>

namespace ashlar {

int64_t iov_length(IoVector iov);
void iov_fill_zero(IoVector iov, int64_t offset, int64_t bytes);
void iov_copy_in(IoVector to, int64_t offset, const void* from, int64_t bytes);
void iov_copy_out(IoVector from, int64_t offset, void* to, int64_t bytes);
bool iov_is_zero(IoVector iov);
// True if every element's address and length is a multiple of these, which are powers of two.
bool iov_is_aligned(IoVector iov, uint32_t address_alignment, uint32_t length_alignment);

// A part of an IoVector, as an IoVector of its own; refers to the same memory.
class IovSlice {
public:
    IovSlice(IoVector whole, int64_t offset, int64_t bytes);
    IovSlice(const IovSlice&) = delete;
    IoVector get() const { return {count_ > kInline ? many_.data() : few_.data(), count_}; }

private:
    static constexpr unsigned kInline = 4;
    unsigned count_ = 0;
    std::array<iovec, kInline> few_;
    std::vector<iovec> many_;
};

}  // namespace ashlar
