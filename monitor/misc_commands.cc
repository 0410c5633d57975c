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

Task<Result<VersionInfo>> query_version(Daemon&) {
    co_return version_info();
}

Task<Result<NameInfo>> query_name(Daemon& daemon) {
    NameInfo info;
    if (!daemon.name().empty())
        info.name = daemon.name();
    co_return info;
}

Task<Result<void>> quit(Daemon& daemon) {
    daemon.request_shutdown(ShutdownCause::HostQmpQuit);
    co_return Result<void>();
}

}  // namespace

void add_misc_commands(QmpCommands& commands, Daemon& daemon) {
    commands.add("query-version", daemon, query_version);
    commands.add("query-name", daemon, query_name);
    commands.add("quit", daemon, quit);
}

}  // namespace ashlar
