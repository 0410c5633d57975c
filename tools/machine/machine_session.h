// MachineSession: the emulated machine of `ashlar` with what is outside of it: drives, terminal, QMP.
//
// Main context. Made after the objects and nodes that the devices use; co_close() ends before it, and what it uses, is
// destroyed.
#pragma once

#include "hw/char_link.h"
#include "hw/machine.h"
#include "hw/virtio_blk.h"
#include "monitor/daemon.h"
#include "monitor/drive.h"
#include "tools/machine/char_mux.h"
#include "tools/machine/gdb_server.h"
#include "tools/machine/human_monitor.h"
#include "tools/machine/machine_options.h"
#include "tools/machine/serial_place.h"
#include "tools/machine/terminal.h"

namespace ashlar {

class MachineSession : public MachineControl, private Machine::Listener {
public:
    MachineSession(Daemon& daemon, const MachineArguments& arguments);
    ~MachineSession() override;

    // Reads firmware and kernel.
    Result<void> create();
    Result<void> dump_device_tree() const;
    [[nodiscard]] Task<Result<void>> co_add_drive(AddedDrive drive);       // of -drive if=virtio
    [[nodiscard]] Task<Result<void>> co_add_device(std::string argument);  // -device
    // `stdio_free`: nobody else has the terminal.
    [[nodiscard]] Task<Result<void>> co_connect(bool stdio_free);
    [[nodiscard]] Task<Result<void>> co_start(bool paused);
    [[nodiscard]] Task<void> co_close();

    int exit_status() const { return exit_status_; }  // as the guest has said

    RunState run_state() const override { return state_; }
    Task<Result<void>> co_stop() override;
    Task<Result<void>> co_cont() override;
    Task<Result<void>> co_reset() override;
    void power_down() override;
    std::vector<Cpu> cpus() const override;
    Task<Result<void>> co_add_device(JsonBox options) override;
    Task<Result<void>> co_remove_device(std::string id) override;
    Result<std::vector<Property>> device_properties(std::string_view type) const override;
    std::vector<std::string> device_types() const override;

private:
    void guest_finished(int status) override;
    void guest_asked_for_reset() override;
    void debugger_wanted(unsigned hart) override;

    [[nodiscard]] Task<Result<void>> co_add_blk(VirtioBlkOptions options);
    Task<void> co_stop_as(RunState state, std::optional<unsigned> hart = {});
    Task<void> co_reset_for_guest();
    void note_io_error(const GuestIoError& error);  // any thread
    Result<void> choose_places(bool stdio_free, SerialPlace& serial, SerialPlace& monitor) const;
    [[nodiscard]] Task<Result<StreamBackend*>> co_open(SerialPlace place);

    Daemon& daemon_;
    const MachineArguments& arguments_;
    std::unique_ptr<Machine> machine_;
    RunState state_ = RunState::Prelaunch;
    int exit_status_ = 0;
    bool closed_ = false;
    std::vector<IOThread*> iothreads_;  // in use
    std::vector<std::string> ids_;      // of devices

    std::unique_ptr<RawTerminal> terminal_;
    std::vector<std::unique_ptr<StreamBackend>> backends_;
    std::vector<std::string> sockets_;  // to be removed
    std::unique_ptr<CharMux> mux_;
    std::unique_ptr<HumanMonitor> monitor_;
    std::unique_ptr<CharLink> uart_;
    std::unique_ptr<GdbServer> gdb_;

    BottomHalf io_error_;
    TaskScope scope_;
};

}  // namespace ashlar
