// The kinds of device that -device and device_add know, and what they take.
#pragma once

#include "util/error.h"
#include "util/options.h"

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ashlar {

inline constexpr std::string_view kBlkDevice = "virtio-blk-device", kRngDevice = "virtio-rng-device",
                                  kSerialDevice = "virtio-serial-device", kConsoleDevice = "virtconsole";

// What every device has.
struct DeviceCommonOptions {
    std::string driver;
    std::optional<std::string> id;
    std::optional<std::string> bus;

    static const OptionSet<DeviceCommonOptions>& options();
};

struct RngDeviceOptions {
    static const OptionSet<RngDeviceOptions>& options();
};

// Has one port, for a console.
struct SerialDeviceOptions {
    static const OptionSet<SerialDeviceOptions>& options();
};

struct ConsoleOptions {
    std::string chardev;

    static const OptionSet<ConsoleOptions>& options();
};

struct DeviceType {
    std::string_view name, bus;
    const OptionSchema& (*options)();
};
std::span<const DeviceType> device_types();
const DeviceType* find_device_type(std::string_view name);  // nullptr: there is none

// The slot of virtio-mmio that a bus is called by.
std::optional<unsigned> find_virtio_slot(std::string_view bus);

// For -device help and -device DRIVER,help; nothing for any other argument.
std::optional<std::string> device_help(std::string_view argument);

std::unexpected<Error> no_such_device(std::string_view type);

}  // namespace ashlar
