#include "tools/machine/machine_session.h"

#include "hw/virtio_rng.h"
#include "util/json.h"
#include "util/keyval.h"
#include "util/report.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace ashlar {

namespace {

constexpr std::string_view kNoHotplug = "Bus 'virtio-mmio-bus.7' does not support hotplugging";

}  // namespace

MachineSession::MachineSession(Daemon& daemon, const MachineArguments& arguments, Chardevs& chardevs)
    : daemon_(daemon),
      arguments_(arguments),
      chardevs_(chardevs),
      io_error_(
          daemon.context(),
          [](void* session) {
              auto* self = static_cast<MachineSession*>(session);
              self->scope_.spawn(self->co_stop_as(RunState::IoError));
          },
          this) {}

MachineSession::~MachineSession() = default;

Result<void> MachineSession::create() {
    auto machine = Machine::create(daemon_.context(),
                                   {.ram_bytes = arguments_.ram_bytes,
                                    .harts = arguments_.harts,
                                    .features = arguments_.features,
                                    .bios = arguments_.bios.value_or("default"),
                                    .kernel = arguments_.kernel,
                                    .initrd = arguments_.initrd,
                                    .append = arguments_.append,
                                    .virtio_legacy = arguments_.virtio_legacy},
                                   *this);
    if (!machine)
        return std::unexpected(std::move(machine.error()));
    machine_ = std::move(*machine);
    return {};
}

Result<void> MachineSession::dump_device_tree() const {
    auto tree = machine_->device_tree();
    if (!tree)
        return std::unexpected(std::move(tree.error()));
    const std::string& path = arguments_.dump_device_tree;
    UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!file || write(file.get(), tree->data(), tree->size()) != static_cast<ssize_t>(tree->size()))
        return fail_errno(errno, "failed to dump the device tree to {}", path);
    info_report("dtb dumped to {}. Exiting.", path);
    return {};
}

Task<Result<void>> MachineSession::co_add_drive(AddedDrive drive) {
    Json given{{"drive", std::move(drive.name)}};
    if (!drive.rerror.empty())
        given["rerror"] = std::move(drive.rerror);
    if (!drive.werror.empty())
        given["werror"] = std::move(drive.werror);
    auto options = VirtioBlkOptions::options().parse(given, Typing::Lenient);
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    co_return co_await co_add_blk(std::move(*options), fmt::format("{}/virtio-backend", anonymous_path()));
}

std::string MachineSession::anonymous_path() {
    return fmt::format("/machine/peripheral-anon/device[{}]", anonymous_++);
}

Task<Result<void>> MachineSession::co_add_device(std::string argument) {
    auto keyval = parse_keyval(argument, {.implied_key = "driver"});
    if (!keyval)
        co_return std::unexpected(std::move(keyval.error()));
    auto common = DeviceCommonOptions::options().take(keyval->options, keyval->typing);
    if (!common)
        co_return std::unexpected(std::move(common.error()));
    if (common->id) {
        if (!is_valid_id(*common->id))
            co_return fail("Parameter 'id' expects an identifier");
        if (std::find(ids_.begin(), ids_.end(), *common->id) != ids_.end())
            co_return fail("Duplicate device ID '{}'", *common->id);
    }
    const DeviceType* type = find_device_type(common->driver);
    if (!type)
        co_return no_such_device(common->driver);
    std::optional<unsigned> slot;
    if (common->bus && type->name != kConsoleDevice) {
        slot = find_virtio_slot(*common->bus);
        if (!slot)
            co_return fail("Bus '{}' not found", *common->bus);
    }
    const std::string path = common->id ? *common->id : anonymous_path();
    Result<void> added;
    if (common->driver == kBlkDevice) {
        auto options = VirtioBlkOptions::options().parse(keyval->options, keyval->typing);
        if (!options)
            co_return std::unexpected(std::move(options.error()));
        added = co_await co_add_blk(std::move(*options), path, slot);
    } else if (common->driver == kRngDevice) {
        if (auto none = RngDeviceOptions::options().parse(keyval->options, keyval->typing); !none)
            co_return std::unexpected(std::move(none.error()));
        added = machine_->add_virtio(std::make_unique<VirtioRng>(machine_->ram(), daemon_.context()), slot);
    } else if (common->driver == kSerialDevice) {
        if (auto none = SerialDeviceOptions::options().parse(keyval->options, keyval->typing); !none)
            co_return std::unexpected(std::move(none.error()));
        auto console = std::make_unique<VirtioConsole>(machine_->ram(), daemon_.context());
        VirtioConsole* port = console.get();
        added = machine_->add_virtio(std::move(console), slot);
        if (added)
            serial_buses_.push_back({common->id ? fmt::format("{}.0", *common->id)
                                                : fmt::format("virtio-serial-bus.{}", serial_buses_.size()),
                                     port});
    } else {
        auto options = ConsoleOptions::options().parse(keyval->options, keyval->typing);
        if (!options)
            co_return std::unexpected(std::move(options.error()));
        added = co_await co_add_console(std::move(*options), std::move(common->bus));
    }
    if (added && common->id)
        ids_.push_back(*common->id);
    co_return added;
}

Task<Result<void>> MachineSession::co_add_blk(VirtioBlkOptions options, std::string path,
                                              std::optional<unsigned> slot) {
    const bool may_stop = options.rerror == OnIoError::Stop ||
                          (options.werror != OnIoError::Report && options.werror != OnIoError::Ignore);
    AioContext* context = &daemon_.context();
    if (options.iothread) {
        auto iothread = daemon_.objects().use_iothread(*options.iothread);
        if (!iothread)
            co_return std::unexpected(std::move(iothread.error()));
        iothreads_.push_back(*iothread);
        context = &(*iothread)->context();
    }
    auto device = co_await VirtioBlk::co_create(daemon_.graph(), std::move(options), machine_->ram(), *context,
                                                [this](const GuestIoError& error) { note_io_error(error); });
    if (!device)
        co_return std::unexpected(std::move(device.error()));
    auto state = std::make_unique<DiskState>((*device)->backend(), std::move(path), may_stop);
    std::unique_ptr<VirtioDevice> blk = std::move(*device);
    auto added = machine_->add_virtio(std::move(blk), slot);
    if (added)
        disks_.push_back(std::move(state));
    else
        co_await blk->co_close();
    co_return added;
}

void MachineSession::note_io_error(const GuestIoError& error) {
    constexpr IoErrorAction kActions[] = {IoErrorAction::Report, IoErrorAction::Ignore, IoErrorAction::Stop};
    const BlockDriverState* node = error.backend.root();
    daemon_.qmp().emit(kBlockIoError,
                       {.device = error.backend.name(),
                        .node_name = node ? std::optional(node->node_name()) : std::nullopt,
                        .operation = error.is_write ? IoErrorOperation::Write : IoErrorOperation::Read,
                        .action = kActions[static_cast<size_t>(error.action)],
                        .nospace = error.error == -ENOSPC,
                        .reason = std::strerror(-error.error)},
                       error.backend.name());
    if (error.action != GuestIoError::Action::Stop)
        return;
    const IoStatus status = error.error == -ENOSPC ? IoStatus::NoSpace : IoStatus::Failed;
    for (const auto& disk : disks_)
        if (IoStatus first = IoStatus::Ok; &disk->backend == &error.backend)
            disk->status.compare_exchange_strong(first, status);
    io_error_.schedule();
}

Task<Result<void>> MachineSession::co_add_console(ConsoleOptions options, std::optional<std::string> bus) {
    const auto found = bus ? std::ranges::find(serial_buses_, *bus, &SerialBus::name)
                           : std::ranges::find_if(serial_buses_, [](const SerialBus& each) { return each.console; });
    if (bus && found == serial_buses_.end())
        co_return find_virtio_slot(*bus) ? fail("Device '{}' can't go on virtio-mmio-bus bus", kConsoleDevice)
                                         : fail("Bus '{}' not found", *bus);
    if (bus && !found->console)
        co_return fail("Bus '{}' is full: it has one port", *bus);
    if (found == serial_buses_.end())
        co_return std::unexpected(
            Error{fmt::format("No 'virtio-serial-bus' bus found for device '{}'", kConsoleDevice)}.with_hint(
                "Each takes a virtio-serial-device before it, which has one port."));
    VirtioConsole* port = std::exchange(found->console, nullptr);
    auto backend = co_await chardevs_.co_use(options.chardev, Chardevs::User::Device);
    if (!backend)
        co_return std::unexpected(std::move(backend.error()));
    port->attach(**backend);
    co_return Result<void>();
}

Task<Result<void>> MachineSession::co_connect(const CharArguments& chars) {
    if (chars.serial && !chars.serial->empty()) {
        auto backend = co_await chardevs_.co_use(*chars.serial, Chardevs::User::Device);
        if (!backend)
            co_return std::unexpected(std::move(backend.error()).prefixed("-serial"));
        uart_ = std::make_unique<CharLink>(daemon_.context(), machine_->uart(), **backend);
    } else {
        uart_ = std::make_unique<CharLink>(daemon_.context(), machine_->uart(), nowhere_);
    }
    if (chars.gdb) {
        auto backend = co_await chardevs_.co_use(*chars.gdb, Chardevs::User::Device);
        if (!backend)
            co_return std::unexpected(std::move(backend.error()).prefixed("-gdb"));
        gdb_ = std::make_unique<GdbServer>(*machine_, *this, **backend,
                                           [this] { daemon_.request_shutdown(ShutdownCause::HostUi); });
    }
    co_return Result<void>();
}

Task<Result<void>> MachineSession::co_start(bool paused) {
    if (auto started = machine_->start(); !started)
        co_return started;
    if (!paused)
        co_return co_await co_cont();
    co_return Result<void>();
}

Task<void> MachineSession::co_close() {
    closed_ = true;
    state_ = RunState::Shutdown;
    if (machine_)
        co_await machine_->co_close();
    co_await scope_.join();
    if (gdb_) {
        gdb_->exited(exit_status_);
        co_await gdb_->co_close();
    }
    co_await chardevs_.co_close();  // what the guest has said last goes by way of the machine
    gdb_.reset();
    uart_.reset();
    machine_.reset();
    for (IOThread* iothread : iothreads_)
        daemon_.objects().release(*iothread);
    iothreads_.clear();
}

// --- what QMP and the monitor ask for

Task<void> MachineSession::co_stop_as(RunState state, std::optional<unsigned> hart) {
    if (closed_)
        co_return;
    const bool ran = state_ == RunState::Running;
    if (ran || state_ == RunState::Prelaunch)
        state_ = state;
    co_await machine_->co_stop();
    if (ran)
        daemon_.qmp().emit(kStop, {});
    if (gdb_)
        gdb_->stopped(hart);
}

Task<Result<void>> MachineSession::co_stop() {
    co_await co_stop_as(RunState::Paused);
    co_return Result<void>();
}

Task<Result<void>> MachineSession::co_cont() {
    if (closed_)
        co_return fail("the program ends");
    if (state_ == RunState::Running)
        co_return Result<void>();
    state_ = RunState::Running;
    for (const auto& disk : disks_)
        disk->status = IoStatus::Ok;
    daemon_.qmp().emit(kResume, {});
    co_await machine_->co_go_on();
    co_return Result<void>();
}

Task<Result<void>> MachineSession::co_reset() {
    if (closed_)
        co_return fail("the program ends");
    if (arguments_.no_reboot) {
        daemon_.request_shutdown(ShutdownCause::HostQmpSystemReset);
        co_return Result<void>();
    }
    daemon_.qmp().emit(kReset, {.guest = false, .reason = ShutdownCause::HostQmpSystemReset});
    co_return co_await machine_->co_reset();
}

void MachineSession::power_down() {
    daemon_.qmp().emit(kPowerDown, {});
}

std::vector<MachineControl::Cpu> MachineSession::cpus() const {
    std::vector<Cpu> cpus;
    if (!closed_)
        for (unsigned i = 0; i < machine_->hart_count(); ++i)
            cpus.push_back({i, machine_->harts_thread_id()});
    return cpus;
}

std::vector<MachineControl::Disk> MachineSession::disks() const {
    std::vector<Disk> disks;
    if (!closed_)
        for (const auto& disk : disks_)
            disks.push_back(
                {&disk->backend, disk->path, disk->has_status ? std::optional(disk->status.load()) : std::nullopt});
    return disks;
}

Task<Result<void>> MachineSession::co_add_device(JsonBox options) {
    Json rest = *options;
    auto common = DeviceCommonOptions::options().take(rest, Typing::Strict);
    if (!common)
        co_return std::unexpected(std::move(common.error()));
    const std::vector<std::string> types = device_types();
    if (std::find(types.begin(), types.end(), common->driver) == types.end())
        co_return no_such_device(common->driver);
    co_return std::unexpected(Error{std::string(kNoHotplug)});
}

Task<Result<void>> MachineSession::co_remove_device(std::string id) {
    if (std::find(ids_.begin(), ids_.end(), id) != ids_.end())
        co_return std::unexpected(Error{std::string(kNoHotplug)});
    co_return std::unexpected(Error{fmt::format("Device '{}' not found", id)}.with_class(ErrorClass::DeviceNotFound));
}

Result<std::vector<MachineControl::Property>> MachineSession::device_properties(std::string_view type) const {
    const DeviceType* known = find_device_type(type);
    if (!known)
        return std::unexpected(
            Error{fmt::format("Device '{}' not found", type)}.with_class(ErrorClass::DeviceNotFound));
    std::vector<Property> properties;
    for (const OptionInfo& option : known->options().options())
        properties.push_back({option.name, option.type->name(), option.help});
    return properties;
}

std::vector<std::string> MachineSession::device_types() const {
    std::vector<std::string> names;
    for (const DeviceType& type : ashlar::device_types())
        names.emplace_back(type.name);
    return names;
}

// --- what the guest asks for

void MachineSession::guest_finished(int status) {
    if (closed_)
        return;
    exit_status_ = status;
    daemon_.request_shutdown(ShutdownCause::GuestShutdown);
}

void MachineSession::guest_asked_for_reset() {
    if (closed_)
        return;
    if (arguments_.no_reboot)
        daemon_.request_shutdown(ShutdownCause::GuestReset);
    else
        scope_.spawn(co_reset_for_guest());
}

Task<void> MachineSession::co_reset_for_guest() {
    daemon_.qmp().emit(kReset, {.guest = true, .reason = ShutdownCause::GuestReset});
    if (auto done = co_await machine_->co_reset(); !done)
        error_report(done.error());
}

void MachineSession::debugger_wanted(unsigned hart) {
    if (!closed_)
        scope_.spawn(co_stop_as(RunState::Debug, hart));
}

}  // namespace ashlar
