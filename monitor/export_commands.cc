// Commands about exports.
#include "monitor/commands.h"
#include "monitor/daemon.h"

namespace ashlar {

namespace {

struct RemoveById {
    std::string id;
    ExportRemoveMode mode = ExportRemoveMode::Safe;

    static const OptionSet<RemoveById>& options() {
        static const auto set = OptionSet<RemoveById>("block-export-del")
                                    .required("id", &RemoveById::id, "the export")
                                    .optional("mode", &RemoveById::mode, "safe: only if it has no client");
        return set;
    }
};

struct RemoveByName {
    std::string name;
    ExportRemoveMode mode = ExportRemoveMode::Safe;

    static const OptionSet<RemoveByName>& options() {
        static const auto set = OptionSet<RemoveByName>("nbd-server-remove")
                                    .required("name", &RemoveByName::name, "the export")
                                    .optional("mode", &RemoveByName::mode, "safe: only if it has no client");
        return set;
    }
};

Task<Result<void>> nbd_server_start(Daemon& daemon, NbdServerStartOptions options) {
    return daemon.exports().co_start_server(std::move(options));
}

Task<Result<void>> nbd_server_stop(Daemon& daemon) {
    return daemon.exports().co_stop_server();
}

Task<Result<void>> nbd_server_add(Daemon& daemon, NbdServerAddOptions options) {
    return daemon.exports().co_add_device(std::move(options));
}

Task<Result<void>> nbd_server_remove(Daemon& daemon, RemoveByName args) {
    co_return daemon.exports().remove(args.name, args.mode);
}

Task<Result<void>> block_export_add(Daemon& daemon, BlockExportOptions options) {
    return daemon.exports().co_add(std::move(options));
}

Task<Result<void>> block_export_del(Daemon& daemon, RemoveById args) {
    co_return daemon.exports().remove(args.id, args.mode);
}

Task<Result<std::vector<BlockExportInfo>>> query_block_exports(Daemon& daemon) {
    co_return daemon.exports().query();
}

}  // namespace

void add_export_commands(QmpCommands& commands, Daemon& daemon) {
    commands.add("nbd-server-start", daemon, nbd_server_start);
    commands.add("nbd-server-stop", daemon, nbd_server_stop);
    commands.add("nbd-server-add", daemon, nbd_server_add).deprecated = true;
    commands.add("nbd-server-remove", daemon, nbd_server_remove).deprecated = true;
    commands.add("block-export-add", daemon, block_export_add);
    commands.add("block-export-del", daemon, block_export_del);
    commands.add("query-block-exports", daemon, query_block_exports);
}

}  // namespace ashlar
