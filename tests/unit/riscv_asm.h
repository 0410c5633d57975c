// A handful of RISC-V instructions as their bits, for tests of the hart that need no cross compiler.
#pragma once

#include <cstdint>

namespace ashlar::riscv {

// Registers by their names in the ABI, as far as tests use them.
enum Register : uint32_t { zero, ra, sp, gp, tp, t0, t1, t2, s0, s1, a0, a1, a2, a3, a4, a5, a6, a7, s2, s3, s4, s5 };

constexpr uint32_t r_type(uint32_t f7, uint32_t rs2, uint32_t rs1, uint32_t f3, uint32_t rd, uint32_t opcode) {
    return f7 << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | rd << 7 | opcode;
}
constexpr uint32_t i_type(int32_t imm, uint32_t rs1, uint32_t f3, uint32_t rd, uint32_t opcode) {
    return static_cast<uint32_t>(imm) << 20 | rs1 << 15 | f3 << 12 | rd << 7 | opcode;
}
constexpr uint32_t s_type(int32_t imm, uint32_t rs2, uint32_t rs1, uint32_t f3, uint32_t opcode) {
    const auto bits = static_cast<uint32_t>(imm);
    return (bits >> 5 & 0x7f) << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | (bits & 31) << 7 | opcode;
}
constexpr uint32_t b_type(int32_t imm, uint32_t rs2, uint32_t rs1, uint32_t f3) {
    const auto bits = static_cast<uint32_t>(imm);
    return (bits >> 12 & 1) << 31 | (bits >> 5 & 0x3f) << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 |
           (bits >> 1 & 15) << 8 | (bits >> 11 & 1) << 7 | 0x63;
}

constexpr uint32_t lui(uint32_t rd, uint32_t upper) {
    return upper << 12 | rd << 7 | 0x37;
}
constexpr uint32_t auipc(uint32_t rd, uint32_t upper) {
    return upper << 12 | rd << 7 | 0x17;
}
constexpr uint32_t addi(uint32_t rd, uint32_t rs1, int32_t imm) {
    return i_type(imm, rs1, 0, rd, 0x13);
}
constexpr uint32_t li(uint32_t rd, int32_t imm) {
    return addi(rd, zero, imm);
}
constexpr uint32_t slli(uint32_t rd, uint32_t rs1, int32_t by) {
    return i_type(by, rs1, 1, rd, 0x13);
}
constexpr uint32_t add(uint32_t rd, uint32_t rs1, uint32_t rs2) {
    return r_type(0, rs2, rs1, 0, rd, 0x33);
}
constexpr uint32_t jal(uint32_t rd, int32_t imm) {
    const auto bits = static_cast<uint32_t>(imm);
    return (bits >> 20 & 1) << 31 | (bits >> 1 & 0x3ff) << 21 | (bits >> 11 & 1) << 20 | (bits >> 12 & 0xff) << 12 |
           rd << 7 | 0x6f;
}
constexpr uint32_t jalr(uint32_t rd, uint32_t rs1, int32_t imm) {
    return i_type(imm, rs1, 0, rd, 0x67);
}
constexpr uint32_t beq(uint32_t rs1, uint32_t rs2, int32_t imm) {
    return b_type(imm, rs2, rs1, 0);
}
constexpr uint32_t bne(uint32_t rs1, uint32_t rs2, int32_t imm) {
    return b_type(imm, rs2, rs1, 1);
}
constexpr uint32_t lb(uint32_t rd, uint32_t rs1, int32_t imm) {
    return i_type(imm, rs1, 0, rd, 0x03);
}
constexpr uint32_t lw(uint32_t rd, uint32_t rs1, int32_t imm) {
    return i_type(imm, rs1, 2, rd, 0x03);
}
constexpr uint32_t ld(uint32_t rd, uint32_t rs1, int32_t imm) {
    return i_type(imm, rs1, 3, rd, 0x03);
}
constexpr uint32_t sb(uint32_t rs2, uint32_t rs1, int32_t imm) {
    return s_type(imm, rs2, rs1, 0, 0x23);
}
constexpr uint32_t sw(uint32_t rs2, uint32_t rs1, int32_t imm) {
    return s_type(imm, rs2, rs1, 2, 0x23);
}
constexpr uint32_t sd(uint32_t rs2, uint32_t rs1, int32_t imm) {
    return s_type(imm, rs2, rs1, 3, 0x23);
}
constexpr uint32_t csrrw(uint32_t rd, uint32_t number, uint32_t rs1) {
    return i_type(static_cast<int32_t>(number), rs1, 1, rd, 0x73);
}
constexpr uint32_t csrrs(uint32_t rd, uint32_t number, uint32_t rs1) {
    return i_type(static_cast<int32_t>(number), rs1, 2, rd, 0x73);
}
constexpr uint32_t csrr(uint32_t rd, uint32_t number) {
    return csrrs(rd, number, zero);
}
constexpr uint32_t csrw(uint32_t number, uint32_t rs1) {
    return csrrw(zero, number, rs1);
}
// Of the 5 bits above bit 26: 2 is LR, 3 is SC, 0 is AMOADD.
constexpr uint32_t amo_w(uint32_t f5, uint32_t rd, uint32_t rs1, uint32_t rs2) {
    return r_type(f5 << 2, rs2, rs1, 2, rd, 0x2f);
}

constexpr uint32_t ecall = 0x73, ebreak = 0x100073, mret = 0x30200073, sret = 0x10200073, wfi = 0x10500073,
                   fence_i = 0x100f, sfence_vma = 0x12000073, nop = 0x13;

}  // namespace ashlar::riscv
