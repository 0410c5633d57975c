// DirtyBitmap: which parts of a disk have been written to, a bit for each `granularity` bytes.
//
// The bits may be read and changed from any thread: a lock of the bitmap's own is held for as long as that takes, and
// never across a suspension. So is whether it records, which takes effect at once. Everything else (what the bitmap is
// used for, whether it is stored) is the main context's.
//
// A node has a list of them (block/node_bitmaps.h); its request path marks what was written when the write has ended,
// well or not, and before anyone is told. What is written while a bitmap is enabled, cleared or merged is therefore in
// it unless the write had ended before. Shared, because who shows or stores one may outlive the node's interest in it.
//
// Memory: 16 bytes for each 2^15 bits, and the bits themselves of those of which some are set and some are not.
#pragma once

#include "util/error.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace ashlar {

class DirtyBitmap {
public:
    static constexpr uint32_t kMinGranularity = 512;
    static constexpr uint64_t kMaxBits = uint64_t{1} << 38;

    // Clear, enabled. `size`: bytes of the disk. "Granularity must be power of 2 and at least 512"
    static Result<std::shared_ptr<DirtyBitmap>> create(std::string name, uint32_t granularity, int64_t size);
    DirtyBitmap(const DirtyBitmap&) = delete;

    const std::string& name() const { return name_; }  // empty: it is nobody's but its maker's
    uint32_t granularity() const { return uint32_t{1} << granularity_bits_; }

    // --- the bits: any thread. What is behind the end is left out. ---
    void set(int64_t offset, int64_t bytes);    // everything that the range touches
    void clear(int64_t offset, int64_t bytes);  // begins and ends at multiples of the granularity, or at the end
    void set_all();
    void clear_all();
    // For the request path: set, if it is enabled; the disk has grown to `length` bytes if it had less.
    void mark(int64_t offset, int64_t bytes, int64_t length);
    // Like `other`, which has the same size; its granularity may be another.
    void merge(const DirtyBitmap& other);
    // What is cut off is forgotten; what is added is clean.
    void resize(int64_t size);
    static Result<void> check_size(uint32_t granularity, int64_t size);  // that there may be so many bits

    int64_t size() const;
    uint64_t bits() const;
    int64_t count() const;  // dirty bytes, in whole granules
    bool is_dirty(int64_t offset) const;
    // The first dirty, or the first clean, byte in [offset, end); -1: there is none.
    int64_t next_dirty(int64_t offset, int64_t end) const;
    int64_t next_clean(int64_t offset, int64_t end) const;
    // The stretch that is alike from `offset` on, which is less than `end`, and ends there or at the disk's end.
    struct Stretch {
        int64_t bytes = 0;  // 0: behind the end of the disk
        bool dirty = false;
    };
    Stretch stretch(int64_t offset, int64_t end) const;

    // As images store them: bit N is bit N % 8 of byte N / 8. `first` is a multiple of 64; bits behind the last are 0,
    // or ignored.
    void store_bits(uint64_t first, std::span<std::byte> to) const;
    void load_bits(uint64_t first, std::span<const std::byte> from);

    // --- any thread ---
    bool is_enabled() const { return enabled_.load(std::memory_order_relaxed); }
    void set_enabled(bool on) { enabled_.store(on, std::memory_order_relaxed); }

    // --- main context ---
    bool is_busy() const { return busy_; }  // somebody relies on it: nobody else uses or changes it
    void set_busy(bool on) { busy_ = on; }
    bool is_persistent() const { return persistent_; }  // stored in the image
    void set_persistent(bool on) { persistent_ = on; }
    bool is_inconsistent() const { return inconsistent_; }  // it was not stored in time: good for nothing
    void set_inconsistent(bool on) { inconsistent_ = on; }
    bool is_read_only() const { return read_only_; }  // the image still has the very same
    void set_read_only(bool on) { read_only_ = on; }

    enum class Use : uint8_t { Read, Change, Remove };
    // Whether it can be used like that now, else why not, in QEMU's words.
    Result<void> check_use(Use use) const;

private:
    using Word = uint64_t;
    static constexpr uint64_t kWordBits = 64;
    static constexpr uint64_t kPageBits = uint64_t{1} << 15;

    // Either all bits of a page are alike, or it has words. `count` of them are set.
    struct Page {
        std::unique_ptr<Word[]> words;
        uint32_t count = 0;
    };

    DirtyBitmap(std::string name, unsigned granularity_bits);

    // With the lock held.
    uint64_t bits_for(int64_t size) const;
    uint64_t capacity(uint64_t page) const;
    void split(Page& page, uint64_t capacity);
    void change(uint64_t first, uint64_t end, bool value);
    void change_bytes(int64_t offset, int64_t bytes, bool value);
    uint64_t find(uint64_t first, uint64_t end, bool value) const;  // end: none
    int64_t find_byte(int64_t offset, int64_t end, bool value) const;
    void resize_locked(int64_t size);
    void merge_page(Page& to, const Page& from, uint64_t capacity);

    const std::string name_;
    const unsigned granularity_bits_;
    std::atomic<bool> enabled_{true};
    bool busy_ = false;
    bool persistent_ = false;
    bool inconsistent_ = false;
    bool read_only_ = false;

    mutable std::mutex lock_;
    int64_t size_ = 0;
    uint64_t bits_ = 0;
    uint64_t set_bits_ = 0;
    std::vector<Page> pages_;
};

}  // namespace ashlar
