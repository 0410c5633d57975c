#include "hw/cpu/handlers.h"

namespace ashlar {

OPERATION(ecall) {
    s->fault = {static_cast<Cause>(static_cast<unsigned>(Cause::EcallFromUser) + static_cast<unsigned>(s->privilege)),
                0};
    CONTINUE(op_fault);
}

OPERATION(mret) {
    if (!s->return_from_machine())
        CONTINUE(op_not_legal);
    --left;
    LEAVE();
}

OPERATION(sret) {
    if (!s->return_from_supervisor())
        CONTINUE(op_not_legal);
    --left;
    LEAVE();
}

OPERATION(wfi) {
    if (s->privilege == Privilege::User || (s->privilege == Privilege::Supervisor && s->mstatus & mstatus::kTw))
        CONTINUE(op_not_legal);
    s->waiting = true;
    i += kLength;
    --left;
    CONTINUE(op_leave_here);
}

OPERATION(fence_i) {
    s->code.suspect();
    for (FetchTlb& each : s->fetch_tlbs)
        each.flush();
    i += kLength;
    --left;
    CONTINUE(op_leave_here);
}

OPERATION(sfence_vma) {
    if (s->privilege == Privilege::User || (s->privilege == Privilege::Supervisor && s->mstatus & mstatus::kTvm))
        CONTINUE(op_not_legal);
    s->fence_vma(i->b ? std::optional(RS1) : std::nullopt);
    i += kLength;
    --left;
    CONTINUE(op_leave_here);
}

namespace {

enum class Change { Write, Set, Clear };

HartState::CsrResult access(HartState* s, const Slot* i, int64_t left, Change change, bool immediate) {
    s->left = left;
    const uint64_t operand = immediate ? i->b : s->x[i->b];
    uint64_t old = 0;
    // A set or clear by x0, or by an immediate of zero, is no write.
    const bool write = change == Change::Write || i->b != 0;
    const uint64_t keep = change == Change::Write ? 0 : change == Change::Set ? ~0ull : ~operand;
    const uint64_t set = change == Change::Clear ? 0 : operand;
    const auto result = s->access_csr(static_cast<unsigned>(i->imm), write, keep, set, old);
    if (result != HartState::CsrResult::Illegal)
        RD = old;
    return result;
}

}  // namespace

#define CSR(name, change, immediate)                               \
    OPERATION(name) {                                              \
        const auto result = access(s, i, left, change, immediate); \
        if (result == HartState::CsrResult::Done)                  \
            NEXT();                                                \
        if (result == HartState::CsrResult::Illegal)               \
            CONTINUE(op_not_legal);                                \
        i += kLength;                                              \
        --left;                                                    \
        CONTINUE(op_leave_here);                                   \
    }

CSR(csrrw, Change::Write, false)
CSR(csrrs, Change::Set, false)
CSR(csrrc, Change::Clear, false)
CSR(csrrwi, Change::Write, true)
CSR(csrrsi, Change::Set, true)
CSR(csrrci, Change::Clear, true)

#define NARROW(x)
#define WIDE(x) template HANDLER_CALL void op_##x<2>(HANDLER_ARGUMENTS);
#define OPS_SYSTEM
#include "hw/cpu/ops.def"
#undef OPS_SYSTEM

}  // namespace ashlar
