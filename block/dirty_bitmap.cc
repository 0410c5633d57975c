#include "block/dirty_bitmap.h"

#include "util/byte_order.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstring>

namespace ashlar {

namespace {

// The bits [first, end) of a word.
constexpr uint64_t word_mask(uint64_t first, uint64_t end) {
    uint64_t below_end = end == 64 ? ~uint64_t{0} : (uint64_t{1} << end) - 1;
    return below_end & (~uint64_t{0} << first);
}

}  // namespace

DirtyBitmap::DirtyBitmap(std::string name, unsigned granularity_bits)
    : name_(std::move(name)), granularity_bits_(granularity_bits) {}

Result<std::shared_ptr<DirtyBitmap>> DirtyBitmap::create(std::string name, uint32_t granularity, int64_t size) {
    if (granularity < kMinGranularity || !std::has_single_bit(granularity))
        return fail("Granularity must be power of 2 and at least {}", kMinGranularity);
    if (auto ok = check_size(granularity, size); !ok)
        return std::unexpected(std::move(ok.error()));
    std::shared_ptr<DirtyBitmap> bitmap(
        new DirtyBitmap(std::move(name), static_cast<unsigned>(std::countr_zero(granularity))));
    bitmap->resize(size);
    return bitmap;
}

Result<void> DirtyBitmap::check_size(uint32_t granularity, int64_t size) {
    assert(size >= 0);
    if (static_cast<uint64_t>(size) / granularity >= kMaxBits)
        return std::unexpected(Error{fmt::format("A dirty bitmap of granularity {} can have at most {} bytes",
                                                 granularity, kMaxBits * granularity)}
                                   .with_hint("Choose a larger granularity."));
    return {};
}

// --- with the lock held ---

uint64_t DirtyBitmap::bits_for(int64_t size) const {
    return (static_cast<uint64_t>(size) + granularity() - 1) >> granularity_bits_;
}

uint64_t DirtyBitmap::capacity(uint64_t page) const {
    return std::min(kPageBits, bits_ - page * kPageBits);
}

// Gives the page words.
void DirtyBitmap::split(Page& page, uint64_t capacity) {
    if (page.words)
        return;
    page.words = std::make_unique<Word[]>(kPageBits / kWordBits);
    if (page.count == 0)
        return;
    assert(page.count == capacity);
    for (uint64_t bit = 0; bit < capacity; bit += kWordBits)
        page.words[bit / kWordBits] = word_mask(0, std::min(kWordBits, capacity - bit));
}

void DirtyBitmap::change(uint64_t first, uint64_t end, bool value) {
    end = std::min(end, bits_);
    while (first < end) {
        const uint64_t index = first / kPageBits, base = index * kPageBits, room = capacity(index);
        const uint64_t to = std::min(end - base, room);
        uint64_t at = first - base;
        first = base + to;
        Page& page = pages_[index];
        const uint32_t uniform = value ? static_cast<uint32_t>(room) : 0;
        if (page.count == uniform)
            continue;
        const uint32_t before = page.count;
        if (at == 0 && to == room) {
            page.count = uniform;
        } else {
            split(page, room);
            while (at < to) {
                const uint64_t word_base = at / kWordBits * kWordBits;
                const uint64_t mask = word_mask(at - word_base, std::min(to - word_base, kWordBits));
                Word& word = page.words[at / kWordBits];
                const Word changed = (value ? ~word : word) & mask;
                word ^= changed;
                const auto n = static_cast<uint32_t>(std::popcount(changed));
                page.count = value ? page.count + n : page.count - n;
                at = word_base + kWordBits;
            }
        }
        set_bits_ = set_bits_ + page.count - before;
        if (page.count == uniform)
            page.words.reset();
    }
}

void DirtyBitmap::change_bytes(int64_t offset, int64_t bytes, bool value) {
    assert(offset >= 0 && bytes >= 0);
    if (bytes == 0 || offset >= size_)
        return;
    int64_t end = bytes > size_ - offset ? size_ : offset + bytes;
    change(static_cast<uint64_t>(offset) >> granularity_bits_, bits_for(end), value);
}

uint64_t DirtyBitmap::find(uint64_t first, uint64_t end, bool value) const {
    end = std::min(end, bits_);
    while (first < end) {
        const uint64_t index = first / kPageBits, base = index * kPageBits, room = capacity(index);
        const Page& page = pages_[index];
        if (page.count == (value ? room : 0))
            return first;
        if (page.words) {
            for (uint64_t at = first - base; at < room; at = at / kWordBits * kWordBits + kWordBits) {
                Word word = page.words[at / kWordBits];
                if (!value)
                    word = ~word;
                word &= word_mask(at % kWordBits, kWordBits);
                if (word == 0)
                    continue;
                uint64_t found = base + at / kWordBits * kWordBits + static_cast<uint64_t>(std::countr_zero(word));
                return std::min(found, end);
            }
        }
        first = base + kPageBits;
    }
    return end;
}

int64_t DirtyBitmap::find_byte(int64_t offset, int64_t end, bool value) const {
    assert(offset >= 0);
    end = std::min(end, size_);
    if (offset >= end)
        return -1;
    const uint64_t last = bits_for(end);
    const uint64_t found = find(static_cast<uint64_t>(offset) >> granularity_bits_, last, value);
    return found == last ? -1 : std::max(offset, static_cast<int64_t>(found << granularity_bits_));
}

void DirtyBitmap::resize_locked(int64_t size) {
    const uint64_t bits = bits_for(size);
    if (bits < bits_)
        change(bits, bits_, false);
    // What is added to a page of which all bits were set is clean.
    if (bits > bits_ && bits_ % kPageBits != 0 && pages_.back().count > 0)
        split(pages_.back(), capacity(pages_.size() - 1));
    pages_.resize((bits + kPageBits - 1) / kPageBits);
    bits_ = bits;
    size_ = size;
    if (!pages_.empty() && pages_.back().count == capacity(pages_.size() - 1))
        pages_.back().words.reset();
}

void DirtyBitmap::merge_page(Page& to, const Page& from, uint64_t capacity) {
    if (from.count == 0 || to.count == capacity)
        return;
    const uint32_t before = to.count;
    if (from.count == capacity) {
        to.count = static_cast<uint32_t>(capacity);
    } else {
        split(to, capacity);
        to.count = 0;
        for (uint64_t i = 0; i < kPageBits / kWordBits; ++i) {
            to.words[i] |= from.words[i];
            to.count += static_cast<uint32_t>(std::popcount(to.words[i]));
        }
    }
    set_bits_ += to.count - before;
    if (to.count == capacity)
        to.words.reset();
}

// --- the bits ---

void DirtyBitmap::set(int64_t offset, int64_t bytes) {
    std::lock_guard guard(lock_);
    change_bytes(offset, bytes, true);
}

void DirtyBitmap::clear(int64_t offset, int64_t bytes) {
    std::lock_guard guard(lock_);
    assert(offset % granularity() == 0 && (bytes % granularity() == 0 || offset + bytes >= size_));
    change_bytes(offset, bytes, false);
}

void DirtyBitmap::set_all() {
    std::lock_guard guard(lock_);
    change(0, bits_, true);
}

void DirtyBitmap::clear_all() {
    std::lock_guard guard(lock_);
    change(0, bits_, false);
}

void DirtyBitmap::mark(int64_t offset, int64_t bytes, int64_t length) {
    std::lock_guard guard(lock_);
    if (length > size_)
        resize_locked(length);
    if (is_enabled())
        change_bytes(offset, bytes, true);
}

void DirtyBitmap::merge(const DirtyBitmap& other) {
    if (&other == this)
        return;
    std::scoped_lock guard(lock_, other.lock_);  // in an order that cannot deadlock
    if (other.granularity_bits_ == granularity_bits_ && other.bits_ == bits_) {
        for (size_t i = 0; i < pages_.size(); ++i)
            merge_page(pages_[i], other.pages_[i], capacity(i));
        return;
    }
    const uint64_t end = other.bits_;
    for (uint64_t bit = other.find(0, end, true); bit < end;) {
        const uint64_t clean = other.find(bit, end, false);
        change_bytes(static_cast<int64_t>(bit << other.granularity_bits_),
                     static_cast<int64_t>((clean - bit) << other.granularity_bits_), true);
        bit = other.find(clean, end, true);
    }
}

void DirtyBitmap::resize(int64_t size) {
    std::lock_guard guard(lock_);
    resize_locked(size);
}

int64_t DirtyBitmap::size() const {
    std::lock_guard guard(lock_);
    return size_;
}

uint64_t DirtyBitmap::bits() const {
    std::lock_guard guard(lock_);
    return bits_;
}

int64_t DirtyBitmap::count() const {
    std::lock_guard guard(lock_);
    return static_cast<int64_t>(std::min<uint64_t>(set_bits_ << granularity_bits_, INT64_MAX));
}

bool DirtyBitmap::is_dirty(int64_t offset) const {
    return next_dirty(offset, offset + 1) == offset;
}

int64_t DirtyBitmap::next_dirty(int64_t offset, int64_t end) const {
    std::lock_guard guard(lock_);
    return find_byte(offset, end, true);
}

int64_t DirtyBitmap::next_clean(int64_t offset, int64_t end) const {
    std::lock_guard guard(lock_);
    return find_byte(offset, end, false);
}

DirtyBitmap::Stretch DirtyBitmap::stretch(int64_t offset, int64_t end) const {
    std::lock_guard guard(lock_);
    end = std::min(end, size_);
    if (offset >= end)
        return {};
    const bool dirty = find_byte(offset, offset + 1, true) == offset;
    const int64_t other = find_byte(offset, end, !dirty);
    return {(other < 0 ? end : other) - offset, dirty};
}

void DirtyBitmap::store_bits(uint64_t first, std::span<std::byte> to) const {
    assert(first % kWordBits == 0);
    std::lock_guard guard(lock_);
    for (uint64_t bit = first; !to.empty(); bit += kWordBits) {
        Word word = 0;
        if (bit < bits_) {
            const Page& page = pages_[bit / kPageBits];
            if (page.words)
                word = page.words[bit % kPageBits / kWordBits];
            else if (page.count > 0)
                word = word_mask(0, std::min(kWordBits, bits_ - bit));
        }
        std::array<std::byte, sizeof(Word)> bytes;
        store_le<Word>(bytes.data(), word);
        const size_t n = std::min(bytes.size(), to.size());
        std::memcpy(to.data(), bytes.data(), n);
        to = to.subspan(n);
    }
}

void DirtyBitmap::load_bits(uint64_t first, std::span<const std::byte> from) {
    assert(first % kWordBits == 0);
    std::lock_guard guard(lock_);
    for (uint64_t bit = first; !from.empty() && bit < bits_; bit += kWordBits) {
        std::array<std::byte, sizeof(Word)> bytes{};
        const size_t n = std::min(bytes.size(), from.size());
        std::memcpy(bytes.data(), from.data(), n);
        from = from.subspan(n);
        const uint64_t valid = std::min<uint64_t>(n * 8, bits_ - bit);
        const Word set = load_le<Word>(bytes.data()) & word_mask(0, valid);
        for (bool value : {false, true}) {
            // Runs of equal bits, of which there is mostly one.
            for (Word left = value ? set : ~set & word_mask(0, valid); left != 0;) {
                const auto begin = static_cast<uint64_t>(std::countr_zero(left));
                const auto length = static_cast<uint64_t>(std::countr_one(left >> begin));
                change(bit + begin, bit + begin + length, value);
                left &= ~word_mask(begin, begin + length);
            }
        }
    }
}

Result<void> DirtyBitmap::check_use(Use use) const {
    if (busy_)
        return fail("Bitmap '{}' is currently in use by another operation and cannot be used", name_);
    if (read_only_ && use != Use::Read)
        return fail("Bitmap '{}' is readonly and cannot be modified", name_);
    if (inconsistent_ && use != Use::Remove)
        return std::unexpected(Error{fmt::format("Bitmap '{}' is inconsistent and cannot be used", name_)}.with_hint(
            "Try block-dirty-bitmap-remove to delete this bitmap from disk"));
    return {};
}

}  // namespace ashlar
