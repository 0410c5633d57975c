#include "hw/cpu/handlers.h"

namespace ashlar {

namespace {

struct Tables {
    // By mstatus.FS: off; initial or clean; dirty.
    HandlerTable off, clean, dirty;
};

// The first that changes floating-point state makes it dirty.
HANDLER_CALL void op_make_dirty(HANDLER_ARGUMENTS) {
    s->mstatus |= mstatus::kFs;
    s->update_context();
    ops = s->handlers;
    DISPATCH();
}

constexpr Tables make_tables() {
    Tables tables{};
    unsigned op = 0;
    // Of the narrow ones the second is the instruction of 2 bytes. op_illegal needs no width.
#define ALL(x, off_handler, clean_handler, length) \
    tables.off.of[op] = off_handler;               \
    tables.clean.of[op] = clean_handler;           \
    tables.dirty.of[op] = op_##x<length>;          \
    ++op;

#define NARROW(x) ALL(x, op_##x<2>, op_##x<2>, 2) ALL(x, op_##x<1>, op_##x<1>, 1)
#define WIDE(x) ALL(x, op_##x<2>, op_##x<2>, 2)
#define OPS_INTEGER
#define OPS_MEMORY
#include "hw/cpu/ops.def"
#undef OPS_INTEGER
#undef OPS_MEMORY
#define NARROW(x) ALL(x, op_illegal<2>, op_##x<2>, 2) ALL(x, op_illegal<2>, op_##x<1>, 1)
#define WIDE(x)
#define OPS_FP_READ
#include "hw/cpu/ops.def"
#undef OPS_FP_READ
#define NARROW(x) ALL(x, op_illegal<2>, op_make_dirty, 2) ALL(x, op_illegal<2>, op_make_dirty, 1)
#define WIDE(x)
#define OPS_FP_WRITE
#include "hw/cpu/ops.def"
#undef OPS_FP_WRITE
#define NARROW(x)
#define WIDE(x) ALL(x, op_##x<2>, op_##x<2>, 2)
#define OPS_CONTROL
#define OPS_INTEGER_WIDE
#define OPS_MEMORY_WIDE
#define OPS_SYSTEM
#include "hw/cpu/ops.def"
#undef OPS_CONTROL
#undef OPS_INTEGER_WIDE
#undef OPS_MEMORY_WIDE
#undef OPS_SYSTEM
#define NARROW(x)
#define WIDE(x) ALL(x, op_illegal<2>, op_##x<2>, 2)
#define OPS_FP_READ_WIDE
#include "hw/cpu/ops.def"
#undef OPS_FP_READ_WIDE
#define NARROW(x)
#define WIDE(x) ALL(x, op_illegal<2>, op_make_dirty, 2)
#define OPS_FP_WRITE_WIDE
#include "hw/cpu/ops.def"
#undef OPS_FP_WRITE_WIDE
    return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

const HandlerTable& handlers_for(uint64_t status) {
    const uint64_t fs = (status & mstatus::kFs) >> mstatus::kFsShift;
    return fs == 0 ? kTables.off : fs == 3 ? kTables.dirty : kTables.clean;
}

void dispatch(HartState& state, const Slot* slot) {
#if ASHLAR_TAIL_CALLS
    state.handlers->of[static_cast<unsigned>(slot->op)](&state, slot, state.left, state.tlb, state.handlers);
#else
    state.next = slot;
    while (state.next) {
        const Slot* now = state.next;
        state.next = nullptr;
        state.handlers->of[static_cast<unsigned>(now->op)](&state, now, state.left, state.tlb, state.handlers);
    }
#endif
}

HANDLER_CALL void op_go(HANDLER_ARGUMENTS) {
    if (left > 0) {
        const FetchEntry& entry = s->fetch_tlb->at(s->pc);
        if (entry.tag == FetchTlb::key(s->pc)) {
            s->page = entry.page;
            s->page_address = entry.tag;
            s->page_slots = entry.page->slots.data();
            s->page_bytes = kPageBytes;
            i = s->page_slots + (s->pc & kPageOffset) / 2;
            DISPATCH();
        }
    }
    LEAVE();
}

HANDLER_CALL void op_leave_here(HANDLER_ARGUMENTS) {
    s->pc = s->pc_of(i);
    LEAVE();
}

HANDLER_CALL void op_fault(HANDLER_ARGUMENTS) {
    s->pc = s->pc_of(i);
    s->left = left;
    s->take(s->fault);
}

HANDLER_CALL void op_not_legal(HANDLER_ARGUMENTS) {
    s->fault = {Cause::IllegalInstruction, s->instruction_bits(i)};
    CONTINUE(op_fault);
}

OPERATION(undecoded) {
    i = s->decode_at(i);
    DISPATCH();
}

OPERATION(illegal) {
    CONTINUE(op_not_legal);
}

OPERATION(page_end) {
    s->pc = s->page_address + kPageBytes;
    CONTINUE(op_go);
}

// Of an instruction that goes over the end of the page.
OPERATION(straddle) {
    s->pc = s->pc_of(i);
    if (const Slot* slot = s->locate_single()) {
        i = slot;
        DISPATCH();
    }
    s->left = left;
    if (!s->stopped_at_breakpoint)
        s->take(s->fault);
}

OPERATION(scratch_end) {
    s->pc = s->pc_of(i);
    CONTINUE(op_go);
}

#define NARROW(x)
#define WIDE(x) template HANDLER_CALL void op_##x<2>(HANDLER_ARGUMENTS);
#define OPS_CONTROL
#include "hw/cpu/ops.def"
#undef OPS_CONTROL

}  // namespace ashlar
