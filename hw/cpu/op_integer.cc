#include "hw/cpu/handlers.h"

#include <limits>

namespace ashlar {

namespace {

int64_t as_signed(uint64_t value) {
    return static_cast<int64_t>(value);
}
// A result of 32 bits, sign-extended.
uint64_t word(uint64_t value) {
    return static_cast<uint64_t>(static_cast<int64_t>(static_cast<int32_t>(value)));
}
uint64_t sext(int32_t imm) {
    return static_cast<uint64_t>(static_cast<int64_t>(imm));
}

template <typename Signed>
Signed divide(Signed a, Signed b) {
    if (b == 0)
        return -1;
    if (a == std::numeric_limits<Signed>::min() && b == -1)
        return a;
    return a / b;
}

template <typename Signed>
Signed remainder(Signed a, Signed b) {
    if (b == 0)
        return a;
    if (b == -1)
        return 0;
    return a % b;
}

using Wide = __int128;
using WideUnsigned = unsigned __int128;

}  // namespace

#define SIMPLE(name, expression) \
    OPERATION(name) {            \
        RD = (expression);       \
        NEXT();                  \
    }

OPERATION(nop) {
    NEXT();
}
SIMPLE(addi, RS1 + sext(i->imm))
SIMPLE(addiw, word(RS1 + sext(i->imm)))
SIMPLE(li, sext(i->imm))
SIMPLE(mv, RS1)
SIMPLE(add, RS1 + RS2)
SIMPLE(sub, RS1 - RS2)
SIMPLE(and_, RS1& RS2)
SIMPLE(or_, RS1 | RS2)
SIMPLE(xor_, RS1 ^ RS2)
SIMPLE(addw, word(RS1 + RS2))
SIMPLE(subw, word(RS1 - RS2))
SIMPLE(andi, RS1& sext(i->imm))
SIMPLE(slli, RS1 << (i->imm & 63))
SIMPLE(srli, RS1 >> (i->imm & 63))
SIMPLE(srai, static_cast<uint64_t>(as_signed(RS1) >> (i->imm & 63)))
SIMPLE(auipc, s->pc_of(i) + sext(i->imm))
SIMPLE(xori, RS1 ^ sext(i->imm))
SIMPLE(ori, RS1 | sext(i->imm))
SIMPLE(slti, as_signed(RS1) < i->imm)
SIMPLE(sltiu, RS1 < sext(i->imm))
SIMPLE(slt, as_signed(RS1) < as_signed(RS2))
SIMPLE(sltu, RS1 < RS2)
SIMPLE(sll, RS1 << (RS2 & 63))
SIMPLE(srl, RS1 >> (RS2 & 63))
SIMPLE(sra, static_cast<uint64_t>(as_signed(RS1) >> (RS2 & 63)))
SIMPLE(slliw, word(RS1 << (i->imm & 31)))
SIMPLE(srliw, word(static_cast<uint32_t>(RS1) >> (i->imm & 31)))
SIMPLE(sraiw, word(static_cast<uint64_t>(static_cast<int32_t>(RS1) >> (i->imm & 31))))
SIMPLE(sllw, word(RS1 << (RS2 & 31)))
SIMPLE(srlw, word(static_cast<uint32_t>(RS1) >> (RS2 & 31)))
SIMPLE(sraw, word(static_cast<uint64_t>(static_cast<int32_t>(RS1) >> (RS2 & 31))))

SIMPLE(mul, RS1* RS2)
SIMPLE(mulh, static_cast<uint64_t>(Wide{as_signed(RS1)} * as_signed(RS2) >> 64))
SIMPLE(mulhsu, static_cast<uint64_t>(Wide{as_signed(RS1)} * static_cast<Wide>(WideUnsigned{RS2}) >> 64))
SIMPLE(mulhu, static_cast<uint64_t>(WideUnsigned{RS1} * RS2 >> 64))
SIMPLE(mulw, word(RS1* RS2))
SIMPLE(div, static_cast<uint64_t>(divide(as_signed(RS1), as_signed(RS2))))
SIMPLE(divu, RS2 ? RS1 / RS2 : ~0ull)
SIMPLE(rem, static_cast<uint64_t>(remainder(as_signed(RS1), as_signed(RS2))))
SIMPLE(remu, RS2 ? RS1 % RS2 : RS1)
SIMPLE(divw, sext(divide(static_cast<int32_t>(RS1), static_cast<int32_t>(RS2))))
SIMPLE(divuw, static_cast<uint32_t>(RS2) ? word(static_cast<uint32_t>(RS1) / static_cast<uint32_t>(RS2)) : ~0ull)
SIMPLE(remw, sext(remainder(static_cast<int32_t>(RS1), static_cast<int32_t>(RS2))))
SIMPLE(remuw, word(static_cast<uint32_t>(RS2) ? static_cast<uint32_t>(RS1) % static_cast<uint32_t>(RS2)
                                              : static_cast<uint32_t>(RS1)))

// Within the page: the budget is looked at here and at the page's end, which no loop avoids both of.
#define JUMP_LOCAL()                 \
    do {                             \
        i += i->imm / 2;             \
        if (--left <= 0)             \
            CONTINUE(op_leave_here); \
        DISPATCH();                  \
    } while (0)

#define JUMP_FAR()                          \
    do {                                    \
        s->pc = s->pc_of(i) + sext(i->imm); \
        --left;                             \
        CONTINUE(op_go);                    \
    } while (0)

#define BRANCH(name, condition) \
    OPERATION(name##_local) {   \
        if (condition)          \
            JUMP_LOCAL();       \
        NEXT();                 \
    }                           \
    OPERATION(name##_far) {     \
        if (condition)          \
            JUMP_FAR();         \
        NEXT();                 \
    }

BRANCH(beq, RS1 == RD)
BRANCH(bne, RS1 != RD)
BRANCH(blt, as_signed(RS1) < as_signed(RD))
BRANCH(bge, as_signed(RS1) >= as_signed(RD))
BRANCH(bltu, RS1 < RD)
BRANCH(bgeu, RS1 >= RD)

OPERATION(j_local) {
    JUMP_LOCAL();
}
OPERATION(j_far) {
    JUMP_FAR();
}
OPERATION(jal_local) {
    RD = s->pc_of(i) + 2 * kLength;
    JUMP_LOCAL();
}
OPERATION(jal_far) {
    RD = s->pc_of(i) + 2 * kLength;
    JUMP_FAR();
}

#define JUMP_TO(target)                                     \
    do {                                                    \
        const uint64_t inside = (target) - s->page_address; \
        --left;                                             \
        if (inside < s->page_bytes && left > 0) {           \
            i = s->page_slots + inside / 2;                 \
            DISPATCH();                                     \
        }                                                   \
        s->pc = (target);                                   \
        CONTINUE(op_go);                                    \
    } while (0)

OPERATION(jr) {
    const uint64_t target = (RS1 + sext(i->imm)) & ~1ull;
    JUMP_TO(target);
}
OPERATION(jalr) {
    const uint64_t target = (RS1 + sext(i->imm)) & ~1ull;
    RD = s->pc_of(i) + 2 * kLength;
    JUMP_TO(target);
}

OPERATION(ebreak) {
    s->fault = {Cause::Breakpoint, 0};
    CONTINUE(op_fault);
}

#define NARROW(x)                                            \
    template HANDLER_CALL void op_##x<2>(HANDLER_ARGUMENTS); \
    template HANDLER_CALL void op_##x<1>(HANDLER_ARGUMENTS);
#define WIDE(x) template HANDLER_CALL void op_##x<2>(HANDLER_ARGUMENTS);
#define OPS_INTEGER
#define OPS_INTEGER_WIDE
#include "hw/cpu/ops.def"
#undef OPS_INTEGER
#undef OPS_INTEGER_WIDE

}  // namespace ashlar
