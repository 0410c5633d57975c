#include "monitor/idle_machine.h"

#include "monitor/events.h"

namespace ashlar {

Task<Result<void>> IdleMachine::co_stop() {
    if (std::exchange(state_, RunState::Paused) == RunState::Running)
        qmp_.emit(kStop, {});
    co_return Result<void>();
}

Task<Result<void>> IdleMachine::co_cont() {
    if (std::exchange(state_, RunState::Running) != RunState::Running)
        qmp_.emit(kResume, {});
    co_return Result<void>();
}

Task<Result<void>> IdleMachine::co_reset() {
    qmp_.emit(kReset, {.guest = false, .reason = ShutdownCause::HostQmpSystemReset});
    co_return Result<void>();
}

void IdleMachine::power_down() {
    qmp_.emit(kPowerDown, {});
}

Task<Result<void>> IdleMachine::co_add_device(JsonBox) {
    co_return fail("machine 'none' has no bus for a device");
}

Task<Result<void>> IdleMachine::co_remove_device(std::string id) {
    co_return std::unexpected(Error{fmt::format("Device '{}' not found", id)}.with_class(ErrorClass::DeviceNotFound));
}

Result<std::vector<MachineControl::Property>> IdleMachine::device_properties(std::string_view type) const {
    return std::unexpected(Error{fmt::format("Device '{}' not found", type)}.with_class(ErrorClass::DeviceNotFound));
}

}  // namespace ashlar
