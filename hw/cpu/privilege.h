// The names and numbers of the privileged architecture: modes, kinds of access, causes of traps, fields of CSRs.
#pragma once

#include <cstdint>

namespace ashlar {

enum class Privilege : uint8_t { User = 0, Supervisor = 1, Machine = 3 };

enum class Access : uint8_t { Fetch, Load, Store };

enum class Cause : uint8_t {
    FetchMisaligned = 0,
    FetchAccess = 1,
    IllegalInstruction = 2,
    Breakpoint = 3,
    LoadMisaligned = 4,
    LoadAccess = 5,
    StoreMisaligned = 6,
    StoreAccess = 7,
    EcallFromUser = 8,
    EcallFromSupervisor = 9,
    EcallFromMachine = 11,
    FetchPage = 12,
    LoadPage = 13,
    StorePage = 15,
};

// What an exception says of itself: scause and stval, or mcause and mtval.
struct Fault {
    Cause cause;
    uint64_t value;
};

// Of mstatus; sstatus shows some of them.
namespace mstatus {
inline constexpr uint64_t kSie = 1ull << 1;
inline constexpr uint64_t kMie = 1ull << 3;
inline constexpr uint64_t kSpie = 1ull << 5;
inline constexpr uint64_t kMpie = 1ull << 7;
inline constexpr uint64_t kSpp = 1ull << 8;
inline constexpr unsigned kMppShift = 11;
inline constexpr uint64_t kMpp = 3ull << kMppShift;
inline constexpr unsigned kFsShift = 13;
inline constexpr uint64_t kFs = 3ull << kFsShift;  // 0: off, 1: initial, 2: clean, 3: dirty
inline constexpr uint64_t kMprv = 1ull << 17;
inline constexpr uint64_t kSum = 1ull << 18;
inline constexpr uint64_t kMxr = 1ull << 19;
inline constexpr uint64_t kTvm = 1ull << 20;
inline constexpr uint64_t kTw = 1ull << 21;
inline constexpr uint64_t kTsr = 1ull << 22;
inline constexpr uint64_t kUxl64 = 2ull << 32;
inline constexpr uint64_t kSxl64 = 2ull << 34;
inline constexpr uint64_t kSd = 1ull << 63;
}  // namespace mstatus

// Of mip and mie.
namespace interrupt {
inline constexpr uint64_t kSsi = 1 << 1;
inline constexpr uint64_t kMsi = 1 << 3;
inline constexpr uint64_t kSti = 1 << 5;
inline constexpr uint64_t kMti = 1 << 7;
inline constexpr uint64_t kSei = 1 << 9;
inline constexpr uint64_t kMei = 1 << 11;
inline constexpr uint64_t kSupervisor = kSsi | kSti | kSei;
inline constexpr uint64_t kAll = kSupervisor | kMsi | kMti | kMei;
}  // namespace interrupt

inline constexpr uint64_t kEnvcfgFiom = 1;
inline constexpr uint64_t kMenvcfgStce = 1ull << 63;

inline constexpr unsigned kPageShift = 12;
inline constexpr uint64_t kPageBytes = 1ull << kPageShift;
inline constexpr uint64_t kPageOffset = kPageBytes - 1;

}  // namespace ashlar
