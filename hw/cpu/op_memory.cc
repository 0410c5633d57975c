#include "hw/cpu/op_access.h"

#include <algorithm>
#include <atomic>

namespace ashlar {

LOAD(lb, int8_t, ToInteger)
LOAD(lh, int16_t, ToInteger)
LOAD(lw, int32_t, ToInteger)
LOAD(ld, uint64_t, ToInteger)
LOAD(lbu, uint8_t, ToInteger)
LOAD(lhu, uint16_t, ToInteger)
LOAD(lwu, uint32_t, ToInteger)
STORE(sb, uint8_t, ToInteger)
STORE(sh, uint16_t, ToInteger)
STORE(sw, uint32_t, ToInteger)
STORE(sd, uint64_t, ToInteger)

OPERATION(fence) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    NEXT();
}

namespace {

template <typename T>
uint64_t extended(T value) {
    return static_cast<uint64_t>(static_cast<int64_t>(static_cast<std::make_signed_t<T>>(value)));
}

template <typename T>
bool load_reserved(HartState* s, const Slot* i) {
    uint8_t* memory;
    uint64_t physical;
    if (!s->atomic(s->x[i->b], sizeof(T), Access::Load, memory, physical))
        return false;
    const uint64_t value = extended(__atomic_load_n(reinterpret_cast<T*>(memory), __ATOMIC_SEQ_CST));
    s->reserved = true;
    s->reserved_address = physical;
    s->reserved_value = value;
    s->note_access(s->x[i->b], sizeof(T), Hart::Watch::Read);
    RD = value;
    return true;
}

// While no other hart runs only devices and itself store: what has changed is another value.
template <typename T>
bool store_conditional(HartState* s, const Slot* i) {
    uint8_t* memory;
    uint64_t physical;
    if (!s->atomic(s->x[i->b], sizeof(T), Access::Store, memory, physical))
        return false;
    bool stored = false;
    if (s->reserved && s->reserved_address == physical) {
        T expected = static_cast<T>(s->reserved_value);
        stored = __atomic_compare_exchange_n(reinterpret_cast<T*>(memory), &expected, static_cast<T>(RS2), false,
                                             __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    s->reserved = false;
    if (stored)
        s->note_access(s->x[i->b], sizeof(T), Hart::Watch::Write);
    RD = stored ? 0 : 1;
    return true;
}

template <typename T, typename Change>
bool modify(HartState* s, const Slot* i, Change change) {
    uint8_t* memory;
    uint64_t physical;
    if (!s->atomic(s->x[i->b], sizeof(T), Access::Store, memory, physical))
        return false;
    s->note_access(s->x[i->b], sizeof(T), Hart::Watch::Access);
    RD = extended(change(reinterpret_cast<T*>(memory), static_cast<T>(RS2)));
    return true;
}

// For what the host has no instruction for.
template <typename T, typename Choose>
T exchange_loop(T* memory, T operand, Choose choose) {
    T old = __atomic_load_n(memory, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(memory, &old, choose(old, operand), true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
    }
    return old;
}

}  // namespace

#define ATOMIC(name, done)      \
    OPERATION(name) {           \
        if (!(done))            \
            CONTINUE(op_fault); \
        NEXT_OR_LEAVE();        \
    }

ATOMIC(lr_w, load_reserved<uint32_t>(s, i))
ATOMIC(lr_d, load_reserved<uint64_t>(s, i))
ATOMIC(sc_w, store_conditional<uint32_t>(s, i))
ATOMIC(sc_d, store_conditional<uint64_t>(s, i))

template <typename T>
struct Swap {
    T operator()(T* memory, T operand) const { return __atomic_exchange_n(memory, operand, __ATOMIC_SEQ_CST); }
};
template <typename T>
struct Add {
    T operator()(T* memory, T operand) const { return __atomic_fetch_add(memory, operand, __ATOMIC_SEQ_CST); }
};
template <typename T>
struct Xor {
    T operator()(T* memory, T operand) const { return __atomic_fetch_xor(memory, operand, __ATOMIC_SEQ_CST); }
};
template <typename T>
struct And {
    T operator()(T* memory, T operand) const { return __atomic_fetch_and(memory, operand, __ATOMIC_SEQ_CST); }
};
template <typename T>
struct Or {
    T operator()(T* memory, T operand) const { return __atomic_fetch_or(memory, operand, __ATOMIC_SEQ_CST); }
};
template <typename T>
struct Min {
    T operator()(T* memory, T operand) const {
        return exchange_loop(memory, operand, [](T a, T b) { return std::min(a, b); });
    }
};
template <typename T>
struct Max {
    T operator()(T* memory, T operand) const {
        return exchange_loop(memory, operand, [](T a, T b) { return std::max(a, b); });
    }
};

#define AMO(name, type, change) ATOMIC(name, modify<type>(s, i, change<type>{}))

AMO(amoswap_w, uint32_t, Swap)
AMO(amoadd_w, uint32_t, Add)
AMO(amoxor_w, uint32_t, Xor)
AMO(amoand_w, uint32_t, And)
AMO(amoor_w, uint32_t, Or)
AMO(amomin_w, int32_t, Min)
AMO(amomax_w, int32_t, Max)
AMO(amominu_w, uint32_t, Min)
AMO(amomaxu_w, uint32_t, Max)
AMO(amoswap_d, uint64_t, Swap)
AMO(amoadd_d, uint64_t, Add)
AMO(amoxor_d, uint64_t, Xor)
AMO(amoand_d, uint64_t, And)
AMO(amoor_d, uint64_t, Or)
AMO(amomin_d, int64_t, Min)
AMO(amomax_d, int64_t, Max)
AMO(amominu_d, uint64_t, Min)
AMO(amomaxu_d, uint64_t, Max)

#define NARROW(x)                                            \
    template HANDLER_CALL void op_##x<2>(HANDLER_ARGUMENTS); \
    template HANDLER_CALL void op_##x<1>(HANDLER_ARGUMENTS);
#define WIDE(x) template HANDLER_CALL void op_##x<2>(HANDLER_ARGUMENTS);
#define OPS_MEMORY
#define OPS_MEMORY_WIDE
#include "hw/cpu/ops.def"
#undef OPS_MEMORY
#undef OPS_MEMORY_WIDE

}  // namespace ashlar
