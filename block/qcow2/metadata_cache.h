// MetadataCache: pieces of an image's tables (L2 tables, or refcount blocks) in memory, all of one size.
//
// Any thread. What is in memory is read and changed without suspending, under a lock that is held for the length of a
// memory access and never across I/O; what is not is brought by co_load(), which many may await at once. A piece that
// has been changed stays until take_dirty() has handed its changes out to be written: the cache knows nothing of the
// order in which that must be done, which is Writeback's business (writeback.h), and asks for it by `make_clean` when
// all of its room is taken by such pieces.
#pragma once

#include "block/bdrv_child.h"
#include "util/buffer_pool.h"
#include "util/task.h"
#include "util/wait_list.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

namespace ashlar::qcow2 {

// Bytes to be written to the image file.
struct DirtyPart {
    uint64_t offset;
    std::vector<std::byte> data;
};

class MetadataCache {
public:
    struct Owner {
        // Makes the cache's pieces clean by having them written. May be called with the owner's own locks held.
        virtual Task<int> co_make_clean() = 0;

    protected:
        ~Owner() = default;
    };

    // `file` and `owner` outlive the cache. `piece_bytes` is a power of two, at least 64.
    MetadataCache(BdrvChild& file, Owner& owner, size_t piece_bytes, size_t max_pieces);
    MetadataCache(const MetadataCache&) = delete;
    ~MetadataCache();

    size_t piece_bytes() const { return piece_bytes_; }

    // Calls fn(bytes) for what is at `offset` in the file, up to the end of its piece. False: it is not in memory.
    template <class Fn>
    bool read(uint64_t offset, Fn fn) {
        std::lock_guard guard(lock_);
        Piece* piece = use(offset);
        if (!piece)
            return false;
        fn(std::span<const std::byte>(piece->data.span()).subspan(offset & (piece_bytes_ - 1)));
        return true;
    }
    // The same for `bytes` bytes that fn(bytes) changes, all in one piece.
    template <class Fn>
    bool modify(uint64_t offset, size_t bytes, Fn fn) {
        std::lock_guard guard(lock_);
        Piece* piece = use(offset);
        if (!piece)
            return false;
        size_t begin = offset & (piece_bytes_ - 1);
        fn(piece->data.span().subspan(begin, bytes));
        mark_dirty(*piece, begin, bytes);
        return true;
    }

    // On success what is at `offset` was in memory a moment ago: try again. -EIO: it is beyond the end of the file.
    [[nodiscard]] Task<int> co_load(uint64_t offset);

    // Forgets the pieces in a range, changes and all. Nobody may be using it.
    void drop(uint64_t offset, uint64_t bytes);

    // What has been changed since it was last taken, to be written; then, before it is called again, finish_write()
    // says whether it was. If not it will be taken again.
    [[nodiscard]] std::vector<DirtyPart> take_dirty();
    void finish_write(bool ok);

    // Forgets all pieces, and has others from then on. Nobody is using it, and all are clean.
    void resize(size_t piece_bytes, size_t max_pieces);

    // Frees the pieces that were not used since the last call (cache-clean-interval).
    void clean_unused();

private:
    struct Piece {
        Piece(uint64_t at, Buffer room) : offset(at), data(std::move(room)) {}
        Piece(const Piece&) = delete;  // a WaitList stays where it is

        uint64_t offset;
        Buffer data;
        bool loading = true;
        bool used_lately = true;
        bool dropped = false;  // while it was loading
        uint64_t dirty = 0;    // a bit for each part
        uint64_t writing = 0;  // taken, and not yet known to be written
        WaitList waiters;      // for the end of loading
    };
    using Pieces = std::list<Piece>;  // the one used last comes first
    struct LoadWait;

    Piece* use(uint64_t offset);
    Piece* find(uint64_t offset);
    void mark_dirty(Piece& piece, size_t begin, size_t bytes);
    static bool is_clean(const Piece& piece) { return !piece.loading && !piece.dirty && !piece.writing; }
    Buffer take_room();  // empty: no piece is clean
    Task<int> co_fill(Piece& piece);

    BdrvChild& file_;
    Owner& owner_;
    size_t piece_bytes_;
    size_t max_pieces_;
    size_t part_bytes_;
    std::mutex lock_;
    Pieces pieces_;
    std::unordered_map<uint64_t, Pieces::iterator> index_;
};

}  // namespace ashlar::qcow2
