// HartFeatures: what of a hart may be left out. A value; what else there is, is always there (docs/machine.md).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ashlar {

struct HartFeatures {
    enum class Paging : uint8_t { None, Sv39, Sv48 };  // each has those before it

    bool sstc = true;            // stimecmp
    bool pmp = true;             // without: all memory is open to all
    bool floating_point = true;  // F and D
    Paging paging = Paging::Sv48;
};

// As the device tree says it: "rv64imafdc_...", "sv48".
std::string isa_string(const HartFeatures& features);
std::string_view mmu_type(const HartFeatures& features);

}  // namespace ashlar
