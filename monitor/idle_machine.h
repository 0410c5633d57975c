// IdleMachine: the machine `none`: nothing runs there, but it can be stopped and go on, as the events tell.
#pragma once

#include "monitor/machine_control.h"
#include "monitor/qmp_server.h"

namespace ashlar {

class IdleMachine : public MachineControl {
public:
    explicit IdleMachine(QmpServer& qmp) : qmp_(qmp) {}

    void set_prelaunch() { state_ = RunState::Prelaunch; }
    RunState run_state() const override { return state_; }
    Task<Result<void>> co_stop() override;
    Task<Result<void>> co_cont() override;
    Task<Result<void>> co_reset() override;
    void power_down() override;
    std::vector<Cpu> cpus() const override { return {}; }
    std::vector<Disk> disks() const override { return {}; }
    Task<Result<void>> co_add_device(JsonBox options) override;
    Task<Result<void>> co_remove_device(std::string id) override;
    Result<std::vector<Property>> device_properties(std::string_view type) const override;
    std::vector<std::string> device_types() const override { return {}; }

private:
    QmpServer& qmp_;
    RunState state_ = RunState::Running;
};

}  // namespace ashlar
