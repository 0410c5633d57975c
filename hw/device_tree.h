// The device tree of the machine `virt`: what firmware and kernels are told of it. A pure function.
//
// Nodes, names and compatibles are those of qemu-system-riscv64 -M virt, as far as there is something behind them.
// Specifications: Devicetree Specification 0.4; the bindings of Linux.
#pragma once

#include "util/error.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ashlar {

struct DeviceTreeSpec {
    uint64_t ram_bytes = 0;
    unsigned harts = 1;
    std::string isa;
    std::string mmu;  // "sv48"
    std::string bootargs;
    struct Range {
        uint64_t start, end;
    };
    std::optional<Range> initrd = {};
    std::array<uint8_t, 32> rng_seed = {};
};

Result<std::vector<uint8_t>> build_device_tree(const DeviceTreeSpec& spec);

}  // namespace ashlar
