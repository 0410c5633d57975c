// Loads and stores of one type as operations: the way through the TLB, and the one around it.
#pragma once

#include "hw/cpu/guest_order.h"
#include "hw/cpu/handlers.h"

#include <type_traits>

namespace ashlar {

inline uint64_t effective_address(const HartState* s, const Slot* i) {
    return s->x[i->b] + static_cast<uint64_t>(static_cast<int64_t>(i->imm));
}

// Where a load of T puts its value: sign- or zero-extended, or a floating-point register, NaN-boxed.
struct ToInteger {
    template <typename T>
    static void set(HartState* s, const Slot* i, T value) {
        if constexpr (std::is_signed_v<T>)
            s->x[i->a] = static_cast<uint64_t>(static_cast<int64_t>(value));
        else
            s->x[i->a] = value;
    }
    static uint64_t get(const HartState* s, const Slot* i) { return s->x[i->a]; }
};

struct ToFloat {
    template <typename T>
    static void set(HartState* s, const Slot* i, T value) {
        s->f[i->a] = sizeof(T) == 4 ? 0xffffffff'00000000 | static_cast<uint32_t>(value) : value;
    }
    static uint64_t get(const HartState* s, const Slot* i) { return s->f[i->a]; }
};

template <typename T, typename File, int kLength>
HANDLER_CALL void slow_load(HANDLER_ARGUMENTS) {
    uint64_t value;
    if (!s->load(effective_address(s, i), sizeof(T), value))
        CONTINUE(op_fault);
    File::set(s, i, static_cast<T>(value));
    NEXT_OR_LEAVE();
}

template <typename T, typename File, int kLength>
HANDLER_CALL void slow_store(HANDLER_ARGUMENTS) {
    if (!s->store(effective_address(s, i), sizeof(T), File::get(s, i)))
        CONTINUE(op_fault);
    NEXT_OR_LEAVE();
}

#define LOAD(name, type, file)                                                          \
    OPERATION(name) {                                                                   \
        const uint64_t address = effective_address(s, i);                               \
        const TlbEntry& entry = t->load[Tlb::index(address)];                           \
        if (entry.tag == Tlb::key(address, sizeof(type))) [[likely]] {                  \
            const auto* memory = reinterpret_cast<const type*>(address + entry.addend); \
            file::set(s, i, __atomic_load_n(memory, kGuestLoadOrder));                  \
            NEXT();                                                                     \
        }                                                                               \
        CONTINUE((slow_load<type, file, kLength>));                                     \
    }

#define STORE(name, type, file)                                                             \
    OPERATION(name) {                                                                       \
        const uint64_t address = effective_address(s, i);                                   \
        const TlbEntry& entry = t->store[Tlb::index(address)];                              \
        if (entry.tag == Tlb::key(address, sizeof(type))) [[likely]] {                      \
            auto* memory = reinterpret_cast<type*>(address + entry.addend);                 \
            __atomic_store_n(memory, static_cast<type>(file::get(s, i)), kGuestStoreOrder); \
            NEXT();                                                                         \
        }                                                                                   \
        CONTINUE((slow_store<type, file, kLength>));                                        \
    }

}  // namespace ashlar
