#include "hw/bus.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>

namespace ashlar {

// The guest is little-endian, and so are the hosts that this runs on.
static_assert(std::endian::native == std::endian::little);

void Bus::map(std::string name, uint64_t base, uint64_t bytes, MmioDevice& device, AccessSizes sizes) {
    insert({std::move(name), base, bytes, &device, nullptr, sizes});
}

void Bus::map_rom(std::string name, uint64_t base, std::span<const uint8_t> memory) {
    insert({std::move(name), base, memory.size(), nullptr, memory.data(), {}});
}

void Bus::insert(Range range) {
    auto after = std::upper_bound(ranges_.begin(), ranges_.end(), range.base,
                                  [](uint64_t base, const Range& other) { return base < other.base; });
    assert(after == ranges_.end() || range.base + range.bytes <= after->base);
    assert(after == ranges_.begin() || std::prev(after)->base + std::prev(after)->bytes <= range.base);
    ranges_.insert(after, std::move(range));
}

const Bus::Range* Bus::find(uint64_t address) const {
    auto after = std::upper_bound(ranges_.begin(), ranges_.end(), address,
                                  [](uint64_t wanted, const Range& range) { return wanted < range.base; });
    if (after == ranges_.begin())
        return nullptr;
    const Range& range = *std::prev(after);
    return address - range.base < range.bytes ? &range : nullptr;
}

bool Bus::read(uint64_t address, unsigned size, uint64_t& value) {
    if (const uint8_t* bytes = memory(address, size)) {
        value = 0;
        memcpy(&value, bytes, size);
        return true;
    }
    const Range* range = find(address);
    if (!range || !range->device || size < range->sizes.min || size > range->sizes.max)
        return false;
    value = range->device->read(address - range->base, size);
    return true;
}

bool Bus::write(uint64_t address, unsigned size, uint64_t value) {
    if (uint8_t* bytes = ram_.at(address, size)) {
        memcpy(bytes, &value, size);
        return true;
    }
    const Range* range = find(address);
    if (!range || !range->device || size < range->sizes.min || size > range->sizes.max)
        return false;
    range->device->write(address - range->base, size, value);
    return true;
}

const uint8_t* Bus::memory(uint64_t address, uint64_t bytes) const {
    if (uint8_t* ram = ram_.at(address, bytes))
        return ram;
    const Range* range = find(address);
    if (!range || range->device || bytes > range->bytes - (address - range->base))
        return nullptr;
    return range->rom + (address - range->base);
}

}  // namespace ashlar
