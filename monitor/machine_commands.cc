// Commands about the emulated machine.
#include "monitor/commands.h"
#include "monitor/daemon.h"

namespace ashlar {

namespace {

struct StatusInfo {
    bool running = true;
    bool singlestep = false;
    RunState status = RunState::Running;

    static const OptionSet<StatusInfo>& options() {
        static const auto set = OptionSet<StatusInfo>("StatusInfo")
                                    .required("running", &StatusInfo::running, "whether the machine runs")
                                    .required("singlestep", &StatusInfo::singlestep, "never")
                                    .required("status", &StatusInfo::status, "its state");
        return set;
    }
};

enum class CpuTarget : uint8_t { Riscv64 };
constexpr auto enum_names(CpuTarget) {
    return std::to_array<EnumName<CpuTarget>>({{CpuTarget::Riscv64, "riscv64"}});
}

struct CpuProperties {
    int64_t core = 0;

    static const OptionSet<CpuProperties>& options() {
        static const auto set =
            OptionSet<CpuProperties>("CpuInstanceProperties").optional("core-id", &CpuProperties::core, "its number");
        return set;
    }
};

struct CpuInfo {
    int64_t index = 0;
    std::string path;
    int64_t thread_id = 0;
    CpuProperties properties;
    CpuTarget target = CpuTarget::Riscv64;

    static const OptionSet<CpuInfo>& options() {
        static const auto set = OptionSet<CpuInfo>("CpuInfoFast")
                                    .required("cpu-index", &CpuInfo::index, "its number")
                                    .required("qom-path", &CpuInfo::path, "its name")
                                    .required("thread-id", &CpuInfo::thread_id, "of the thread that it runs in")
                                    .optional("props", &CpuInfo::properties, "where it is")
                                    .required("target", &CpuInfo::target, "its architecture");
        return set;
    }
};

struct DeviceAddArgs {
    std::string driver;
    std::optional<std::string> bus;
    std::optional<std::string> id;

    static const OptionSet<DeviceAddArgs>& options() {
        static const auto set = OptionSet<DeviceAddArgs>("device_add")
                                    .required("driver", &DeviceAddArgs::driver, "the kind of device")
                                    .optional("bus", &DeviceAddArgs::bus, "where")
                                    .optional("id", &DeviceAddArgs::id, "its name");
        return set;
    }
};

struct ListTypesArgs {
    std::optional<std::string> implements;
    bool abstract = false;

    static const OptionSet<ListTypesArgs>& options() {
        static const auto set =
            OptionSet<ListTypesArgs>("qom-list-types")
                .optional("implements", &ListTypesArgs::implements, "only what is of this type")
                .optional("abstract", &ListTypesArgs::abstract, "also what there are no objects of: there are none");
        return set;
    }
};

struct TypeInfo {
    std::string name;
    std::string parent;

    static const OptionSet<TypeInfo>& options() {
        static const auto set = OptionSet<TypeInfo>("ObjectTypeInfo")
                                    .required("name", &TypeInfo::name, "of the type")
                                    .optional("parent", &TypeInfo::parent, "what it is a kind of");
        return set;
    }
};

struct ListPropertiesArgs {
    std::string type;

    static const OptionSet<ListPropertiesArgs>& options() {
        static const auto set = OptionSet<ListPropertiesArgs>("device-list-properties")
                                    .required("typename", &ListPropertiesArgs::type, "of a device");
        return set;
    }
};

struct PropertyInfo {
    std::string name, type;
    std::optional<std::string> description;

    static const OptionSet<PropertyInfo>& options() {
        static const auto set = OptionSet<PropertyInfo>("ObjectPropertyInfo")
                                    .required("name", &PropertyInfo::name, "of the property")
                                    .required("type", &PropertyInfo::type, "of its value")
                                    .optional("description", &PropertyInfo::description, "text for people");
        return set;
    }
};

struct DeviceDelArgs {
    std::string id;

    static const OptionSet<DeviceDelArgs>& options() {
        static const auto set =
            OptionSet<DeviceDelArgs>("device_del").required("id", &DeviceDelArgs::id, "of the device");
        return set;
    }
};

Task<Result<StatusInfo>> query_status(Daemon& daemon) {
    const RunState state = daemon.machine().run_state();
    co_return StatusInfo{.running = state == RunState::Running, .status = state};
}

Task<Result<void>> stop(Daemon& daemon) {
    co_return co_await daemon.machine().co_stop();
}

Task<Result<void>> cont(Daemon& daemon) {
    co_return co_await daemon.machine().co_cont();
}

Task<Result<void>> system_reset(Daemon& daemon) {
    co_return co_await daemon.machine().co_reset();
}

Task<Result<void>> system_powerdown(Daemon& daemon) {
    daemon.machine().power_down();
    co_return Result<void>();
}

Task<Result<std::vector<CpuInfo>>> query_cpus_fast(Daemon& daemon) {
    std::vector<CpuInfo> cpus;
    for (const MachineControl::Cpu& cpu : daemon.machine().cpus())
        cpus.push_back({.index = cpu.index,
                        .path = fmt::format("/machine/soc0/harts[{}]", cpu.index),
                        .thread_id = cpu.thread_id,
                        .properties = {cpu.index}});
    co_return cpus;
}

Task<Result<void>> device_add(Daemon& daemon, JsonBox arguments) {
    co_return co_await daemon.machine().co_add_device(std::move(arguments));
}

Task<Result<void>> device_del(Daemon& daemon, DeviceDelArgs args) {
    co_return co_await daemon.machine().co_remove_device(std::move(args.id));
}

Task<Result<std::vector<TypeInfo>>> qom_list_types(Daemon& daemon, ListTypesArgs args) {
    std::vector<TypeInfo> types;
    if (!args.implements || *args.implements == "device" || *args.implements == "virtio-device")
        for (std::string& name : daemon.machine().device_types())
            types.push_back({.name = std::move(name), .parent = "virtio-device"});
    co_return types;
}

Task<Result<std::vector<PropertyInfo>>> device_list_properties(Daemon& daemon, ListPropertiesArgs args) {
    auto properties = daemon.machine().device_properties(args.type);
    if (!properties)
        co_return std::unexpected(std::move(properties.error()));
    std::vector<PropertyInfo> infos;
    for (MachineControl::Property& property : *properties)
        infos.push_back({std::move(property.name), std::move(property.type), std::move(property.description)});
    co_return infos;
}

}  // namespace

void add_machine_commands(QmpCommands& commands, Daemon& daemon) {
    commands.add("query-status", daemon, query_status);
    commands.add("stop", daemon, stop);
    commands.add("cont", daemon, cont);
    commands.add("system_reset", daemon, system_reset);
    commands.add("system_powerdown", daemon, system_powerdown);
    commands.add("query-cpus-fast", daemon, query_cpus_fast);
    commands.add_open<DeviceAddArgs>("device_add", daemon, device_add);
    commands.add("device_del", daemon, device_del);
    commands.add("qom-list-types", daemon, qom_list_types);
    commands.add("device-list-properties", daemon, device_list_properties);
}

}  // namespace ashlar
