#include "hw/cpu/decode.h"

#include "hw/cpu/privilege.h"

namespace ashlar {

namespace {

struct Bits {
    uint32_t all;

    uint32_t opcode() const { return all & 0x7f; }
    uint8_t rd() const { return all >> 7 & 31; }
    // For an integer result.
    uint8_t target() const { return rd() ? rd() : kSink; }
    uint8_t rs1() const { return all >> 15 & 31; }
    uint8_t rs2() const { return all >> 20 & 31; }
    uint8_t rs3() const { return all >> 27; }
    uint32_t funct3() const { return all >> 12 & 7; }
    uint32_t funct7() const { return all >> 25; }
    int32_t i_imm() const { return static_cast<int32_t>(all) >> 20; }
    int32_t s_imm() const { return (static_cast<int32_t>(all) >> 25) * 32 + static_cast<int32_t>(all >> 7 & 31); }
    int32_t u_imm() const { return static_cast<int32_t>(all & 0xfffff000); }
    int32_t b_imm() const {
        return (static_cast<int32_t>(all) >> 31) * 4096 +
               static_cast<int32_t>((all >> 7 & 1) << 11 | (all >> 25 & 0x3f) << 5 | (all >> 8 & 15) << 1);
    }
    int32_t j_imm() const {
        return (static_cast<int32_t>(all) >> 31) * 0x100000 +
               static_cast<int32_t>((all >> 12 & 0xff) << 12 | (all >> 20 & 1) << 11 | (all >> 21 & 0x3ff) << 1);
    }
};

constexpr Slot kIllegal{Op::illegal, 0, 0, 0};

Slot with_rs2(Op op, Bits bits) {
    return {op, bits.target(), bits.rs1(), bits.rs2()};
}

Slot load(Bits bits) {
    static constexpr Op kOps[] = {Op::lb, Op::lh, Op::lw, Op::ld, Op::lbu, Op::lhu, Op::lwu, Op::illegal};
    return {kOps[bits.funct3()], bits.target(), bits.rs1(), bits.i_imm()};
}

Slot store(Bits bits) {
    static constexpr Op kOps[] = {Op::sb, Op::sh, Op::sw, Op::sd, Op::illegal, Op::illegal, Op::illegal, Op::illegal};
    return {kOps[bits.funct3()], bits.rs2(), bits.rs1(), bits.s_imm()};
}

Slot op_imm(Bits bits) {
    const auto make = [&](Op op, int32_t imm) { return Slot{op, bits.rd(), bits.rs1(), imm}; };
    const uint32_t funct6 = bits.all >> 26;
    const int32_t shift = bits.i_imm() & 63;
    Slot slot = kIllegal;
    switch (bits.funct3()) {
        case 0:
            slot = bits.rs1() == 0     ? make(Op::li, bits.i_imm())
                   : bits.i_imm() == 0 ? make(Op::mv, 0)
                                       : make(Op::addi, bits.i_imm());
            break;
        case 1:
            if (funct6 == 0)
                slot = make(Op::slli, shift);
            break;
        case 2:
            slot = make(Op::slti, bits.i_imm());
            break;
        case 3:
            slot = make(Op::sltiu, bits.i_imm());
            break;
        case 4:
            slot = make(Op::xori, bits.i_imm());
            break;
        case 5:
            if (funct6 == 0)
                slot = make(Op::srli, shift);
            else if (funct6 == 0x10)
                slot = make(Op::srai, shift);
            break;
        case 6:
            slot = make(Op::ori, bits.i_imm());
            break;
        default:
            slot = make(Op::andi, bits.i_imm());
            break;
    }
    if (slot.op != Op::illegal && bits.rd() == 0)
        return {Op::nop, 0, 0, 0};
    return slot;
}

Slot op_imm_32(Bits bits) {
    const auto make = [&](Op op, int32_t imm) { return Slot{op, bits.target(), bits.rs1(), imm}; };
    switch (bits.funct3()) {
        case 0:
            return make(Op::addiw, bits.i_imm());
        case 1:
            return bits.funct7() == 0 ? make(Op::slliw, bits.rs2()) : kIllegal;
        case 5:
            return bits.funct7() == 0      ? make(Op::srliw, bits.rs2())
                   : bits.funct7() == 0x20 ? make(Op::sraiw, bits.rs2())
                                           : kIllegal;
        default:
            return kIllegal;
    }
}

Slot op(Bits bits) {
    static constexpr Op kBase[] = {Op::add, Op::sll, Op::slt, Op::sltu, Op::xor_, Op::srl, Op::or_, Op::and_};
    static constexpr Op kMultiply[] = {Op::mul, Op::mulh, Op::mulhsu, Op::mulhu, Op::div, Op::divu, Op::rem, Op::remu};
    switch (bits.funct7()) {
        case 0:
            // c.mv, and what an assembler makes of it.
            if (bits.funct3() == 0 && bits.rs1() == 0)
                return {Op::mv, bits.target(), bits.rs2(), 0};
            return with_rs2(kBase[bits.funct3()], bits);
        case 1:
            return with_rs2(kMultiply[bits.funct3()], bits);
        case 0x20:
            return bits.funct3() == 0   ? with_rs2(Op::sub, bits)
                   : bits.funct3() == 5 ? with_rs2(Op::sra, bits)
                                        : kIllegal;
        default:
            return kIllegal;
    }
}

Slot op_32(Bits bits) {
    static constexpr Op kMultiply[] = {Op::mulw, Op::illegal, Op::illegal, Op::illegal,
                                       Op::divw, Op::divuw,   Op::remw,    Op::remuw};
    static constexpr Op kBase[] = {Op::addw,    Op::sllw, Op::illegal, Op::illegal,
                                   Op::illegal, Op::srlw, Op::illegal, Op::illegal};
    switch (bits.funct7()) {
        case 0:
            return with_rs2(kBase[bits.funct3()], bits);
        case 1:
            return with_rs2(kMultiply[bits.funct3()], bits);
        case 0x20:
            return bits.funct3() == 0   ? with_rs2(Op::subw, bits)
                   : bits.funct3() == 5 ? with_rs2(Op::sraw, bits)
                                        : kIllegal;
        default:
            return kIllegal;
    }
}

bool is_local(InstructionPlace place, int32_t distance) {
    return place.in_page && static_cast<uint64_t>(static_cast<int64_t>(place.offset) + distance) < kPageBytes;
}

Slot branch(Bits bits, InstructionPlace place) {
    static constexpr Op kLocal[] = {Op::beq_local, Op::bne_local, Op::illegal,    Op::illegal,
                                    Op::blt_local, Op::bge_local, Op::bltu_local, Op::bgeu_local};
    static constexpr Op kFar[] = {Op::beq_far, Op::bne_far, Op::illegal,  Op::illegal,
                                  Op::blt_far, Op::bge_far, Op::bltu_far, Op::bgeu_far};
    const int32_t distance = bits.b_imm();
    return {(is_local(place, distance) ? kLocal : kFar)[bits.funct3()], bits.rs2(), bits.rs1(), distance};
}

Slot jal(Bits bits, InstructionPlace place) {
    const int32_t distance = bits.j_imm();
    const bool local = is_local(place, distance);
    if (bits.rd() == 0)
        return {local ? Op::j_local : Op::j_far, 0, 0, distance};
    return {local ? Op::jal_local : Op::jal_far, bits.rd(), 0, distance};
}

Slot jalr(Bits bits) {
    if (bits.funct3() != 0)
        return kIllegal;
    return {bits.rd() ? Op::jalr : Op::jr, bits.rd(), bits.rs1(), bits.i_imm()};
}

Slot atomic(Bits bits) {
    const bool wide = bits.funct3() == 3;
    if (!wide && bits.funct3() != 2)
        return kIllegal;
    const auto make = [&](Op word, Op twice) { return with_rs2(wide ? twice : word, bits); };
    switch (bits.all >> 27) {
        case 0x00:
            return make(Op::amoadd_w, Op::amoadd_d);
        case 0x01:
            return make(Op::amoswap_w, Op::amoswap_d);
        case 0x02:
            return bits.rs2() == 0 ? make(Op::lr_w, Op::lr_d) : kIllegal;
        case 0x03:
            return make(Op::sc_w, Op::sc_d);
        case 0x04:
            return make(Op::amoxor_w, Op::amoxor_d);
        case 0x08:
            return make(Op::amoor_w, Op::amoor_d);
        case 0x0c:
            return make(Op::amoand_w, Op::amoand_d);
        case 0x10:
            return make(Op::amomin_w, Op::amomin_d);
        case 0x14:
            return make(Op::amomax_w, Op::amomax_d);
        case 0x18:
            return make(Op::amominu_w, Op::amominu_d);
        case 0x1c:
            return make(Op::amomaxu_w, Op::amomaxu_d);
        default:
            return kIllegal;
    }
}

Slot system(Bits bits) {
    static constexpr Op kCsr[] = {Op::illegal, Op::csrrw,  Op::csrrs,  Op::csrrc,
                                  Op::illegal, Op::csrrwi, Op::csrrsi, Op::csrrci};
    if (bits.funct3() != 0)
        return {kCsr[bits.funct3()], bits.target(), bits.rs1(), static_cast<int32_t>(bits.all >> 20)};
    switch (bits.all) {
        case 0x00000073:
            return {Op::ecall, 0, 0, 0};
        case 0x00100073:
            return {Op::ebreak, 0, 0, 0};
        case 0x10200073:
            return {Op::sret, 0, 0, 0};
        case 0x30200073:
            return {Op::mret, 0, 0, 0};
        case 0x10500073:
            return {Op::wfi, 0, 0, 0};
        default:
            break;
    }
    if (bits.funct7() == 9 && bits.rd() == 0)
        return {Op::sfence_vma, 0, bits.rs1(), bits.rs2()};
    return kIllegal;
}

Slot fence(Bits bits) {
    switch (bits.funct3()) {
        case 0:
            return {Op::fence, 0, 0, 0};
        case 1:
            return {Op::fence_i, 0, 0, 0};
        default:
            return kIllegal;
    }
}

// What a floating-point operation has in imm.
int32_t fp_imm(Bits bits) {
    return static_cast<int32_t>(bits.rs2() | bits.funct3() << 8 | static_cast<uint32_t>(bits.rs3()) << 16);
}

// 5 and 6 are reserved; 7 is what frm says.
bool is_rounding_mode(uint32_t mode) {
    return mode != 5 && mode != 6;
}

Slot multiply_add(Bits bits, Op single, Op twice) {
    const uint32_t format = bits.all >> 25 & 3;
    if (format > 1 || !is_rounding_mode(bits.funct3()))
        return kIllegal;
    return {format ? twice : single, bits.rd(), bits.rs1(), fp_imm(bits)};
}

Slot op_fp(Bits bits) {
    const uint32_t format = bits.funct7() & 3, mode = bits.funct3(), rs2 = bits.rs2();
    if (format > 1)
        return kIllegal;
    const auto choose = [&](Op single, Op twice) { return format ? twice : single; };
    const auto rounded = [&](Op single, Op twice) {
        return is_rounding_mode(mode) ? Slot{choose(single, twice), bits.rd(), bits.rs1(), fp_imm(bits)} : kIllegal;
    };
    const auto to_integer = [&](Op single, Op twice) {
        Slot slot = rounded(single, twice);
        slot.a = bits.target();
        return slot;
    };
    const auto exact = [&](Op op) { return Slot{op, bits.rd(), bits.rs1(), fp_imm(bits)}; };
    const auto exact_integer = [&](Op op) { return Slot{op, bits.target(), bits.rs1(), fp_imm(bits)}; };
    switch (bits.all >> 27) {
        case 0x00:
            return rounded(Op::fadd_s, Op::fadd_d);
        case 0x01:
            return rounded(Op::fsub_s, Op::fsub_d);
        case 0x02:
            return rounded(Op::fmul_s, Op::fmul_d);
        case 0x03:
            return rounded(Op::fdiv_s, Op::fdiv_d);
        case 0x0b:
            return rs2 == 0 ? rounded(Op::fsqrt_s, Op::fsqrt_d) : kIllegal;
        case 0x04:
            return mode == 0   ? exact(choose(Op::fsgnj_s, Op::fsgnj_d))
                   : mode == 1 ? exact(choose(Op::fsgnjn_s, Op::fsgnjn_d))
                   : mode == 2 ? exact(choose(Op::fsgnjx_s, Op::fsgnjx_d))
                               : kIllegal;
        case 0x05:
            return mode == 0   ? exact(choose(Op::fmin_s, Op::fmin_d))
                   : mode == 1 ? exact(choose(Op::fmax_s, Op::fmax_d))
                               : kIllegal;
        case 0x08:
            return format == 0 && rs2 == 1   ? rounded(Op::fcvt_s_d, Op::illegal)
                   : format == 1 && rs2 == 0 ? rounded(Op::illegal, Op::fcvt_d_s)
                                             : kIllegal;
        case 0x14:
            return mode == 0   ? exact_integer(choose(Op::fle_s, Op::fle_d))
                   : mode == 1 ? exact_integer(choose(Op::flt_s, Op::flt_d))
                   : mode == 2 ? exact_integer(choose(Op::feq_s, Op::feq_d))
                               : kIllegal;
        case 0x18:
            return rs2 == 0   ? to_integer(Op::fcvt_w_s, Op::fcvt_w_d)
                   : rs2 == 1 ? to_integer(Op::fcvt_wu_s, Op::fcvt_wu_d)
                   : rs2 == 2 ? to_integer(Op::fcvt_l_s, Op::fcvt_l_d)
                   : rs2 == 3 ? to_integer(Op::fcvt_lu_s, Op::fcvt_lu_d)
                              : kIllegal;
        case 0x1a:
            return rs2 == 0   ? rounded(Op::fcvt_s_w, Op::fcvt_d_w)
                   : rs2 == 1 ? rounded(Op::fcvt_s_wu, Op::fcvt_d_wu)
                   : rs2 == 2 ? rounded(Op::fcvt_s_l, Op::fcvt_d_l)
                   : rs2 == 3 ? rounded(Op::fcvt_s_lu, Op::fcvt_d_lu)
                              : kIllegal;
        case 0x1c:
            return rs2 != 0    ? kIllegal
                   : mode == 0 ? exact_integer(choose(Op::fmv_x_w, Op::fmv_x_d))
                   : mode == 1 ? exact_integer(choose(Op::fclass_s, Op::fclass_d))
                               : kIllegal;
        case 0x1e:
            return rs2 == 0 && mode == 0 ? exact(choose(Op::fmv_w_x, Op::fmv_d_x)) : kIllegal;
        default:
            return kIllegal;
    }
}

Slot decode_wide(Bits bits, InstructionPlace place) {
    const bool fp_size = bits.funct3() == 2 || bits.funct3() == 3;
    const bool twice = bits.funct3() == 3;
    switch (bits.opcode()) {
        case 0x03:
            return load(bits);
        case 0x07:
            return fp_size ? Slot{twice ? Op::fld : Op::flw, bits.rd(), bits.rs1(), bits.i_imm()} : kIllegal;
        case 0x0f:
            return fence(bits);
        case 0x13:
            return op_imm(bits);
        case 0x17:
            return {Op::auipc, bits.target(), 0, bits.u_imm()};
        case 0x1b:
            return op_imm_32(bits);
        case 0x23:
            return store(bits);
        case 0x27:
            return fp_size ? Slot{twice ? Op::fsd : Op::fsw, bits.rs2(), bits.rs1(), bits.s_imm()} : kIllegal;
        case 0x2f:
            return atomic(bits);
        case 0x33:
            return op(bits);
        case 0x37:
            return {Op::li, bits.target(), 0, bits.u_imm()};
        case 0x3b:
            return op_32(bits);
        case 0x43:
            return multiply_add(bits, Op::fmadd_s, Op::fmadd_d);
        case 0x47:
            return multiply_add(bits, Op::fmsub_s, Op::fmsub_d);
        case 0x4b:
            return multiply_add(bits, Op::fnmsub_s, Op::fnmsub_d);
        case 0x4f:
            return multiply_add(bits, Op::fnmadd_s, Op::fnmadd_d);
        case 0x53:
            return op_fp(bits);
        case 0x63:
            return branch(bits, place);
        case 0x67:
            return jalr(bits);
        case 0x6f:
            return jal(bits, place);
        case 0x73:
            return system(bits);
        default:
            return kIllegal;
    }
}

}  // namespace

Slot decode(uint32_t bits, InstructionPlace place) {
    if (is_wide(bits & 0xffff))
        return decode_wide({bits}, place);
    Slot slot = decode_wide({expand_compressed(bits & 0xffff)}, place);
    if (slot.op != Op::illegal)
        slot.op = static_cast<Op>(static_cast<uint16_t>(slot.op) + 1);
    return slot;
}

}  // namespace ashlar
