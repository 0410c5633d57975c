// Slot: a decoded instruction. A decoded page has one for every 2 bytes of guest memory.
//
// a and b are registers, imm what else the operation needs:
//   register-immediate      a = rd, b = rs1, imm = immediate
//   register-register       a = rd, b = rs1, imm = rs2
//   branch                  a = rs2, b = rs1, imm = bytes to the target
//   store                   a = rs2, b = rs1, imm = offset
//   lui (li), auipc, jal    a = rd, imm; the distance in bytes for jal
//   CSR                     a = rd, b = rs1 or the immediate, imm = the CSR's number
//   floating point          a = rd, b = rs1, imm = rs2 | rounding mode << 8 | rs3 << 16
// An integer rd of 0 is kSink here: x has one register more, that nobody reads.
#pragma once

#include <cstdint>

namespace ashlar {

// Of a narrow operation `x` is the even number, and x_c, the next, the instruction of 2 bytes.
enum class Op : uint16_t {
#define NARROW(x) x, x##_c,
#define WIDE(x) x,
#include "hw/cpu/all_ops.def"
    kCount,
};

struct Slot {
    Op op = Op::undecoded;
    uint8_t a = 0, b = 0;
    int32_t imm = 0;
};
static_assert(sizeof(Slot) == 8);

inline constexpr uint8_t kSink = 32;

// How many slots an instruction of these first bits takes, less one.
inline bool is_wide(uint16_t first_bits) {
    return (first_bits & 3) == 3;
}

}  // namespace ashlar
