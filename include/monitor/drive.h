// -drive: an image as a device with a name, as QEMU has had it for a long time. Main context.
#pragma once

#include "block/block_graph.h"
#include "util/enum_names.h"

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace ashlar {

enum class DriveInterface : uint8_t { None, Virtio };
constexpr auto enum_names(DriveInterface) {
    return std::to_array<EnumName<DriveInterface>>({
        {DriveInterface::None, "none"},
        {DriveInterface::Virtio, "virtio"},
    });
}

struct AddedDrive {
    std::string name;
    DriveInterface interface = DriveInterface::None;  // the caller makes the device
    std::string rerror = {}, werror = {};             // and tells it this, where something is said
};

// Of a command line: the drives so far, from which come the names of those that have none ("none0", "virtio0").
struct DriveCounts {
    std::array<unsigned, enum_names(DriveInterface{}).size()> count{};
};

// `has_disks`: whether the machine has anything to connect it to, which it is then if it does not say otherwise.
[[nodiscard]] Task<Result<AddedDrive>> co_add_drive(BlockGraph& graph, std::string argument, DriveCounts& counts,
                                                    bool has_disks);

// What to print for `format=help`, if that is what the argument says.
std::optional<std::string> drive_help(const DriverRegistry& drivers, std::string_view argument);

}  // namespace ashlar
