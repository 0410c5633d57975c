// HartPlan: what the debugger wants of a hart when the machine goes on next.
#pragma once

#include <cstdint>

namespace ashlar {

enum class HartPlan : uint8_t {
    Run,
    Step,   // one instruction; then all harts stop
    Stand,  // nothing
};

}  // namespace ashlar
