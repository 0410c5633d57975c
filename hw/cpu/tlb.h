// Tlb: what loads and stores of one context (a privilege and what it may touch) know of the page tables.
//
// Only pages that are RAM as a whole (for loads also ROM) and that PMP treats alike are in it: `tag` is the page's
// virtual address, and the host's address is the virtual one plus `addend`. One compare says that the page is known and
// that the access is aligned: key() keeps the bits of the address that make it misaligned.
#pragma once

#include "hw/cpu/privilege.h"

#include <algorithm>
#include <array>
#include <cstdint>

namespace ashlar {

struct TlbEntry {
    uint64_t tag = ~0ull;  // no key looks like this
    uint64_t addend = 0;
};

struct Tlb {
    static constexpr unsigned kEntries = 256;

    std::array<TlbEntry, kEntries> load, store;

    static unsigned index(uint64_t address) { return address >> kPageShift & (kEntries - 1); }
    static uint64_t key(uint64_t address, unsigned size) { return address & (~kPageOffset | (size - 1)); }

    void flush() {
        load.fill({});
        store.fill({});
    }
    void flush(uint64_t address) { load[index(address)] = store[index(address)] = {}; }
};

struct CodePage;

// The same for fetches: the decoded page.
struct FetchEntry {
    uint64_t tag = ~0ull;
    CodePage* page = nullptr;
};

struct FetchTlb {
    static constexpr unsigned kEntries = 256;

    std::array<FetchEntry, kEntries> entries;

    FetchEntry& at(uint64_t address) { return entries[address >> kPageShift & (kEntries - 1)]; }
    static uint64_t key(uint64_t address) { return address & ~kPageOffset; }

    void flush() { entries.fill({}); }
    void flush(uint64_t address) { at(address) = {}; }
};

}  // namespace ashlar
