// The vocabulary of the block layer: vectors of memory, request flags, limits, status, permissions. Values only.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace ashlar {

class PagePipe;  // util/page_pipe.h

// Where a request's data is: a view, whose elements (and the memory) belong to whoever submitted the request. The
// elements' lengths add up to the request's length.
struct IoVector {
    const iovec* iov = nullptr;
    unsigned count = 0;

    IoVector() = default;
    IoVector(const iovec* elements, unsigned n) : iov(elements), count(n) {}
    explicit IoVector(const iovec& element) : iov(&element), count(1) {}
    std::span<const iovec> elements() const { return {iov, count}; }
};

enum class RequestFlags : uint16_t {
    None = 0,
    Fua = 1 << 0,          // a write that is on stable storage when it completes
    MayUnmap = 1 << 1,     // write zeroes: may deallocate
    NoFallback = 1 << 2,   // write zeroes: -ENOTSUP rather than writing buffers of zeroes
    Serialising = 1 << 3,  // waits for, and keeps out, every overlapping request
    Prefetch = 1 << 4,     // read: bring the data near; no memory is given
    Compressed = 1 << 5,   // write: store compressed; -ENOTSUP rather than plain. Whole clusters, or up to the end
    Unchanged = 1 << 6,    // write: of what is read there already (copy on read): WriteUnchanged is permission enough
};
constexpr RequestFlags operator|(RequestFlags a, RequestFlags b) {
    return static_cast<RequestFlags>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
constexpr RequestFlags operator&(RequestFlags a, RequestFlags b) {
    return static_cast<RequestFlags>(static_cast<unsigned>(a) & static_cast<unsigned>(b));
}
constexpr RequestFlags operator~(RequestFlags a) {
    return static_cast<RequestFlags>(~static_cast<unsigned>(a));
}
constexpr RequestFlags& operator|=(RequestFlags& a, RequestFlags b) {
    return a = a | b;
}
constexpr RequestFlags& operator&=(RequestFlags& a, RequestFlags b) {
    return a = a & b;
}
constexpr bool has(RequestFlags set, RequestFlags flag) {
    return (set & flag) == flag;
}

// Requests and images end below this (QEMU's limit: the largest multiple of 2^30 below 2^63).
constexpr int64_t kMaxLength = INT64_MAX - (int64_t{1} << 30) + 1;
constexpr int64_t kSectorSize = 512;

// What a driver can take in one call. Zero means no limit, or 1 for an alignment.
struct BlockLimits {
    uint32_t request_alignment = 1;  // of offset and length; a power of two
    uint32_t min_mem_alignment = 1;  // of the memory's address
    uint32_t opt_transfer = 0;       // what is best
    uint32_t max_transfer = 0;       // of one read or write
    unsigned max_iov = 1024;         // elements of one read or write
    uint32_t pwrite_zeroes_alignment = 0;
    int64_t max_pwrite_zeroes = 0;
    uint32_t pdiscard_alignment = 0;
    int64_t max_pdiscard = 0;
};

// The status of a range that begins at the offset asked for and is `bytes` long, all of one kind.
struct BlockStatus {
    enum : unsigned {
        Data = 1 << 0,  // reads from the file below at `offset`, if OffsetValid
        Zero = 1 << 1,  // reads as zeroes
        OffsetValid = 1 << 2,
        Raw = 1 << 3,        // ask the file below at `offset`
        Allocated = 1 << 4,  // determined by this layer, not by its backing file
        Eof = 1 << 5,
        Compressed = 1 << 6,
    };
    int ret = 0;  // negative errno, or 0
    unsigned flags = 0;
    int64_t bytes = 0;
    int64_t offset = 0;
    unsigned depth = 0;  // of the whole chain: 1 is the top layer, 0: nowhere in the chain

    bool has(unsigned flag) const { return flags & flag; }
};

// What a parent may do with a child (perm), and what it lets other parents do meanwhile (shared).
enum class BlockPerm : uint8_t {
    None = 0,
    ConsistentRead = 1 << 0,  // reads something meaningful
    Write = 1 << 1,
    WriteUnchanged = 1 << 2,  // writes that do not change what is read (COR, commit)
    Resize = 1 << 3,
    All = (1 << 4) - 1,
};
constexpr BlockPerm operator|(BlockPerm a, BlockPerm b) {
    return static_cast<BlockPerm>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
constexpr BlockPerm operator&(BlockPerm a, BlockPerm b) {
    return static_cast<BlockPerm>(static_cast<unsigned>(a) & static_cast<unsigned>(b));
}
constexpr BlockPerm operator~(BlockPerm a) {
    return static_cast<BlockPerm>(~static_cast<unsigned>(a) & static_cast<unsigned>(BlockPerm::All));
}
constexpr bool has(BlockPerm set, BlockPerm perm) {
    return (set & perm) == perm;
}

// What a child is to its parent.
enum class ChildRole : uint8_t {
    None = 0,
    Data = 1 << 0,      // guest data are stored in it
    Metadata = 1 << 1,  // the parent's own
    Filtered = 1 << 2,  // the parent shows it as it is
    Cow = 1 << 3,       // what the parent does not have itself (a backing file)
    Primary = 1 << 4,   // the main child: the "file"
};
constexpr ChildRole operator|(ChildRole a, ChildRole b) {
    return static_cast<ChildRole>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
constexpr bool has(ChildRole set, ChildRole role) {
    return (static_cast<unsigned>(set) & static_cast<unsigned>(role)) == static_cast<unsigned>(role);
}

enum class PreallocMode : uint8_t { Off, Metadata, Falloc, Full };

}  // namespace ashlar
