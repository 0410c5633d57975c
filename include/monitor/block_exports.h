// BlockExports: the exports of a program by id, and the NBD servers that they are served by.
//
// One server belongs to QMP (nbd-server-start); -nbd has one for each address. Main context. co_stop() ends before it
// is destroyed.
#pragma once

#include "block/block_graph.h"
#include "monitor/export_options.h"
#include "monitor/qmp_server.h"
#include "monitor/user_objects.h"
#include "nbd/server.h"

#include <list>
#include <memory>

namespace ashlar {

class BlockExports {
public:
    BlockExports(BlockGraph& graph, UserObjects& objects, QmpServer& qmp);
    ~BlockExports();
    BlockExports(const BlockExports&) = delete;

    // --- QMP's server ---
    [[nodiscard]] Task<Result<void>> co_start_server(NbdServerStartOptions options);
    [[nodiscard]] Task<Result<void>> co_stop_server();

    // --- exports ---
    [[nodiscard]] Task<Result<void>> co_add(BlockExportOptions options);          // by QMP's server
    [[nodiscard]] Task<Result<void>> co_add_device(NbdServerAddOptions options);  // nbd-server-add
    [[nodiscard]] Task<Result<void>> co_add_nbd(NbdArgument argument);            // -nbd
    // Returns before the export is gone: BLOCK_EXPORT_DELETED says when.
    Result<void> remove(std::string_view id, ExportRemoveMode mode);
    std::vector<BlockExportInfo> query() const;                           // the newest first
    std::vector<std::pair<std::string, BlockBackend*>> backends() const;  // by id
    // A line for each export and address, for a person.
    std::vector<std::string> describe(bool verbose) const;

    // After the limits of this device have been changed: gives them to its exports.
    [[nodiscard]] Task<Result<void>> co_follow_throttle(BlockBackend& device);

    [[nodiscard]] Task<Result<void>> co_stop();

private:
    struct Server;
    struct Export;
    struct Plan;

    [[nodiscard]] Task<Result<void>> co_add_planned(Plan plan);
    [[nodiscard]] Task<Result<void>> co_stop_one(Server& server);
    [[nodiscard]] Task<void> co_remove(std::shared_ptr<Export> exported);
    void report_errors(Export& exported);
    void finish(const std::shared_ptr<Export>& exported);
    Export* find(std::string_view id) const;

    BlockGraph& graph_;
    UserObjects& objects_;
    QmpServer& qmp_;
    std::list<std::unique_ptr<Server>> servers_;
    Server* qmp_server_ = nullptr;  // one of servers_
    std::list<std::shared_ptr<Export>> exports_;
    CoMutex changing_;  // one export or server at a time is added or stopped
    unsigned next_id_ = 0;
};

}  // namespace ashlar
