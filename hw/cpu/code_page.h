// CodePage: a page of guest memory as decoded instructions; CodeCache: those that a hart has met.
//
// Slots are decoded when they are first run, from a copy of the page's bytes. Stores do not look here: as the
// architecture has it, they are seen after a FENCE.I. That only counts up the cache's generation; the next time that
// the hart comes to a page, by a miss in its fetch TLB, bytes that have changed since are noticed by comparing, whoever
// changed them (this hart, another one, a device), and the page is decoded anew.
#pragma once

#include "hw/cpu/privilege.h"
#include "hw/cpu/slot.h"

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>

namespace ashlar {

struct CodePage {
    static constexpr unsigned kSlots = kPageBytes / 2;

    // One more, Op::page_end.
    std::array<Slot, kSlots + 1> slots;
    alignas(64) std::array<uint8_t, kPageBytes> bytes;
    uint64_t generation;
};

class CodeCache {
public:
    // Of the 4 KiB of guest memory at `memory`, which are at the guest-physical address `address`. Pages that were
    // returned before may be gone if `emptied` is set.
    CodePage& page(uint64_t address, const uint8_t* memory, bool& emptied);
    // What is decoded may differ from what is in memory.
    void suspect() { ++generation_; }
    void clear() { pages_.clear(); }

private:
    static constexpr size_t kMaxPages = 2048;  // 40 MiB

    uint64_t generation_ = 0;
    std::unordered_map<uint64_t, std::unique_ptr<CodePage>> pages_;
};

}  // namespace ashlar
