// Instructions to slots: pure functions of the bits.
#pragma once

#include "hw/cpu/slot.h"

namespace ashlar {

// Where an instruction is in its decoded page; jumps to targets in the same page are then local. Outside of a page
// every jump is a far one.
struct InstructionPlace {
    bool in_page = false;
    uint32_t offset = 0;  // in bytes
};

// `bits`: 2 or 4 bytes, as the lowest two of them say. What is no instruction is Op::illegal.
Slot decode(uint32_t bits, InstructionPlace place);

// The instruction of 4 bytes that one of 2 stands for; 0 (which is illegal): none.
uint32_t expand_compressed(uint16_t bits);

}  // namespace ashlar
