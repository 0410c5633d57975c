#include "hw/cpu/decode.h"

namespace ashlar {

namespace {

// Bits [high:low] of `bits`, moved up to `to`.
constexpr uint32_t field(uint32_t bits, unsigned high, unsigned low, unsigned to = 0) {
    return (bits >> low & ((1u << (high - low + 1)) - 1)) << to;
}

constexpr uint32_t sign_extended(uint32_t value, unsigned bits) {
    return static_cast<uint32_t>(static_cast<int32_t>(value << (32 - bits)) >> (32 - bits));
}

constexpr uint32_t r_type(uint32_t f7, uint32_t rs2, uint32_t rs1, uint32_t f3, uint32_t rd, uint32_t opcode) {
    return f7 << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | rd << 7 | opcode;
}
constexpr uint32_t i_type(uint32_t imm, uint32_t rs1, uint32_t f3, uint32_t rd, uint32_t opcode) {
    return (imm & 0xfff) << 20 | rs1 << 15 | f3 << 12 | rd << 7 | opcode;
}
constexpr uint32_t s_type(uint32_t imm, uint32_t rs2, uint32_t rs1, uint32_t f3, uint32_t opcode) {
    return field(imm, 11, 5, 25) | rs2 << 20 | rs1 << 15 | f3 << 12 | field(imm, 4, 0, 7) | opcode;
}
constexpr uint32_t b_type(uint32_t imm, uint32_t rs2, uint32_t rs1, uint32_t f3) {
    return field(imm, 12, 12, 31) | field(imm, 10, 5, 25) | rs2 << 20 | rs1 << 15 | f3 << 12 | field(imm, 4, 1, 8) |
           field(imm, 11, 11, 7) | 0x63;
}
constexpr uint32_t j_type(uint32_t imm, uint32_t rd) {
    return field(imm, 20, 20, 31) | field(imm, 10, 1, 21) | field(imm, 11, 11, 20) | field(imm, 19, 12, 12) | rd << 7 |
           0x6f;
}

constexpr uint32_t kLoad = 0x03, kLoadFp = 0x07, kOpImm = 0x13, kOpImm32 = 0x1b, kStore = 0x23, kStoreFp = 0x27,
                   kOp = 0x33, kLui = 0x37, kOp32 = 0x3b, kJalr = 0x67;
constexpr uint32_t kEbreak = 0x00100073;

uint32_t quadrant_0(uint32_t c) {
    const uint32_t rd = 8 + field(c, 4, 2), rs1 = 8 + field(c, 9, 7);
    const uint32_t word = field(c, 12, 10, 3) | field(c, 6, 6, 2) | field(c, 5, 5, 6);
    const uint32_t twice = field(c, 12, 10, 3) | field(c, 6, 5, 6);
    switch (c >> 13) {
        case 0: {  // c.addi4spn
            const uint32_t imm = field(c, 12, 11, 4) | field(c, 10, 7, 6) | field(c, 6, 6, 2) | field(c, 5, 5, 3);
            return imm ? i_type(imm, 2, 0, rd, kOpImm) : 0;
        }
        case 1:  // c.fld
            return i_type(twice, rs1, 3, rd, kLoadFp);
        case 2:  // c.lw
            return i_type(word, rs1, 2, rd, kLoad);
        case 3:  // c.ld
            return i_type(twice, rs1, 3, rd, kLoad);
        case 5:  // c.fsd
            return s_type(twice, rd, rs1, 3, kStoreFp);
        case 6:  // c.sw
            return s_type(word, rd, rs1, 2, kStore);
        case 7:  // c.sd
            return s_type(twice, rd, rs1, 3, kStore);
        default:
            return 0;
    }
}

uint32_t arithmetic(uint32_t c) {
    const uint32_t rd = 8 + field(c, 9, 7), rs2 = 8 + field(c, 4, 2);
    const uint32_t imm = field(c, 12, 12, 5) | field(c, 6, 2);
    switch (field(c, 11, 10)) {
        case 0:  // c.srli
            return i_type(imm, rd, 5, rd, kOpImm);
        case 1:  // c.srai
            return i_type(imm | 0x400, rd, 5, rd, kOpImm);
        case 2:  // c.andi
            return i_type(sign_extended(imm, 6), rd, 7, rd, kOpImm);
        default:
            break;
    }
    switch (field(c, 12, 12, 2) | field(c, 6, 5)) {
        case 0:  // c.sub
            return r_type(0x20, rs2, rd, 0, rd, kOp);
        case 1:  // c.xor
            return r_type(0, rs2, rd, 4, rd, kOp);
        case 2:  // c.or
            return r_type(0, rs2, rd, 6, rd, kOp);
        case 3:  // c.and
            return r_type(0, rs2, rd, 7, rd, kOp);
        case 4:  // c.subw
            return r_type(0x20, rs2, rd, 0, rd, kOp32);
        case 5:  // c.addw
            return r_type(0, rs2, rd, 0, rd, kOp32);
        default:
            return 0;
    }
}

uint32_t quadrant_1(uint32_t c) {
    const uint32_t rd = field(c, 11, 7), near = 8 + field(c, 9, 7);
    const uint32_t imm = sign_extended(field(c, 12, 12, 5) | field(c, 6, 2), 6);
    const uint32_t jump =
        sign_extended(field(c, 12, 12, 11) | field(c, 11, 11, 4) | field(c, 10, 9, 8) | field(c, 8, 8, 10) |
                          field(c, 7, 7, 6) | field(c, 6, 6, 7) | field(c, 5, 3, 1) | field(c, 2, 2, 5),
                      12);
    const uint32_t branch = sign_extended(
        field(c, 12, 12, 8) | field(c, 11, 10, 3) | field(c, 6, 5, 6) | field(c, 4, 3, 1) | field(c, 2, 2, 5), 9);
    switch (c >> 13) {
        case 0:  // c.addi, c.nop
            return i_type(imm, rd, 0, rd, kOpImm);
        case 1:  // c.addiw
            return rd ? i_type(imm, rd, 0, rd, kOpImm32) : 0;
        case 2:  // c.li
            return i_type(imm, 0, 0, rd, kOpImm);
        case 3: {
            if (rd == 2) {  // c.addi16sp
                const uint32_t stack = sign_extended(
                    field(c, 12, 12, 9) | field(c, 6, 6, 4) | field(c, 5, 5, 6) | field(c, 4, 3, 7) | field(c, 2, 2, 5),
                    10);
                return stack ? i_type(stack, 2, 0, 2, kOpImm) : 0;
            }
            return imm ? imm << 12 | rd << 7 | kLui : 0;  // c.lui
        }
        case 4:
            return arithmetic(c);
        case 5:  // c.j
            return j_type(jump, 0);
        case 6:  // c.beqz
            return b_type(branch, 0, near, 0);
        default:  // c.bnez
            return b_type(branch, 0, near, 1);
    }
}

uint32_t quadrant_2(uint32_t c) {
    const uint32_t rd = field(c, 11, 7), rs2 = field(c, 6, 2);
    switch (c >> 13) {
        case 0:  // c.slli
            return i_type(field(c, 12, 12, 5) | rs2, rd, 1, rd, kOpImm);
        case 1:  // c.fldsp
            return i_type(field(c, 12, 12, 5) | field(c, 6, 5, 3) | field(c, 4, 2, 6), 2, 3, rd, kLoadFp);
        case 2:  // c.lwsp
            return rd ? i_type(field(c, 12, 12, 5) | field(c, 6, 4, 2) | field(c, 3, 2, 6), 2, 2, rd, kLoad) : 0;
        case 3:  // c.ldsp
            return rd ? i_type(field(c, 12, 12, 5) | field(c, 6, 5, 3) | field(c, 4, 2, 6), 2, 3, rd, kLoad) : 0;
        case 4:
            if (!(c & 1 << 12)) {
                if (rs2 == 0)  // c.jr
                    return rd ? i_type(0, rd, 0, 0, kJalr) : 0;
                return r_type(0, rs2, 0, 0, rd, kOp);  // c.mv
            }
            if (rs2 == 0)  // c.ebreak, c.jalr
                return rd ? i_type(0, rd, 0, 1, kJalr) : kEbreak;
            return r_type(0, rs2, rd, 0, rd, kOp);  // c.add
        case 5:                                     // c.fsdsp
            return s_type(field(c, 12, 10, 3) | field(c, 9, 7, 6), rs2, 2, 3, kStoreFp);
        case 6:  // c.swsp
            return s_type(field(c, 12, 9, 2) | field(c, 8, 7, 6), rs2, 2, 2, kStore);
        default:  // c.sdsp
            return s_type(field(c, 12, 10, 3) | field(c, 9, 7, 6), rs2, 2, 3, kStore);
    }
}

}  // namespace

uint32_t expand_compressed(uint16_t bits) {
    switch (bits & 3) {
        case 0:
            return bits ? quadrant_0(bits) : 0;
        case 1:
            return quadrant_1(bits);
        default:
            return quadrant_2(bits);
    }
}

}  // namespace ashlar
