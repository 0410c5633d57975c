// Where what is on the machine `virt`: guest-physical addresses, and the sources of the interrupt controller.
#pragma once

#include <cstdint>

namespace ashlar::virt {

constexpr uint64_t kResetRom = 0x1000;
constexpr uint64_t kFinisher = 0x100000;
constexpr uint64_t kRtc = 0x101000;
constexpr uint64_t kAclint = 0x2000000;
constexpr uint64_t kPlic = 0xc000000;
constexpr uint64_t kUart = 0x10000000;
constexpr uint64_t kVirtio = 0x10001000, kVirtioStride = 0x1000;
constexpr unsigned kVirtioSlots = 8;
constexpr uint64_t kRam = 0x80000000;

constexpr unsigned kVirtioSource = 1;  // of slot 0; the others follow
constexpr unsigned kUartSource = 10;
constexpr unsigned kRtcSource = 11;

constexpr unsigned kMaxHarts = 8;

}  // namespace ashlar::virt
