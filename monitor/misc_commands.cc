// Commands about the program itself.
#include "monitor/commands.h"
#include "monitor/daemon.h"
#include "monitor/version.h"

namespace ashlar {

namespace {

struct NameInfo {
    std::optional<std::string> name;

    static const OptionSet<NameInfo>& options() {
        static const auto set = OptionSet<NameInfo>("NameInfo").optional("name", &NameInfo::name, "as -name gave it");
        return set;
    }
};

enum class RunState : uint8_t { Prelaunch, Running };
constexpr auto enum_names(RunState) {
    return std::to_array<EnumName<RunState>>({{RunState::Prelaunch, "prelaunch"}, {RunState::Running, "running"}});
}

struct StatusInfo {
    bool running = true;
    RunState status = RunState::Running;

    static const OptionSet<StatusInfo>& options() {
        static const auto set = OptionSet<StatusInfo>("StatusInfo")
                                    .required("running", &StatusInfo::running, "whether the machine runs")
                                    .required("status", &StatusInfo::status, "its state");
        return set;
    }
};

Task<Result<VersionInfo>> query_version(Daemon&) {
    co_return version_info();
}

Task<Result<NameInfo>> query_name(Daemon& daemon) {
    NameInfo info;
    if (!daemon.name().empty())
        info.name = daemon.name();
    co_return info;
}

Task<Result<StatusInfo>> query_status(Daemon& daemon) {
    co_return StatusInfo{!daemon.is_paused(), daemon.is_paused() ? RunState::Prelaunch : RunState::Running};
}

Task<Result<void>> quit(Daemon& daemon) {
    daemon.request_shutdown(ShutdownCause::HostQmpQuit);
    co_return Result<void>();
}

}  // namespace

void add_misc_commands(QmpCommands& commands, Daemon& daemon) {
    commands.add("query-version", daemon, query_version);
    commands.add("query-name", daemon, query_name);
    commands.add("query-status", daemon, query_status);
    commands.add("quit", daemon, quit);
}

}  // namespace ashlar
