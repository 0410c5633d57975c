// ashlar-nbd: serves one disk image over NBD; the counterpart of qemu-nbd.
#include "block/block_graph.h"
#include "monitor/user_objects.h"
#include "nbd/server.h"
#include "nbd/uri.h"
#include "tools/ashlar_nbd_options.h"
#include "tools/img/snapshot_argument.h"
#include "tools/nbd_list.h"
#include "tools/program.h"
#include "util/co_event.h"
#include "util/json.h"
#include "util/report.h"
#include "util/signals.h"
#include "util/size.h"
#include "util/sync_wait.h"

#include <unistd.h>

#include <csignal>

using namespace ashlar;

namespace {

class NbdProgram {
public:
    NbdProgram(AioContext& context, const DriverRegistry& drivers, const AshlarNbdOptions& options,
               Readiness& readiness)
        : options_(options),
          readiness_(readiness),
          signals_({SIGTERM, SIGINT, SIGHUP}),
          graph_(context, drivers),
          objects_(graph_),
          server_(context, options.server) {}

    // Serves until a signal or the last client ends it. Everything is closed on return.
    Task<Result<void>> co_run() {
        Result<void> result = co_await co_serve();
        keep_first(result, co_await server_.co_stop());
        if (root_)
            keep_first(result, co_await graph_.co_unref(*root_));
        keep_first(result, co_await graph_.co_close_all());
        for (IOThread* thread : used_)
            objects_.release(*thread);
        co_return result;
    }

private:
    static void keep_first(Result<void>& result, Result<void> next) {
        if (result && !next)
            result = std::move(next);
    }

    Task<Result<void>> co_serve() {
        auto contexts = make_iothreads();
        if (!contexts)
            co_return std::unexpected(std::move(contexts.error()));
        if (auto opened = co_await co_open(); !opened)
            co_return opened;
        NbdExportOptions exported{
            .name = options_.export_name,
            .description = options_.description,
            .writable = !options_.image.flags.read_only,
            .writethrough = !is_writeback(options_.image.cache),
            .allocation_depth = options_.allocation_depth,
            .contexts = std::move(*contexts),
        };
        for (const std::string& bitmap : options_.bitmaps)
            exported.bitmaps.push_back({.name = bitmap});
        if (options_.server.max_connections == 1)
            exported.multi_conn = false;
        auto made = co_await NbdExport::co_create(std::move(exported), graph_, *root_);
        if (!made)
            co_return std::unexpected(std::move(made.error()));
        if (auto added = server_.add_export(std::move(*made)); !added)
            co_return added;
        if (auto listening = listen(); !listening)
            co_return listening;
        if (auto ready = tell_ready(); !ready)
            co_return ready;

        server_.on_client_gone([this] {
            if (!options_.persistent && server_.connections() == 0)
                end_.set();
        });
        TaskScope watching;
        watching.spawn(co_watch_signals());
        co_await end_.wait();
        signals_.cancel();
        co_await watching.join();
        co_return Result<void>();
    }

    Task<void> co_watch_signals() {
        co_await signals_.co_next();
        end_.set();
    }

    Result<std::vector<AioContext*>> make_iothreads() {
        for (const std::string& object : options_.objects)
            if (auto added = objects_.add(object); !added)
                return std::unexpected(std::move(added.error()));
        std::vector<AioContext*> contexts;
        for (const std::string& id : options_.iothreads) {
            auto thread = objects_.use_iothread(id);
            if (!thread)
                return std::unexpected(std::move(thread.error()).prefixed("--iothread"));
            used_.push_back(*thread);
            contexts.push_back(&(*thread)->context());
        }
        for (unsigned i = 0; i < options_.anonymous_iothreads; ++i) {
            auto thread = IOThread::create(fmt::format("nbd{}", i));
            if (!thread)
                return std::unexpected(std::move(thread.error()));
            contexts.push_back(&(*thread)->context());
            threads_.push_back(std::move(*thread));
        }
        return contexts;
    }

    Task<Result<void>> co_open() {
        auto opened = co_await co_open_node(graph_, options_.file, options_.image);
        if (!opened)
            co_return std::unexpected(std::move(opened.error()));
        root_ = *opened;
        if (!options_.load_snapshot.empty())
            if (auto shown = co_await img::co_show_snapshot(*root_, options_.load_snapshot); !shown)
                co_return shown;
        if (options_.offset == 0)
            co_return Result<void>();

        Json part = {{"driver", "raw"}, {"offset", options_.offset}, {"file", root_->node_name()}};
        auto offset =
            co_await co_open_over(graph_, *std::exchange(root_, nullptr), std::move(part), options_.image.node_flags());
        if (!offset)
            co_return std::unexpected(std::move(offset.error()));
        root_ = *offset;
        co_return Result<void>();
    }

    Result<void> listen() {
        auto inherited = take_systemd_sockets();
        if (!inherited)
            return std::unexpected(std::move(inherited.error()));
        if (inherited->empty())
            return server_.listen(options_.address());
        if (options_.socket_path || options_.bind || options_.port)
            return fail("-k, -b and -p cannot be set when using socket activation");
        server_.listen(std::move(*inherited));
        return {};
    }

    Result<void> tell_ready() {
        if (options_.verbose || readiness_.is_watched())
            for (const SocketAddress& address : server_.addresses())
                info_report("{}", what_is_served(address));
        return readiness_.announce();
    }

    std::string what_is_served(const SocketAddress& address) const {
        std::string text =
            fmt::format("{} ({}, {}) at {}", root_->filename(), format_size(static_cast<uint64_t>(root_->length())),
                        options_.image.flags.read_only ? "read-only" : "writable",
                        nbd::to_string(nbd::Uri{address, options_.export_name}));
        if (options_.verbose) {
            unsigned clients = options_.server.max_connections;
            text += fmt::format(", {}, cache={}, {} at once, {}", root_->type().name, enum_name(options_.image.cache),
                                clients == 0 ? "any number of clients"
                                             : fmt::format("{} {}", clients, clients == 1 ? "client" : "clients"),
                                options_.persistent ? "until a signal" : "until the last client leaves");
        }
        return text;
    }

    const AshlarNbdOptions& options_;
    Readiness& readiness_;
    Signals signals_;  // before there are threads
    BlockGraph graph_;
    UserObjects objects_;
    std::vector<std::unique_ptr<IOThread>> threads_;
    std::vector<IOThread*> used_;
    BlockDriverState* root_ = nullptr;
    NbdServer server_;
    CoEvent end_;
};

Result<void> run(const AshlarNbdOptions& options) {
    auto readiness = Readiness::create(options.fork, options.pid_file);
    if (!readiness)
        return std::unexpected(std::move(readiness.error()));
    auto context = AioContext::create();
    if (!context)
        return std::unexpected(std::move(context.error()));
    if (options.list)
        return sync_wait(**context, co_print_exports(options.address()));
    DriverRegistry drivers;
    register_all_drivers(drivers);
    NbdProgram program(**context, drivers, options, *readiness);
    return sync_wait(**context, program.co_run());
}

}  // namespace

int main(int argc, char** argv) {
    return program_main(argc, argv, parse_ashlar_nbd_options, run);
}
