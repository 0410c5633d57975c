// MachineControl: what QMP does with the emulated machine of a program that has one. Main context.
#pragma once

#include "util/enum_names.h"
#include "util/error.h"
#include "util/json_box.h"
#include "util/task.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ashlar {

class BlockBackend;

// QAPI's, as far as it happens here.
enum class RunState : uint8_t { Prelaunch, Running, Paused, Debug, IoError, Shutdown };
constexpr auto enum_names(RunState) {
    return std::to_array<EnumName<RunState>>({
        {RunState::Prelaunch, "prelaunch"},
        {RunState::Running, "running"},
        {RunState::Paused, "paused"},
        {RunState::Debug, "debug"},
        {RunState::IoError, "io-error"},
        {RunState::Shutdown, "shutdown"},
    });
}

// Of a disk that stops the machine when a request fails: whether one has, since it has gone on last.
enum class IoStatus : uint8_t { Ok, Failed, NoSpace };
constexpr auto enum_names(IoStatus) {
    return std::to_array<EnumName<IoStatus>>({
        {IoStatus::Ok, "ok"},
        {IoStatus::Failed, "failed"},
        {IoStatus::NoSpace, "nospace"},
    });
}

class MachineControl {
public:
    virtual ~MachineControl() = default;

    virtual RunState run_state() const = 0;
    [[nodiscard]] virtual Task<Result<void>> co_stop() = 0;
    [[nodiscard]] virtual Task<Result<void>> co_cont() = 0;
    [[nodiscard]] virtual Task<Result<void>> co_reset() = 0;
    virtual void power_down() = 0;  // what pressing the button does

    struct Cpu {
        unsigned index;
        int thread_id;
    };
    virtual std::vector<Cpu> cpus() const = 0;

    // What it has made of drives.
    struct Disk {
        BlockBackend* backend;
        std::string path;  // the device's name, or where it is among those that have none
        std::optional<IoStatus> io_status;
    };
    virtual std::vector<Disk> disks() const = 0;

    // Devices: as -device takes them. Where nothing can be plugged in or out while it runs, they say so.
    [[nodiscard]] virtual Task<Result<void>> co_add_device(JsonBox options) = 0;
    [[nodiscard]] virtual Task<Result<void>> co_remove_device(std::string id) = 0;

    // For device-list-properties.
    struct Property {
        std::string name, type, description;
    };
    virtual Result<std::vector<Property>> device_properties(std::string_view type) const = 0;
    virtual std::vector<std::string> device_types() const = 0;
};

}  // namespace ashlar
