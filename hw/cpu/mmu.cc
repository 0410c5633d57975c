#include "hw/cpu/guest_order.h"
#include "hw/cpu/hart_state.h"

#include <algorithm>
#include <cstring>

namespace ashlar {

namespace {

constexpr uint64_t kValid = 1, kRead = 2, kWrite = 4, kExecute = 8, kUserPage = 16, kAccessed = 64, kDirty = 128;
constexpr uint64_t kReserved = 0x3ffull << 54;  // Svnapot and Svpbmt are not there
constexpr uint64_t kPpn = (1ull << 44) - 1;

constexpr uint64_t kSv48 = 9;  // else it is 8, Sv39

Cause page_fault(Access access) {
    return access == Access::Fetch ? Cause::FetchPage : access == Access::Load ? Cause::LoadPage : Cause::StorePage;
}

Cause access_fault(Access access) {
    return access == Access::Fetch  ? Cause::FetchAccess
           : access == Access::Load ? Cause::LoadAccess
                                    : Cause::StoreAccess;
}

template <typename T>
T load_from(const uint8_t* memory) {
    if (reinterpret_cast<uintptr_t>(memory) % sizeof(T) == 0)
        return __atomic_load_n(reinterpret_cast<const T*>(memory), kGuestLoadOrder);
    T value;
    memcpy(&value, memory, sizeof value);
    return value;
}

uint64_t load_from(const uint8_t* memory, unsigned size) {
    switch (size) {
        case 1:
            return load_from<uint8_t>(memory);
        case 2:
            return load_from<uint16_t>(memory);
        case 4:
            return load_from<uint32_t>(memory);
        default:
            return load_from<uint64_t>(memory);
    }
}

template <typename T>
void store_to(uint8_t* memory, uint64_t value) {
    const T narrow = static_cast<T>(value);
    if (reinterpret_cast<uintptr_t>(memory) % sizeof(T) == 0)
        __atomic_store_n(reinterpret_cast<T*>(memory), narrow, kGuestStoreOrder);
    else
        memcpy(memory, &narrow, sizeof narrow);
}

void store_to(uint8_t* memory, unsigned size, uint64_t value) {
    switch (size) {
        case 1:
            return store_to<uint8_t>(memory, value);
        case 2:
            return store_to<uint16_t>(memory, value);
        case 4:
            return store_to<uint32_t>(memory, value);
        default:
            return store_to<uint64_t>(memory, value);
    }
}

// What the two pages of an access that crosses into the second have of it.
unsigned bytes_in_first_page(uint64_t address, unsigned size) {
    const uint64_t room = kPageBytes - (address & kPageOffset);
    return room < size ? static_cast<unsigned>(room) : size;
}

}  // namespace

bool HartState::translate(uint64_t address, Access access, Privilege by, Physical& physical) {
    const uint64_t mode = satp >> 60;
    if (by == Privilege::Machine || mode == 0) {
        physical = {address};
        return true;
    }
    const auto refuse = [&](Cause cause) {
        fault = {cause, address};
        return false;
    };
    const unsigned levels = mode == kSv48 ? 4 : 3;
    const unsigned unused = 64 - (kPageShift + 9 * levels);
    if (static_cast<uint64_t>(static_cast<int64_t>(address << unused) >> unused) != address)
        return refuse(page_fault(access));

    uint64_t table = (satp & kPpn) << kPageShift;
    for (unsigned level = levels; level-- > 0;) {
        const unsigned shift = kPageShift + 9 * level;
        const uint64_t where = table + (address >> shift & 511) * 8;
        uint8_t* memory = bus.ram().at(where, 8);
        if (!memory || !pmp.allows(where, 8, Access::Load, Privilege::Supervisor))
            return refuse(access_fault(access));
        auto* entry = reinterpret_cast<uint64_t*>(memory);
        uint64_t pte = __atomic_load_n(entry, __ATOMIC_RELAXED);
        if (!(pte & kValid) || (pte & (kRead | kWrite)) == kWrite || pte & kReserved)
            return refuse(page_fault(access));
        const uint64_t base = (pte >> 10 & kPpn) << kPageShift;
        if (!(pte & (kRead | kExecute))) {
            if (pte & (kAccessed | kDirty | kUserPage))
                return refuse(page_fault(access));
            table = base;
            continue;
        }
        const uint64_t page_bytes = 1ull << shift;
        if (by == Privilege::User ? !(pte & kUserPage)
                                  : pte & kUserPage && (access == Access::Fetch || !(mstatus & mstatus::kSum)))
            return refuse(page_fault(access));
        const uint64_t needed = access == Access::Fetch   ? kExecute
                                : access == Access::Store ? kWrite
                                : mstatus & mstatus::kMxr ? kRead | kExecute
                                                          : kRead;
        if (!(pte & needed) || base & (page_bytes - 1))
            return refuse(page_fault(access));
        const uint64_t updated = pte | kAccessed | (access == Access::Store ? kDirty : 0);
        if (updated != pte) {
            if (!pmp.allows(where, 8, Access::Store, Privilege::Supervisor))
                return refuse(access_fault(access));
            // Somebody else may have changed it: then it is looked at again.
            if (!__atomic_compare_exchange_n(entry, &pte, updated, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
                ++level;
                continue;
            }
        }
        physical = {base | (address & (page_bytes - 1)), page_bytes};
        return true;
    }
    return refuse(page_fault(access));
}

bool HartState::check_pmp(uint64_t address, uint64_t physical, unsigned size, Access access, Privilege by) {
    if (pmp.allows(physical, size, access, by))
        return true;
    fault = {access_fault(access), address};
    return false;
}

bool HartState::load(uint64_t address, unsigned size, uint64_t& value) {
    if (const unsigned first = bytes_in_first_page(address, size); first < size) {
        // Byte by byte, of two pages. The lower ones first, so that the fault is that of the lowest address.
        value = 0;
        for (unsigned i = 0; i < size; ++i) {
            uint64_t byte;
            if (!load(address + i, 1, byte))
                return false;
            value |= byte << (8 * i);
        }
        return true;
    }
    const Privilege by = data_privilege();
    Physical physical;
    if (!translate(address, Access::Load, by, physical) ||
        !check_pmp(address, physical.address, size, Access::Load, by))
        return false;
    if (const uint8_t* memory = bus.memory(physical.address, size)) {
        value = load_from(memory, size);
        note_access(address, size, Hart::Watch::Read);
        const uint64_t page = physical.address & ~kPageOffset;
        const uint8_t* all = bus.memory(page, kPageBytes);
        if (all && pmp.uniform(page) && !watches_page_of(address)) {
            const_cast<Tlb*>(tlb)->load[Tlb::index(address)] = {
                address & ~kPageOffset, reinterpret_cast<uint64_t>(all) - (address & ~kPageOffset)};
            remember_large(address, physical.page_bytes);
        }
        return true;
    }
    if (physical.address % size == 0 && bus.read(physical.address, size, value)) {
        note_access(address, size, Hart::Watch::Read);
        return true;
    }
    fault = {Cause::LoadAccess, address};
    return false;
}

bool HartState::store(uint64_t address, unsigned size, uint64_t value) {
    const Privilege by = data_privilege();
    if (const unsigned first = bytes_in_first_page(address, size); first < size) {
        // Nothing is written if one of the pages refuses.
        Physical low, high;
        const uint64_t second = address + first;
        if (!translate(address, Access::Store, by, low) || !check_pmp(address, low.address, first, Access::Store, by) ||
            !translate(second, Access::Store, by, high) ||
            !check_pmp(second, high.address, size - first, Access::Store, by))
            return false;
        for (unsigned i = 0; i < size; ++i)
            if (!store(address + i, 1, value >> (8 * i)))
                return false;
        return true;
    }
    Physical physical;
    if (!translate(address, Access::Store, by, physical) ||
        !check_pmp(address, physical.address, size, Access::Store, by))
        return false;
    if (uint8_t* memory = bus.ram().at(physical.address, size)) {
        store_to(memory, size, value);
        note_access(address, size, Hart::Watch::Write);
        const uint64_t page = physical.address & ~kPageOffset;
        uint8_t* all = bus.ram().at(page, kPageBytes);
        if (all && pmp.uniform(page) && !watches_page_of(address)) {
            const_cast<Tlb*>(tlb)->store[Tlb::index(address)] = {
                address & ~kPageOffset, reinterpret_cast<uint64_t>(all) - (address & ~kPageOffset)};
            remember_large(address, physical.page_bytes);
        }
        return true;
    }
    if (physical.address % size == 0 && bus.write(physical.address, size, value)) {
        leave = true;
        note_access(address, size, Hart::Watch::Write);
        return true;
    }
    fault = {Cause::StoreAccess, address};
    return false;
}

bool HartState::atomic(uint64_t address, unsigned size, Access access, uint8_t*& memory, uint64_t& physical_address) {
    if (address % size) {
        fault = {access == Access::Load ? Cause::LoadMisaligned : Cause::StoreMisaligned, address};
        return false;
    }
    const Privilege by = data_privilege();
    Physical physical;
    if (!translate(address, access, by, physical) || !check_pmp(address, physical.address, size, access, by))
        return false;
    physical_address = physical.address;
    memory = bus.ram().at(physical.address, size);
    if (!memory)
        fault = {access_fault(access), address};
    return memory;
}

bool HartState::look_up(uint64_t address, uint64_t& physical) {
    physical = address;
    const uint64_t mode = satp >> 60;
    if (privilege == Privilege::Machine || mode == 0)
        return true;
    uint64_t table = (satp & kPpn) << kPageShift;
    for (unsigned level = mode == kSv48 ? 4 : 3; level-- > 0;) {
        const unsigned shift = kPageShift + 9 * level;
        const uint8_t* memory = bus.ram().at(table + (address >> shift & 511) * 8, 8);
        const uint64_t pte = memory ? load_from<uint64_t>(memory) : 0;
        if (!(pte & kValid))
            return false;
        table = (pte >> 10 & kPpn) << kPageShift;
        if (pte & (kRead | kExecute)) {
            physical = table | (address & ((1ull << shift) - 1));
            return true;
        }
    }
    return false;
}

bool HartState::watches_page_of(uint64_t address) const {
    return std::ranges::any_of(watchpoints, [&](const Hart::Watched& each) {
        return each.first <= (address | kPageOffset) && (address & ~kPageOffset) <= each.last;
    });
}

void HartState::look_for_watchpoints(uint64_t address, unsigned size, Hart::Watch what) {
    const auto hit = std::ranges::find_if(watchpoints, [&](const Hart::Watched& each) {
        return static_cast<unsigned>(each.what) & static_cast<unsigned>(what) && each.first <= address + (size - 1) &&
               address <= each.last;
    });
    if (hit == watchpoints.end())
        return;
    watch_hit = *hit;
    leave = watch_pending = true;
}

void HartState::remember_large(uint64_t address, uint64_t page_bytes) {
    if (page_bytes == kPageBytes)
        return;
    large_first = std::min(large_first, address & ~(page_bytes - 1));
    large_last = std::max(large_last, address | (page_bytes - 1));
}

void HartState::flush_translations() {
    for (Context context : {kUser, kSupervisor, kSupervisorSum})
        tlbs[context].flush();
    fetch_tlbs[0].flush();
    fetch_tlbs[1].flush();
    large_first = std::numeric_limits<uint64_t>::max();
    large_last = 0;
}

void HartState::flush_all() {
    flush_translations();
    tlbs[kMachine].flush();
    fetch_tlbs[2].flush();
}

void HartState::fence_vma(std::optional<uint64_t> address) {
    if (!address || (*address >= large_first && *address <= large_last))
        return flush_translations();
    for (Context context : {kUser, kSupervisor, kSupervisorSum})
        tlbs[context].flush(*address);
    fetch_tlbs[0].flush(*address);
    fetch_tlbs[1].flush(*address);
}

}  // namespace ashlar
