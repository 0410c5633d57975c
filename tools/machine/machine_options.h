// What the command line says of the machine. A value.
#pragma once

#include "hw/hart_features.h"
#include "util/error.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ashlar {

class CommandLine;

struct MachineArguments {
    std::optional<std::string> type;  // "none", "virt"
    std::string dump_device_tree;     // a file
    uint64_t ram_bytes = uint64_t{128} << 20;
    unsigned harts = 1;
    HartFeatures features;
    std::optional<std::string> bios;
    std::string kernel, initrd, append;
    std::vector<std::string> devices;  // -device, in order
    bool no_reboot = false;
    bool virtio_legacy = false;

    bool is_virt() const { return type ? *type == "virt" : bios || !kernel.empty(); }
};

// The options; `out` outlives the command line's parsing.
void add_machine_options(CommandLine& line, MachineArguments& out);
// What they must be together.
Result<void> check_machine_arguments(const MachineArguments& arguments);

}  // namespace ashlar
