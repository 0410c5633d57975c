// IoBuffer: the memory of a request of ashlar-io, as one range or as several.
//
// Aligned as O_DIRECT wants it or, with -m, off by 16 bytes.
#pragma once

#include "block/block_types.h"
#include "util/buffer_pool.h"

#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ashlar {

// The most that one request may have: 2 GiB, rounded down to sectors.
constexpr int64_t kMaxIoBytes = (int64_t{1} << 31) - kSectorSize;

class IoBuffer {
public:
    static constexpr int kReadFill = 0xab;   // what is there before a read
    static constexpr int kWriteFill = 0xcd;  // what is written if nothing else is said

    // Each prints why it has none: not enough memory, a length that is none, a file that cannot be read.
    static std::optional<IoBuffer> filled(int64_t bytes, int fill, bool misalign);
    static std::optional<IoBuffer> with_lengths(std::span<const std::string> lengths, int fill, bool misalign);
    static std::optional<IoBuffer> from_file(const std::string& filename, int64_t bytes, bool misalign);

    int64_t bytes() const { return bytes_; }
    std::span<std::byte> data() const { return memory_.span().subspan(skip_, static_cast<size_t>(bytes_)); }
    IoVector vector() const { return {elements_.data(), static_cast<unsigned>(elements_.size())}; }

    // Whether all of these bytes are `pattern`.
    bool is_all(int pattern, int64_t offset, int64_t bytes) const;

private:
    static std::optional<IoBuffer> allocate(int64_t bytes, bool misalign);

    Buffer memory_;
    size_t skip_ = 0;
    int64_t bytes_ = 0;
    std::vector<iovec> elements_;
};

}  // namespace ashlar
