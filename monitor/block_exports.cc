#include "monitor/block_exports.h"

#include "block/throttle_groups.h"
#include "monitor/events.h"
#include "nbd/uri.h"
#include "util/size.h"

#include <algorithm>
#include <cstring>

namespace ashlar {

namespace {

constexpr int64_t kSecond = 1'000'000'000;

std::vector<std::string> split_ids(std::string_view text) {
    std::vector<std::string> ids;
    for (;;) {
        size_t colon = text.find(':');
        ids.emplace_back(text.substr(0, colon));
        if (colon == text.npos)
            return ids;
        text.remove_prefix(colon + 1);
    }
}

}  // namespace

struct BlockExports::Server {
    NbdServer nbd;
    std::string key;     // what -nbd called its address; empty: QMP's
    TaskScope removals;  // of its exports
    bool stopping = false;

    Server(AioContext& context, const NbdServerOptions& options, std::string k)
        : nbd(context, options), key(std::move(k)) {}
};

struct BlockExports::Export {
    std::string id;
    std::string node_name;
    std::string device;  // by which it was made, if it was a device
    std::shared_ptr<NbdExport> nbd;
    Server* server;
    std::vector<IOThread*> iothreads;
    bool shutting_down = false;
};

// Everything that co_add_planned() needs to know.
struct BlockExports::Plan {
    Server* server;
    std::string id;
    BlockDriverState* node;
    BlockBackend* device = nullptr;
    std::vector<std::string> iothreads = {};
    NbdExportOptions options = {};
};

BlockExports::BlockExports(BlockGraph& graph, UserObjects& objects, QmpServer& qmp)
    : graph_(graph), objects_(objects), qmp_(qmp) {}

BlockExports::~BlockExports() = default;

BlockExports::Export* BlockExports::find(std::string_view id) const {
    for (const auto& e : exports_)
        if (e->id == id)
            return e.get();
    return nullptr;
}

// --- servers ---

Task<Result<void>> BlockExports::co_start_server(NbdServerStartOptions options) {
    auto guard = co_await changing_.co_lock();
    if (qmp_server_)
        co_return fail("NBD server already running");
    auto address = options.addr.address();
    if (!address)
        co_return std::unexpected(std::move(address.error()));
    auto server =
        std::make_unique<Server>(graph_.main_context(),
                                 NbdServerOptions{.max_connections = options.max_connections,
                                                  .handshake_timeout_ns = options.handshake_max_seconds * kSecond},
                                 "");
    if (auto listening = server->nbd.listen(*address); !listening)
        co_return listening;
    qmp_server_ = server.get();
    servers_.push_back(std::move(server));
    co_return Result<void>();
}

Task<Result<void>> BlockExports::co_stop_server() {
    auto guard = co_await changing_.co_lock();
    if (!qmp_server_)
        co_return fail("NBD server not running");
    Server& server = *qmp_server_;
    qmp_server_ = nullptr;
    co_return co_await co_stop_one(server);
}

Task<Result<void>> BlockExports::co_stop_one(Server& server) {
    std::vector<std::shared_ptr<Export>> served;
    for (const auto& e : exports_)
        if (e->server == &server) {
            e->shutting_down = true;
            served.push_back(e);
        }
    Result<void> stopped = co_await server.nbd.co_stop();
    co_await server.removals.join();
    for (const auto& e : served)
        finish(e);
    servers_.remove_if([&](const auto& s) { return s.get() == &server; });
    co_return stopped;
}

Task<Result<void>> BlockExports::co_stop() {
    auto guard = co_await changing_.co_lock();
    qmp_server_ = nullptr;
    Result<void> result;
    while (!servers_.empty()) {
        auto stopped = co_await co_stop_one(*servers_.front());
        if (result && !stopped)
            result = std::move(stopped);
    }
    co_return result;
}

// --- adding ---

Task<Result<void>> BlockExports::co_add_planned(Plan plan) {
    if (!is_valid_id(plan.id))
        co_return std::unexpected(Error{fmt::format("Invalid block export id '{}'", plan.id)}.with_hint(
            "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter."));
    if (find(plan.id))
        co_return fail("Block export id '{}' is already in use", plan.id);
    if (plan.server->nbd.find_export(plan.options.name))
        co_return fail("NBD server already has export named '{}'", plan.options.name);

    if (plan.options.writable && plan.node->is_read_only())
        co_return fail("Cannot export read-only node '{}' as writable",
                       plan.device ? plan.device->name() : plan.node->node_name());
    auto exported = std::make_shared<Export>();
    exported->id = std::move(plan.id);
    exported->node_name = plan.node->node_name();
    exported->device = plan.device ? plan.device->name() : "";
    exported->server = plan.server;
    Result<void> done;
    for (const std::string& id : plan.iothreads) {
        auto thread = objects_.use_iothread(id);
        if (!thread) {
            done = std::unexpected(std::move(thread.error()));
            break;
        }
        exported->iothreads.push_back(*thread);
        plan.options.contexts.push_back(&(*thread)->context());
    }
    if (plan.server->nbd.options().max_connections == 1)
        plan.options.multi_conn = false;
    if (done) {
        auto nbd = co_await NbdExport::co_create(std::move(plan.options), graph_, *plan.node);
        if (nbd) {
            exported->nbd = *nbd;
            report_errors(*exported);
            done = plan.server->nbd.add_export(std::move(*nbd));
            if (!done)
                (void)co_await exported->nbd->co_close();
        } else {
            done = std::unexpected(std::move(nbd.error()));
        }
    }
    if (!done) {
        for (IOThread* thread : exported->iothreads)
            objects_.release(*thread);
        co_return done;
    }
    exports_.push_front(exported);
    if (plan.device)
        co_return co_await co_follow_throttle(*plan.device);
    co_return done;
}

// BLOCK_IO_ERROR for what fails; the client of the export gets the error as well.
void BlockExports::report_errors(Export& exported) {
    auto hook = [this, id = exported.id, device = exported.device, node = exported.node_name](bool is_write,
                                                                                              int error) {
        qmp_.emit(kBlockIoError,
                  {.device = device,
                   .node_name = node,
                   .operation = is_write ? IoErrorOperation::Write : IoErrorOperation::Read,
                   .action = IoErrorAction::Report,
                   .nospace = error == -ENOSPC,
                   .reason = std::strerror(-error)},
                  id);
    };
    exported.nbd->backend().set_error_hook(hook);
}

Task<Result<void>> BlockExports::co_add(BlockExportOptions options) {
    auto guard = co_await changing_.co_lock();
    if (!qmp_server_)
        co_return fail("NBD server not running");
    BlockDriverState* node = graph_.find_node(options.node_name);
    if (!node)
        co_return fail("Cannot find device='' nor node-name='{}'", options.node_name);
    Plan plan{.server = qmp_server_, .id = std::move(options.id), .node = node};
    if (options.iothread)
        plan.iothreads = split_ids(*options.iothread);
    plan.options = {.name = options.nbd.name.value_or(options.node_name),
                    .description = std::move(options.nbd.description),
                    .writable = options.writable,
                    .writethrough = options.writethrough,
                    .allocation_depth = options.nbd.allocation_depth};
    for (const BitmapRef& bitmap : options.nbd.bitmaps)
        plan.options.bitmaps.push_back(bitmap.get());
    co_return co_await co_add_planned(std::move(plan));
}

Task<Result<void>> BlockExports::co_add_device(NbdServerAddOptions options) {
    auto guard = co_await changing_.co_lock();
    if (!qmp_server_)
        co_return fail("NBD server not running");
    auto node = graph_.find_device_or_node(options.device);
    if (!node)
        co_return std::unexpected(std::move(node.error()));
    std::string name = options.name.value_or(options.device);
    Plan plan{.server = qmp_server_, .id = name, .node = *node, .device = graph_.find_backend(options.device)};
    // As in QEMU, what cannot be written is exported read-only all the same.
    plan.options = {.name = std::move(name),
                    .description = std::move(options.description),
                    .writable = options.writable && !(*node)->is_read_only()};
    if (options.bitmap)
        plan.options.bitmaps.push_back({.name = *options.bitmap});
    co_return co_await co_add_planned(std::move(plan));
}

Task<Result<void>> BlockExports::co_add_nbd(NbdArgument argument) {
    auto guard = co_await changing_.co_lock();
    if (!argument.drive) {
        std::vector<std::string> drives;
        for (BlockBackend* backend : graph_.backends())
            drives.push_back(backend->name());
        for (BlockDriverState* node : graph_.nodes())
            if (node->is_monitor_owned())
                drives.push_back(node->node_name());
        if (drives.size() != 1)
            co_return drives.empty() ? fail("there is no -drive or -blockdev to export")
                                     : fail("there are several drives to export: say which with drive=");
        argument.drive = drives[0];
    }
    auto node = graph_.find_device_or_node(*argument.drive);
    if (!node)
        co_return std::unexpected(std::move(node.error()));
    BlockBackend* device = graph_.find_backend(*argument.drive);

    std::string key = to_string(argument.address);
    auto it = std::find_if(servers_.begin(), servers_.end(), [&](const auto& s) { return s->key == key; });
    Server* server = it == servers_.end() ? nullptr : it->get();
    if (server && (argument.max_connections || argument.handshake_limit))
        co_return fail("max-connections and handshake-limit belong to the first -nbd of an address");
    if (!server) {
        NbdServerOptions limits{.max_connections = argument.max_connections.value_or(0)};
        if (argument.handshake_limit)
            limits.handshake_timeout_ns = *argument.handshake_limit * kSecond;
        auto made = std::make_unique<Server>(graph_.main_context(), limits, key);
        if (auto listening = made->nbd.listen(argument.address); !listening)
            co_return listening;
        server = servers_.emplace_back(std::move(made)).get();
    }
    Plan plan{.server = server, .id = fmt::format("nbd{}", next_id_++), .node = *node, .device = device};
    if (argument.iothread)
        plan.iothreads = split_ids(*argument.iothread);
    plan.options = {.name = std::move(argument.name),
                    .description = std::move(argument.description),
                    .writable = argument.writable,
                    .writethrough = argument.writethrough.value_or(device && !device->write_cache()),
                    .allocation_depth = argument.allocation_depth,
                    .bitmaps = std::move(argument.bitmaps)};
    co_return co_await co_add_planned(std::move(plan));
}

Task<Result<void>> BlockExports::co_follow_throttle(BlockBackend& device) {
    auto group = throttle_group_of(device);
    auto limits = group ? ThrottleLimits::from_config(group->config()) : ThrottleLimits{};
    std::optional<std::string> name;
    if (group)
        name = group->name();
    std::vector<std::shared_ptr<Export>> of_device;
    for (const auto& e : exports_)
        if (!device.name().empty() && e->device == device.name() && !e->shutting_down)
            of_device.push_back(e);
    for (const auto& e : of_device)
        if (auto done = co_await co_set_io_throttle(e->nbd->backend(), limits, name, device.name()); !done)
            co_return done;
    co_return Result<void>();
}

// --- removing ---

Result<void> BlockExports::remove(std::string_view id, ExportRemoveMode mode) {
    auto it = std::find_if(exports_.begin(), exports_.end(), [&](const auto& e) { return e->id == id; });
    if (it == exports_.end())
        return fail("Export '{}' is not found", id);
    std::shared_ptr<Export> exported = *it;
    if (exported->shutting_down)
        return fail("Export '{}' is already shutting down", id);
    if (mode == ExportRemoveMode::Safe && exported->server->nbd.connections_of(*exported->nbd) > 0)
        return std::unexpected(
            Error{fmt::format("export '{}' still in use", id)}.with_hint("Use mode='hard' to force client disconnect"));
    exported->shutting_down = true;
    exported->server->removals.spawn(co_remove(exported));
    return {};
}

Task<void> BlockExports::co_remove(std::shared_ptr<Export> exported) {
    // An error of the last flush has no client any more that could be told; the log of the block layer has it.
    (void)co_await exported->server->nbd.co_remove_export(exported->nbd->name());
    finish(exported);
}

void BlockExports::finish(const std::shared_ptr<Export>& exported) {
    auto it = std::find(exports_.begin(), exports_.end(), exported);
    if (it == exports_.end())
        return;
    exports_.erase(it);
    for (IOThread* thread : exported->iothreads)
        objects_.release(*thread);
    qmp_.emit(kBlockExportDeleted, {exported->id});
}

// --- what there is ---

std::vector<BlockExportInfo> BlockExports::query() const {
    std::vector<BlockExportInfo> list;
    for (const auto& e : exports_)
        list.push_back({e->id, ExportType::Nbd, e->node_name, e->shutting_down});
    return list;
}

std::vector<std::pair<std::string, BlockBackend*>> BlockExports::backends() const {
    std::vector<std::pair<std::string, BlockBackend*>> list;
    for (const auto& e : exports_)
        if (!e->shutting_down)
            list.emplace_back(e->id, &e->nbd->backend());
    return list;
}

std::vector<std::string> BlockExports::describe(bool verbose) const {
    std::vector<std::string> lines;
    for (auto it = exports_.rbegin(); it != exports_.rend(); ++it) {
        const Export& e = **it;
        BlockBackend& backend = e.nbd->backend();
        for (const SocketAddress& address : e.server->nbd.addresses()) {
            std::string line = fmt::format("{} ({}, {}) at {}", e.device.empty() ? e.node_name : e.device,
                                           format_size(static_cast<uint64_t>(std::max<int64_t>(backend.length(), 0))),
                                           e.nbd->is_writable() ? "writable" : "read-only",
                                           nbd::to_string(nbd::Uri{address, e.nbd->name()}));
            if (verbose) {
                line += fmt::format(", id {}, node {}", e.id, e.node_name);
                for (const IOThread* thread : e.iothreads)
                    line += fmt::format(", iothread {}", thread->id());
            }
            lines.push_back(std::move(line));
        }
    }
    return lines;
}

}  // namespace ashlar
