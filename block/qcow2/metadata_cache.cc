#include "block/qcow2/metadata_cache.h"

#include "block/block_node.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>

namespace ashlar::qcow2 {

// Awaited with the cache unlocked: suspends while the piece is still loading.
struct MetadataCache::LoadWait : WaitList::Waiter {
    MetadataCache& cache;
    uint64_t offset;

    LoadWait(MetadataCache& c, uint64_t o) : cache(c), offset(o) {}
    bool await_ready() const { return false; }
    bool await_suspend(std::coroutine_handle<> h) {
        prepare(h);
        std::lock_guard guard(cache.lock_);
        Piece* piece = cache.find(offset);
        if (!piece || !piece->loading)
            return false;
        piece->waiters.push(*this);
        return true;
    }
    void await_resume() const {}
};

MetadataCache::MetadataCache(BdrvChild& file, Owner& owner, size_t piece_bytes, size_t max_pieces)
    : file_(file),
      owner_(owner),
      piece_bytes_(piece_bytes),
      max_pieces_(max_pieces),
      // Whole blocks of the file are written without being read before.
      part_bytes_(std::max(piece_bytes / 64, std::min<size_t>(piece_bytes, file.node().limits().request_alignment))) {}

MetadataCache::~MetadataCache() {
    assert(std::ranges::none_of(pieces_, &Piece::loading));
}

MetadataCache::Piece* MetadataCache::find(uint64_t offset) {
    auto found = index_.find(offset & ~uint64_t{piece_bytes_ - 1});
    return found == index_.end() ? nullptr : &*found->second;
}

MetadataCache::Piece* MetadataCache::use(uint64_t offset) {
    auto found = index_.find(offset & ~uint64_t{piece_bytes_ - 1});
    if (found == index_.end() || found->second->loading)
        return nullptr;
    if (found->second != pieces_.begin())
        pieces_.splice(pieces_.begin(), pieces_, found->second);
    found->second->used_lately = true;
    return &*found->second;
}

void MetadataCache::mark_dirty(Piece& piece, size_t begin, size_t bytes) {
    size_t first = begin / part_bytes_, last = (begin + bytes - 1) / part_bytes_;
    uint64_t up_to_last = last == 63 ? ~uint64_t{0} : (uint64_t{2} << last) - 1;
    piece.dirty |= up_to_last & ~((uint64_t{1} << first) - 1);
}

Buffer MetadataCache::take_room() {
    if (pieces_.size() < max_pieces_)
        return Buffer(piece_bytes_);
    bool any_loading = false;
    for (auto it = pieces_.end(); it != pieces_.begin();) {
        --it;
        any_loading |= it->loading;
        if (!is_clean(*it))
            continue;
        Buffer room = std::move(it->data);
        index_.erase(it->offset);
        pieces_.erase(it);
        return room;
    }
    // More loads at once than there is room for: as many pieces too many, for as long.
    return any_loading ? Buffer(piece_bytes_) : Buffer();
}

Task<int> MetadataCache::co_fill(Piece& piece) {
    int64_t length = file_.length();
    if (length < 0)
        co_return static_cast<int>(length);
    if (piece.offset >= static_cast<uint64_t>(length))
        co_return -EIO;
    co_return co_await file_.co_pread(static_cast<int64_t>(piece.offset), static_cast<int64_t>(piece_bytes_),
                                      piece.data.data());
}

Task<int> MetadataCache::co_load(uint64_t offset) {
    offset &= ~uint64_t{piece_bytes_ - 1};
    for (;;) {
        Piece* mine = nullptr;
        bool full = false;
        {
            std::lock_guard guard(lock_);
            if (Piece* piece = find(offset)) {
                if (!piece->loading)
                    co_return 0;
            } else if (Buffer room = take_room()) {
                while (pieces_.size() > max_pieces_ && is_clean(pieces_.back())) {
                    index_.erase(pieces_.back().offset);
                    pieces_.pop_back();
                }
                mine = &pieces_.emplace_front(offset, std::move(room));
                index_[offset] = pieces_.begin();
            } else {
                full = true;
            }
        }
        if (full) {
            if (int ret = co_await owner_.co_make_clean(); ret < 0)
                co_return ret;
            continue;
        }
        if (!mine) {
            co_await LoadWait(*this, offset);
            continue;
        }
        int ret = co_await co_fill(*mine);
        std::lock_guard guard(lock_);
        mine->loading = false;
        mine->waiters.wake_all();
        if (ret < 0 || mine->dropped) {
            auto it = index_.find(offset);
            pieces_.erase(it->second);
            index_.erase(it);
            if (ret >= 0)
                continue;
        }
        co_return ret;
    }
}

void MetadataCache::drop(uint64_t offset, uint64_t bytes) {
    std::lock_guard guard(lock_);
    std::erase_if(pieces_, [&](Piece& piece) {
        if (piece.offset < offset || piece.offset - offset >= bytes)
            return false;
        if (piece.loading) {
            piece.dropped = true;
            return false;
        }
        index_.erase(piece.offset);
        return true;
    });
}

std::vector<DirtyPart> MetadataCache::take_dirty() {
    std::vector<DirtyPart> parts;
    std::lock_guard guard(lock_);
    for (Piece& piece : pieces_) {
        piece.writing = piece.dirty;
        while (piece.dirty) {
            auto first = static_cast<unsigned>(std::countr_zero(piece.dirty));
            auto count = static_cast<unsigned>(std::countr_one(piece.dirty >> first));
            auto bytes = piece.data.span().subspan(first * part_bytes_, count * part_bytes_);
            parts.push_back({piece.offset + first * part_bytes_, {bytes.begin(), bytes.end()}});
            piece.dirty &= count == 64 ? 0 : ~(((uint64_t{1} << count) - 1) << first);
        }
    }
    return parts;
}

void MetadataCache::finish_write(bool ok) {
    std::lock_guard guard(lock_);
    for (Piece& piece : pieces_) {
        if (!ok)
            piece.dirty |= piece.writing;
        piece.writing = 0;
    }
}

void MetadataCache::resize(size_t piece_bytes, size_t max_pieces) {
    drop(0, ~uint64_t{0});
    std::lock_guard guard(lock_);
    piece_bytes_ = piece_bytes;
    max_pieces_ = max_pieces;
    part_bytes_ = std::max(piece_bytes / 64, std::min<size_t>(piece_bytes, file_.node().limits().request_alignment));
}

void MetadataCache::clean_unused() {
    std::lock_guard guard(lock_);
    std::erase_if(pieces_, [&](Piece& piece) {
        if (!is_clean(piece) || std::exchange(piece.used_lately, false))
            return false;
        index_.erase(piece.offset);
        return true;
    });
}

}  // namespace ashlar::qcow2
