#include "tools/machine/device_types.h"

#include "hw/memory_map.h"
#include "hw/virtio_blk.h"
#include "util/json.h"
#include "util/keyval.h"

#include <fmt/core.h>

#include <algorithm>

namespace ashlar {

namespace {

constexpr DeviceType kTypes[] = {
    {kBlkDevice, "virtio-bus", []() -> const OptionSchema& { return VirtioBlkOptions::options(); }},
    {kRngDevice, "virtio-bus", []() -> const OptionSchema& { return RngDeviceOptions::options(); }},
    {kSerialDevice, "virtio-bus", []() -> const OptionSchema& { return SerialDeviceOptions::options(); }},
    {kConsoleDevice, "virtio-serial-bus", []() -> const OptionSchema& { return ConsoleOptions::options(); }},
};

}  // namespace

const OptionSet<DeviceCommonOptions>& DeviceCommonOptions::options() {
    static const auto set = OptionSet<DeviceCommonOptions>("device")
                                .required("driver", &DeviceCommonOptions::driver, "the kind of device")
                                .optional("id", &DeviceCommonOptions::id, "its name")
                                .optional("bus", &DeviceCommonOptions::bus,
                                          "where it is plugged in: virtio-mmio-bus.N; for a virtconsole, ID.0");
    return set;
}

const OptionSet<RngDeviceOptions>& RngDeviceOptions::options() {
    static const auto set = OptionSet<RngDeviceOptions>(kRngDevice);
    return set;
}

const OptionSet<SerialDeviceOptions>& SerialDeviceOptions::options() {
    static const auto set = OptionSet<SerialDeviceOptions>(kSerialDevice);
    return set;
}

const OptionSet<ConsoleOptions>& ConsoleOptions::options() {
    static const auto set = OptionSet<ConsoleOptions>(kConsoleDevice)
                                .required("chardev", &ConsoleOptions::chardev, "the chardev that it is at");
    return set;
}

std::span<const DeviceType> device_types() {
    return kTypes;
}

const DeviceType* find_device_type(std::string_view name) {
    const auto* found = std::ranges::find(kTypes, name, &DeviceType::name);
    return found == std::end(kTypes) ? nullptr : found;
}

std::optional<unsigned> find_virtio_slot(std::string_view bus) {
    for (unsigned slot = 0; slot < virt::kVirtioSlots; ++slot)
        if (bus == fmt::format("virtio-mmio-bus.{}", slot))
            return slot;
    return std::nullopt;
}

std::optional<std::string> device_help(std::string_view argument) {
    auto keyval = parse_keyval(argument, {.implied_key = "driver"});
    if (!is_help_request(argument) && (!keyval || !keyval->help))
        return std::nullopt;
    const Json* driver = keyval ? json_find(keyval->options, "driver") : nullptr;
    const std::string* name = driver ? json_string(*driver) : nullptr;
    if (const DeviceType* type = name ? find_device_type(*name) : nullptr)
        return type->options().options().empty() ? fmt::format("There are no options for {}.\n", type->name)
                                                 : type->options().help();
    std::string text;
    for (const DeviceType& type : kTypes)
        text += fmt::format("name \"{}\", bus {}\n", type.name, type.bus);
    return text;
}

std::unexpected<Error> no_such_device(std::string_view type) {
    return std::unexpected(Error{fmt::format("'{}' is not a valid device model name", type)}.with_hint(
        "-device help lists what there is."));
}

}  // namespace ashlar
