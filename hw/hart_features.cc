#include "hw/hart_features.h"

namespace ashlar {

std::string isa_string(const HartFeatures& features) {
    std::string isa = features.floating_point ? "rv64imafdc" : "rv64imac";
    isa += "_zicntr_zicsr_zifencei";
    if (features.sstc)
        isa += "_sstc";
    return isa;
}

std::string_view mmu_type(const HartFeatures& features) {
    switch (features.paging) {
        case HartFeatures::Paging::None:
            return "none";
        case HartFeatures::Paging::Sv39:
            return "sv39";
        case HartFeatures::Paging::Sv48:
            break;
    }
    return "sv48";
}

}  // namespace ashlar
