// MachineSession: the emulated machine of `ashlar` with what is outside of it: drives, terminal, QMP.
//
// Main context. Made after the objects and nodes that the devices use; co_close() ends before it, and what it uses, is
// destroyed.
#pragma once

#include "hw/char_link.h"
#include "hw/machine.h"
#include "hw/virtio_blk.h"
#include "hw/virtio_console.h"
#include "monitor/daemon.h"
#include "monitor/drive.h"
#include "tools/machine/char_options.h"
#include "tools/machine/chardevs.h"
#include "tools/machine/device_types.h"
#include "tools/machine/gdb_server.h"
#include "tools/machine/machine_options.h"

#include <atomic>

namespace ashlar {

class MachineSession : public MachineControl, private Machine::Listener {
public:
    MachineSession(Daemon& daemon, const MachineArguments& arguments, Chardevs& chardevs);
    ~MachineSession() override;

    // Reads firmware and kernel.
    Result<void> create();
    Result<void> dump_device_tree() const;
    [[nodiscard]] Task<Result<void>> co_add_drive(AddedDrive drive);          // of -drive if=virtio
    [[nodiscard]] Task<Result<void>> co_add_device(std::string argument);     // -device
    [[nodiscard]] Task<Result<void>> co_connect(const CharArguments& chars);  // the serial port, and gdb
    [[nodiscard]] Task<Result<void>> co_start(bool paused);
    [[nodiscard]] Task<void> co_close();  // that of the chardevs as well

    int exit_status() const { return exit_status_; }  // as the guest has said

    RunState run_state() const override { return state_; }
    Task<Result<void>> co_stop() override;
    Task<Result<void>> co_cont() override;
    Task<Result<void>> co_reset() override;
    void power_down() override;
    std::vector<Cpu> cpus() const override;
    std::vector<Disk> disks() const override;
    Task<Result<void>> co_add_device(JsonBox options) override;
    Task<Result<void>> co_remove_device(std::string id) override;
    Result<std::vector<Property>> device_properties(std::string_view type) const override;
    std::vector<std::string> device_types() const override;

private:
    void guest_finished(int status) override;
    void guest_asked_for_reset() override;
    void debugger_wanted(unsigned hart) override;

    // A disk, as query-block tells of it. `status`: any thread.
    struct DiskState {
        BlockBackend& backend;
        std::string path;
        bool has_status;  // it may stop the machine
        std::atomic<IoStatus> status{IoStatus::Ok};
    };

    std::string anonymous_path();
    [[nodiscard]] Task<Result<void>> co_add_blk(VirtioBlkOptions options, std::string path,
                                                std::optional<unsigned> slot = {});
    Task<void> co_stop_as(RunState state, std::optional<unsigned> hart = {});
    Task<void> co_reset_for_guest();
    void note_io_error(const GuestIoError& error);  // any thread
    [[nodiscard]] Task<Result<void>> co_add_console(ConsoleOptions options, std::optional<std::string> bus);

    Daemon& daemon_;
    const MachineArguments& arguments_;
    Chardevs& chardevs_;
    std::unique_ptr<Machine> machine_;
    RunState state_ = RunState::Prelaunch;
    int exit_status_ = 0;
    bool closed_ = false;
    std::vector<IOThread*> iothreads_;               // in use
    std::vector<std::string> ids_;                   // of devices
    unsigned anonymous_ = 0;                         // devices that have none
    std::vector<std::unique_ptr<DiskState>> disks_;  // all of them before the machine runs

    struct SerialBus {
        std::string name;
        VirtioConsole* console;  // its one port; nullptr: somebody is at it
    };
    std::vector<SerialBus> serial_buses_;
    StreamBackend nowhere_;
    std::unique_ptr<CharLink> uart_;
    std::unique_ptr<GdbServer> gdb_;

    BottomHalf io_error_;
    TaskScope scope_;
};

}  // namespace ashlar
