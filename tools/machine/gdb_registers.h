// The registers of a hart as gdb knows them: the target description ("Debugging with GDB", appendix G: the features
// org.gnu.gdb.riscv.*), by the numbers of Hart::read_register().
#pragma once

#include <cstddef>
#include <string>

namespace ashlar {

inline constexpr unsigned kGdbPc = 32;
inline constexpr unsigned kGdbGeneral = 65;               // of the packets g and G: x0 to x31, pc, f0 to f31
inline constexpr unsigned kGdbRegisters = 65 + 4096 + 1;  // with the CSRs and the privilege

const std::string& gdb_target_description();
size_t gdb_register_bytes(unsigned number);

}  // namespace ashlar
