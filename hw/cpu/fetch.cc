#include "hw/cpu/decode.h"
#include "hw/cpu/hart_state.h"

#include <cstring>

namespace ashlar {

const Slot* HartState::locate() {
    FetchEntry& entry = fetch_tlb->at(pc);
    if (entry.tag != FetchTlb::key(pc)) {
        Physical physical;
        if (!translate(pc, Access::Fetch, privilege, physical))
            return nullptr;
        const uint64_t frame = physical.address & ~kPageOffset;
        const uint8_t* memory = bus.memory(frame, kPageBytes);
        const auto breakpoint = breakpoints.lower_bound(pc & ~kPageOffset);
        const bool watched = breakpoint != breakpoints.end() && (*breakpoint & ~kPageOffset) == (pc & ~kPageOffset);
        if (!memory || watched || !pmp.uniform(frame))
            return locate_single();
        if (!check_pmp(pc, physical.address, 2, Access::Fetch, privilege))
            return nullptr;
        bool emptied;
        CodePage& found = code.page(frame, memory, emptied);
        if (emptied)
            for (FetchTlb& each : fetch_tlbs)
                each.flush();
        remember_large(pc, physical.page_bytes);
        entry = {FetchTlb::key(pc), &found};
    }
    page = entry.page;
    page_address = entry.tag;
    page_slots = entry.page->slots.data();
    page_bytes = kPageBytes;
    return page_slots + (pc & kPageOffset) / 2;
}

const Slot* HartState::locate_single() {
    if (breakpoints.contains(pc)) {
        stopped_at_breakpoint = true;
        return nullptr;
    }
    uint32_t bits = 0;
    for (unsigned half = 0; half < 2; ++half) {
        const uint64_t address = pc + 2 * half;
        Physical physical;
        if (!translate(address, Access::Fetch, privilege, physical) ||
            !check_pmp(address, physical.address, 2, Access::Fetch, privilege))
            return nullptr;
        const uint8_t* memory = bus.memory(physical.address, 2);
        if (!memory) {
            fault = {Cause::FetchAccess, address};
            return nullptr;
        }
        uint16_t bits_here;
        memcpy(&bits_here, memory, 2);
        bits |= static_cast<uint32_t>(bits_here) << (16 * half);
        if (!is_wide(bits & 0xffff))
            break;
    }
    scratch_bits = bits;
    scratch[0] = decode(bits, {});
    scratch[is_wide(bits & 0xffff) ? 2 : 1] = {Op::scratch_end, 0, 0, 0};
    page = nullptr;
    page_address = pc;
    page_slots = scratch.data();
    page_bytes = 0;
    return scratch.data();
}

uint16_t HartState::bits_at(const Slot* slot) const {
    uint16_t bits;
    memcpy(&bits, &page->bytes[(slot - page_slots) * 2], sizeof bits);
    return bits;
}

const Slot* HartState::decode_at(const Slot* slot) {
    const auto offset = static_cast<uint32_t>(slot - page_slots) * 2;
    Slot& target = const_cast<CodePage*>(page)->slots[offset / 2];
    uint32_t bits = bits_at(slot);
    if (is_wide(bits)) {
        if (offset + 2 == kPageBytes) {
            target = {Op::straddle, 0, 0, 0};
            return slot;
        }
        bits |= static_cast<uint32_t>(bits_at(slot + 1)) << 16;
    }
    target = decode(bits, {true, offset});
    return slot;
}

uint32_t HartState::instruction_bits(const Slot* slot) const {
    if (!page)
        return scratch_bits;
    uint32_t bits = bits_at(slot);
    if (is_wide(bits))
        bits |= static_cast<uint32_t>(bits_at(slot + 1)) << 16;
    return bits;
}

}  // namespace ashlar
