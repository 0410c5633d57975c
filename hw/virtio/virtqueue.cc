#include "hw/virtqueue.h"

#include "util/byte_order.h"

#include <fmt/core.h>

#include <atomic>
#include <bit>
#include <cassert>

namespace ashlar {

namespace {

static_assert(std::endian::native == std::endian::little);  // so are the rings

constexpr unsigned kDescriptorBytes = 16;
constexpr unsigned kUsedBytes = 8;  // of an element of the used ring
enum : uint16_t { kNext = 1, kWrite = 2, kIndirect = 4 };
enum : uint16_t { kNoInterrupt = 1 };  // available.flags
enum : uint16_t { kNoNotify = 1 };     // used.flags

// Short vectors keep their memory for the next request; the others give it back, so that a hostile driver cannot make
// every request keep the longest.
constexpr size_t kKeptElements = 64;

uint16_t load(uint16_t* word, std::memory_order order) {
    return std::atomic_ref(*word).load(order);
}
void store(uint16_t* word, uint16_t value, std::memory_order order) {
    std::atomic_ref(*word).store(value, order);
}

void clear_vector(std::vector<iovec>& vector) {
    vector.clear();
    if (vector.capacity() > kKeptElements)
        vector.shrink_to_fit();
}

}  // namespace

struct Virtqueue::Descriptor {
    uint64_t address;
    uint32_t bytes;
    uint16_t flags, next;
};

// Of descriptors: the queue's own, or an indirect one.
struct Virtqueue::Table {
    const uint8_t* memory;
    uint32_t size;

    Descriptor at(uint32_t index) const {
        const uint8_t* from = memory + size_t{index} * kDescriptorBytes;
        return {load_le<uint64_t>(from), load_le<uint32_t>(from + 8), load_le<uint16_t>(from + 12),
                load_le<uint16_t>(from + 14)};
    }
};

void VirtqueueChain::clear() {
    clear_vector(readable);
    clear_vector(writable);
    readable_bytes = writable_bytes = 0;
}

bool Virtqueue::set_up(const GuestRam& ram, const VirtqueueLayout& layout, Features features) {
    drop();
    error_.clear();
    const uint64_t size = layout.size;
    if (!std::has_single_bit(size) || size > kMaxSize) {
        break_it(fmt::format("its size of {} is not a power of two of at most {}", size, kMaxSize));
        return false;
    }
    if (layout.descriptors % kDescriptorBytes || layout.available % 2 || layout.used % 4) {
        break_it("it is not aligned");
        return false;
    }
    const uint8_t* descriptors = ram.at(layout.descriptors, size * kDescriptorBytes);
    uint8_t* available = ram.at(layout.available, 6 + 2 * size);
    uint8_t* used = ram.at(layout.used, 6 + kUsedBytes * size);
    if (!descriptors || !available || !used) {
        break_it("it does not lie in the memory");
        return false;
    }
    ram_ = &ram;
    size_ = layout.size;
    features_ = features;
    descriptors_ = descriptors;
    available_ = reinterpret_cast<uint16_t*>(available);
    used_ = used;
    // A driver may have made chains available before the device looks, but the device begins at zero.
    next_available_ = seen_available_ = next_used_ = published_ = 0;
    taken_ = 0;
    return true;
}

void Virtqueue::drop() {
    ram_ = nullptr;
    size_ = 0;
    taken_ = 0;
}

Virtqueue::Taken Virtqueue::break_it(std::string why) {
    if (error_.empty())
        error_ = std::move(why);
    return Taken::Broken;
}

Virtqueue::Taken Virtqueue::take(VirtqueueChain& chain) {
    if (!error_.empty())
        return Taken::Broken;
    if (!ram_)
        return Taken::Nothing;
    if (next_available_ == seen_available_) {
        // What the driver has written before the index is seen after it.
        seen_available_ = load(available_ + 1, std::memory_order_acquire);
        if (next_available_ == seen_available_)
            return Taken::Nothing;
        if (static_cast<uint16_t>(seen_available_ - next_available_) > size_)
            return break_it(
                fmt::format("the available index has gone from {} to {}", next_available_, seen_available_));
    }
    if (taken_ == size_)
        return break_it("more chains are available than there are descriptors");
    chain.clear();
    chain.head = load(available_ + 2 + next_available_ % size_, std::memory_order_relaxed);
    if (Taken result = walk(chain); result != Taken::Chain)
        return result;
    ++next_available_;
    ++taken_;
    return Taken::Chain;
}

Virtqueue::Taken Virtqueue::walk(VirtqueueChain& chain) {
    Table table{descriptors_, size_};
    uint32_t left = table.size;
    bool inside = false;  // of an indirect table
    unsigned count = 0;
    for (uint32_t index = chain.head;;) {
        if (index >= table.size)
            return break_it(fmt::format("descriptor {} of a table of {}", index, table.size));
        const Descriptor descriptor = table.at(index);
        if (descriptor.flags & kIndirect) {
            if (!features_.indirect || inside || descriptor.flags & kNext)
                return break_it("an indirect descriptor where there must be none");
            const uint32_t size = descriptor.bytes / kDescriptorBytes;
            const uint8_t* memory = ram_->at(descriptor.address, descriptor.bytes);
            if (descriptor.bytes % kDescriptorBytes || size == 0 || !memory)
                return break_it(
                    fmt::format("an indirect table of {} bytes at {:#x}", descriptor.bytes, descriptor.address));
            table = {memory, size};
            left = size;
            inside = true;
            index = 0;
            continue;
        }
        if (!add(descriptor, chain, count))
            return Taken::Broken;
        if (!(descriptor.flags & kNext))
            return Taken::Chain;
        if (--left == 0)
            return break_it("a chain that is a loop");
        index = descriptor.next;
    }
}

bool Virtqueue::add(const Descriptor& descriptor, VirtqueueChain& chain, unsigned& count) {
    uint8_t* memory = ram_->at(descriptor.address, descriptor.bytes);
    if (++count > kMaxChain) {
        break_it(fmt::format("a chain of more than {} descriptors", kMaxChain));
    } else if (descriptor.bytes == 0) {
        break_it("a descriptor of no bytes");
    } else if (!memory) {
        break_it(fmt::format("a descriptor of {} bytes at {:#x}, where there is no memory", descriptor.bytes,
                             descriptor.address));
    } else if (descriptor.flags & kWrite) {
        chain.writable.push_back({memory, descriptor.bytes});
        chain.writable_bytes += descriptor.bytes;
        return true;
    } else if (!chain.writable.empty()) {
        break_it("a descriptor that is read behind one that is written");
    } else {
        chain.readable.push_back({memory, descriptor.bytes});
        chain.readable_bytes += descriptor.bytes;
        return true;
    }
    return false;
}

void Virtqueue::give_back(uint16_t head, uint32_t written) {
    assert(taken_ > 0);
    uint8_t* element = used_ + 4 + kUsedBytes * (next_used_ % size_);
    store_le<uint32_t>(element, head);
    store_le<uint32_t>(element + 4, written);
    ++next_used_;
    --taken_;
}

bool Virtqueue::publish() {
    const uint16_t before = published_;
    if (before == next_used_)
        return false;
    published_ = next_used_;
    store(reinterpret_cast<uint16_t*>(used_) + 1, published_, std::memory_order_release);
    // Either the driver sees the index, or we see what it has said of interrupts since.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!features_.event_index)
        return !(load(available_, std::memory_order_relaxed) & kNoInterrupt);
    const uint16_t event = load(available_ + 2 + size_, std::memory_order_relaxed);
    return static_cast<uint16_t>(published_ - event - 1) < static_cast<uint16_t>(published_ - before);
}

bool Virtqueue::enable_notifications() {
    if (!ram_ || !error_.empty())
        return true;
    if (features_.event_index)
        store(reinterpret_cast<uint16_t*>(used_ + 4 + kUsedBytes * size_), next_available_, std::memory_order_relaxed);
    else
        store(reinterpret_cast<uint16_t*>(used_), 0, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return load(available_ + 1, std::memory_order_relaxed) == next_available_;
}

void Virtqueue::disable_notifications() {
    // With the event index it is enough not to say how far we have got.
    if (ram_ && !features_.event_index)
        store(reinterpret_cast<uint16_t*>(used_), kNoNotify, std::memory_order_relaxed);
}

}  // namespace ashlar
