#include "hw/cpu/pmp.h"

#include <bit>

namespace ashlar {

namespace {

constexpr uint8_t kRead = 1, kWrite = 2, kExecute = 4, kLocked = 0x80;
constexpr unsigned kModeShift = 3;
enum class Mode { Off = 0, Tor = 1, Na4 = 2, Napot = 3 };

Mode mode_of(uint8_t config) {
    return static_cast<Mode>(config >> kModeShift & 3);
}

constexpr uint64_t kAddressBits = (1ull << 54) - 1;

}  // namespace

uint64_t Pmp::config(unsigned number) const {
    uint64_t value = 0;
    for (unsigned i = 0; i < 8; ++i)
        value |= static_cast<uint64_t>(config_[number * 4 + i]) << (8 * i);
    return value;
}

void Pmp::set_config(unsigned number, uint64_t value) {
    for (unsigned i = 0; i < 8; ++i) {
        uint8_t& config = config_[number * 4 + i];
        uint8_t wanted = value >> (8 * i) & 0x9f;
        if (config & kLocked)
            continue;
        // Writable and not readable is reserved: such a value is not taken.
        if ((wanted & kWrite) && !(wanted & kRead))
            wanted &= ~(kWrite | kRead);
        config = wanted;
    }
    update();
}

void Pmp::set_address(unsigned entry, uint64_t value) {
    const bool locked = config_[entry] & kLocked;
    // The entry above, if it is a locked range that begins here, locks this as well.
    const bool is_bottom =
        entry + 1 < kEntries && (config_[entry + 1] & kLocked) && mode_of(config_[entry + 1]) == Mode::Tor;
    if (locked || is_bottom)
        return;
    address_[entry] = value & kAddressBits;
    update();
}

void Pmp::update() {
    for (unsigned i = 0; i < kEntries; ++i) {
        Range& range = range_[i];
        range = {};
        switch (mode_of(config_[i])) {
            case Mode::Off:
                break;
            case Mode::Tor: {
                const uint64_t first = i == 0 ? 0 : address_[i - 1] << 2, end = address_[i] << 2;
                if (first < end)
                    range = {first, end - 1};
                break;
            }
            case Mode::Na4:
                range = {address_[i] << 2, (address_[i] << 2) + 3};
                break;
            case Mode::Napot: {
                const unsigned ones = std::countr_one(address_[i]);
                const uint64_t size = 8ull << ones;
                const uint64_t first = (address_[i] << 2) & ~(size - 1);
                range = {first, first + (size - 1)};
                break;
            }
        }
    }
}

bool Pmp::allows(uint64_t address, uint64_t bytes, Access access, Privilege privilege) const {
    const uint64_t last = address + (bytes - 1);
    for (unsigned i = 0; i < kEntries; ++i) {
        const Range& range = range_[i];
        if (range.first > range.last || last < range.first || address > range.last)
            continue;
        // The first entry that matches any byte decides, and must match all.
        if (address < range.first || last > range.last)
            return false;
        if (privilege == Privilege::Machine && !(config_[i] & kLocked))
            return true;
        const uint8_t needed = access == Access::Fetch ? kExecute : access == Access::Load ? kRead : kWrite;
        return config_[i] & needed;
    }
    return open_ || privilege == Privilege::Machine;
}

bool Pmp::uniform(uint64_t page) const {
    const uint64_t last = page + kPageOffset;
    for (const Range& range : range_) {
        if (range.first > range.last || last < range.first || page > range.last)
            continue;
        if (page < range.first || last > range.last)
            return false;
        // This entry decides for the whole page, whatever the later ones say.
        return true;
    }
    return true;
}

}  // namespace ashlar
