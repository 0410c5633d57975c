// How operations are written: each is a function that ends by calling the next one's.
//
// With clang these are tail calls that keep the state in registers (preserve_none), so that a handler is a few
// instructions and an indirect jump. Elsewhere a handler returns to a loop in dispatch(). Handlers of both widths are
// templates of it, in slots (2 bytes): 2 or 1. What may need a stack frame is in functions of its own that are called
// last (CONTINUE), so that the way everybody takes has none.
#pragma once

#include "hw/cpu/hart_state.h"

// The sanitizers' stack frames do not go with preserve_none: the compiler stops.
#define ASHLAR_TAIL_CALLS 0
#ifdef __clang__
#if __has_cpp_attribute(clang::musttail) && __has_attribute(preserve_none) && !__has_feature(address_sanitizer) && \
    !__has_feature(thread_sanitizer) && !__has_feature(memory_sanitizer)
#undef ASHLAR_TAIL_CALLS
#define ASHLAR_TAIL_CALLS 1
#endif
#endif

#if ASHLAR_TAIL_CALLS
#define HANDLER_CALL __attribute__((preserve_none))
#else
#define HANDLER_CALL
#endif

namespace ashlar {

// `t`: the TLB of loads and stores; `ops`: the handlers.
#define HANDLER_ARGUMENTS                                                                         \
    [[maybe_unused]] HartState *s, [[maybe_unused]] const Slot *i, [[maybe_unused]] int64_t left, \
        [[maybe_unused]] const Tlb *t, [[maybe_unused]] const HandlerTable *ops

using Handler = void(HANDLER_CALL*)(HANDLER_ARGUMENTS);

struct HandlerTable {
    Handler of[static_cast<unsigned>(Op::kCount)];
};

#define OPERATION(name)    \
    template <int kLength> \
    HANDLER_CALL void op_##name(HANDLER_ARGUMENTS)

// Another function of the same arguments takes over.
#if ASHLAR_TAIL_CALLS
#define CONTINUE(function)                                       \
    do {                                                         \
        [[clang::musttail]] return function(s, i, left, t, ops); \
    } while (0)
#define DISPATCH() CONTINUE(ops->of[static_cast<unsigned>(i->op)])
#else
#define CONTINUE(function) return function(s, i, left, t, ops)
#define DISPATCH()      \
    do {                \
        s->next = i;    \
        s->left = left; \
        return;         \
    } while (0)
#endif

// The instruction is done: the next one.
#define NEXT()        \
    do {              \
        i += kLength; \
        --left;       \
        DISPATCH();   \
    } while (0)

// The same after what may have asked to leave (HartState::leave).
#define NEXT_OR_LEAVE()              \
    do {                             \
        if (s->leave) {              \
            i += kLength;            \
            --left;                  \
            CONTINUE(op_leave_here); \
        }                            \
        NEXT();                      \
    } while (0)

// Back to run(). pc says where.
#define LEAVE()         \
    do {                \
        s->left = left; \
        return;         \
    } while (0)

// Declared for the table; each is defined in the file of its group.
#define NARROW(x) OPERATION(x);
#define WIDE(x) OPERATION(x);
#include "hw/cpu/all_ops.def"

#define RD s->x[i->a]
#define RS1 s->x[i->b]
#define RS2 s->x[static_cast<uint32_t>(i->imm)]

// Goes to s->pc, which may be in any page.
HANDLER_CALL void op_go(HANDLER_ARGUMENTS);
// Leaves with pc at the instruction of `i`.
HANDLER_CALL void op_leave_here(HANDLER_ARGUMENTS);
// The fault of s->fault is taken by the instruction of `i`.
HANDLER_CALL void op_fault(HANDLER_ARGUMENTS);
// The instruction of `i` is illegal.
HANDLER_CALL void op_not_legal(HANDLER_ARGUMENTS);

}  // namespace ashlar
