// ashlar: the emulator: a machine with its drives, exported over NBD, controlled by QMP.
#include "block/block_graph.h"
#include "monitor/daemon.h"
#include "monitor/drive.h"
#include "tools/ashlar_options.h"
#include "tools/machine/chardevs.h"
#include "tools/machine/human_monitor.h"
#include "tools/machine/machine_session.h"
#include "tools/program.h"
#include "util/json.h"
#include "util/keyval.h"
#include "util/report.h"
#include "util/signals.h"
#include "util/sync_wait.h"

#include <csignal>
#include <memory>
#include <optional>
#include <vector>

using namespace ashlar;

namespace {

class Emulator {
public:
    Emulator(AioContext& context, const DriverRegistry& drivers, const AshlarOptions& options, Readiness& readiness)
        : options_(options),
          readiness_(readiness),
          signals_({SIGTERM, SIGINT, SIGHUP}),
          daemon_(context, drivers),
          chardevs_(daemon_) {
        daemon_.set_name(options.name);
        if (options.machine.is_virt()) {
            session_.emplace(daemon_, options.machine, chardevs_);
            daemon_.set_machine(*session_);
        } else if (options.paused) {
            daemon_.set_prelaunch();
        }
    }

    // Serves until it is told to stop, or the guest ends: the exit status. Everything is closed on return.
    Task<Result<int>> co_run() {
        TaskScope watching;
        watching.spawn(co_watch_signals());
        watching.spawn(co_watch_shutdown());
        Result<void> result = co_await co_start();
        if (!result)
            daemon_.request_shutdown(ShutdownCause::HostError);
        co_await daemon_.co_wait_for_shutdown();
        for (const auto& monitor : monitors_)
            co_await monitor->co_close();
        if (session_)
            co_await session_->co_close();
        co_await chardevs_.co_close();
        auto closed = co_await daemon_.co_shutdown();
        if (result && !closed)
            result = std::move(closed);
        signals_.cancel();
        co_await watching.join();
        if (!result)
            co_return std::unexpected(std::move(result.error()));
        co_return session_ ? session_->exit_status() : 0;
    }

private:
    Task<void> co_watch_signals() {
        int number = co_await signals_.co_next();
        if (number > 0)
            daemon_.request_shutdown(ShutdownCause::HostSignal);
    }

    // Start-up does not wait any longer for a client when it is to end.
    Task<void> co_watch_shutdown() {
        co_await daemon_.co_wait_for_shutdown();
        chardevs_.give_up_waiting();
    }

    static std::unexpected<Error> of_option(Error error, std::string_view option, std::string_view argument) {
        return std::unexpected(std::move(error).prefixed(fmt::format("-{} {}", option, argument)));
    }

    Task<Result<void>> co_start() {
        for (const std::string& argument : options_.objects)
            if (auto added = daemon_.objects().add(argument, "-object"); !added)
                co_return std::unexpected(std::move(added.error()));
        for (const std::string& argument : options_.blockdevs)
            if (auto added = co_await co_add_blockdev(argument); !added)
                co_return of_option(std::move(added.error()), "blockdev", argument);
        if (session_)
            if (auto created = session_->create(); !created)
                co_return created;
        if (!options_.machine.dump_device_tree.empty()) {
            daemon_.request_shutdown(ShutdownCause::HostUi);
            co_return session_->dump_device_tree();
        }
        for (const CharPlace& place : options_.chars.chardevs)
            if (auto opened = co_await chardevs_.co_open(place); !opened)
                co_return of_option(std::move(opened.error()), "chardev", place.id);
        if (auto added = co_await co_add_devices(); !added)
            co_return added;
        for (const AshlarOptions::Nbd& nbd : options_.nbds)
            if (auto added = co_await daemon_.exports().co_add_nbd(nbd.argument); !added)
                co_return of_option(std::move(added.error()), "nbd", nbd.text);
        for (const CharArguments::Monitor& monitor : options_.chars.monitors)
            if (auto added = co_await co_add_monitor(monitor); !added)
                co_return of_option(std::move(added.error()), "mon", monitor.chardev);
        if (session_) {
            if (auto connected = co_await session_->co_connect(options_.chars); !connected)
                co_return connected;
            if (auto started = co_await session_->co_start(options_.paused); !started)
                co_return started;
        }
        co_return tell_ready();
    }

    // The drives, then the devices, and those that are made of drives last, as in QEMU.
    Task<Result<void>> co_add_devices() {
        DriveCounts counts;
        std::vector<std::pair<std::string, AddedDrive>> disks;  // the argument, the drive
        for (const std::string& argument : options_.drives) {
            auto drive = co_await co_add_drive(daemon_.graph(), argument, counts, session_.has_value());
            if (!drive)
                co_return of_option(std::move(drive.error()), "drive", argument);
            if (drive->interface == DriveInterface::Virtio)
                disks.emplace_back(argument, std::move(*drive));
        }
        for (const std::string& argument : options_.machine.devices)
            if (auto added = co_await session_->co_add_device(argument); !added)
                co_return of_option(std::move(added.error()), "device", argument);
        for (const auto& [argument, drive] : disks)
            if (auto added = co_await session_->co_add_drive(drive); !added)
                co_return of_option(std::move(added.error()), "drive", argument);
        co_return Result<void>();
    }

    Task<Result<void>> co_add_blockdev(std::string argument) {
        auto keyval = parse_keyval(argument, {.implied_key = "driver"});
        if (!keyval)
            co_return std::unexpected(std::move(keyval.error()));
        auto added = co_await daemon_.graph().co_blockdev_add(std::move(keyval->options), keyval->typing);
        if (!added)
            co_return std::unexpected(std::move(added.error()));
        co_return Result<void>();
    }

    Task<Result<void>> co_add_monitor(CharArguments::Monitor monitor) {
        if (monitor.control)
            co_return co_await chardevs_.co_use_for_qmp(monitor.chardev, monitor.pretty);
        auto backend = co_await chardevs_.co_use(monitor.chardev, Chardevs::User::Monitor);
        if (!backend)
            co_return std::unexpected(std::move(backend.error()));
        monitors_.push_back(std::make_unique<HumanMonitor>(daemon_, **backend));
        co_return Result<void>();
    }

    Result<void> tell_ready() {
        if (options_.verbose || readiness_.is_watched())
            for (const std::string& line : daemon_.exports().describe(options_.verbose))
                info_report("{}", line);
        return readiness_.announce();
    }

    const AshlarOptions& options_;
    Readiness& readiness_;
    Signals signals_;  // before there are threads
    Daemon daemon_;
    Chardevs chardevs_;
    std::vector<std::unique_ptr<HumanMonitor>> monitors_;
    std::optional<MachineSession> session_;
};

Result<int> run(const AshlarOptions& options) {
    auto readiness = Readiness::create(options.daemonize, options.pid_file);
    if (!readiness)
        return std::unexpected(std::move(readiness.error()));
    auto context = AioContext::create();
    if (!context)
        return std::unexpected(std::move(context.error()));
    DriverRegistry drivers;
    register_all_drivers(drivers);
    Emulator emulator(**context, drivers, options, *readiness);
    return sync_wait(**context, emulator.co_run());
}

}  // namespace

int main(int argc, char** argv) {
    return program_main(argc, argv, parse_ashlar_options, run);
}
