// NbdServer: listens, and serves exports to NBD clients.
//
// Made, used and destroyed in its home AioContext; co_stop() ends before it is destroyed. Negotiation runs in the home
// context; then a connection moves to the context that its export chooses for it, and back when it has ended. Export
// names, connections and limits are the home context's alone, so none of this has a lock.
//
// A client costs at most: one handshake of limited time and memory; then `max_requests` requests and `max_bytes` bytes
// of data (one request larger than that is served alone). One who does not read or send costs no more than that, and
// nobody else anything.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "nbd/export.h"
#include "util/aio_context.h"
#include "util/co_event.h"
#include "util/error.h"
#include "util/socket_address.h"
#include "util/task.h"
#include "util/task_scope.h"

namespace ashlar {

class NbdConnection;

struct NbdServerOptions {
    unsigned max_connections = 0;                   // further ones wait in the listener's backlog; 0: no limit
    int64_t handshake_timeout_ns = 10'000'000'000;  // from accept to the transmission phase; 0: no limit
    int64_t stop_timeout_ns = 5'000'000'000;        // for a client to take its last replies when we stop
    unsigned max_requests = 256;                    // under way, of one connection
    uint64_t max_bytes = 8u << 20;                  // of data that these hold
};

class NbdServer {
public:
    NbdServer(AioContext& home, NbdServerOptions options);
    ~NbdServer();
    NbdServer(const NbdServer&) = delete;

    // Any number of times. A Unix socket's file is removed when the server stops.
    Result<> listen(const SocketAddress& address);
    // Listens with sockets that something else has bound (systemd's); they are in listening state.
    void listen(std::vector<UniqueFd> sockets);
    // As they are bound: with the port that the kernel chose.
    std::vector<SocketAddress> addresses() const;

    // Serves one connected socket.
    void add_connection(UniqueFd socket);

    // Fails if the name is taken.
    Result<> add_export(std::shared_ptr<NbdExport> exported);
    std::shared_ptr<NbdExport> find_export(const std::string& name) const;  // null: there is none
    const std::map<std::string, std::shared_ptr<NbdExport>>& exports() const { return exports_; }
    // New clients no longer find it. Those that use it are disconnected, after their outstanding requests were
    // answered; suspends until they are gone, and closes it. An error is one of closing: it is gone all the same.
    [[nodiscard]] Task<Result<void>> co_remove_export(std::string name);

    // Stops listening, lets every connection end as for co_remove_export, suspends until the last has, and closes the
    // exports. An error is one of closing.
    [[nodiscard]] Task<Result<void>> co_stop();
    bool is_stopping() const { return stopping_; }

    size_t connections() const { return connections_.size(); }
    size_t connections_of(const NbdExport& exported) const;
    // Called in the home context, outside of any coroutine of the connection, when one has ended that had entered the
    // transmission phase.
    void on_client_gone(std::function<void()> callback) { on_client_gone_ = std::move(callback); }

    AioContext& home() const { return home_; }
    const NbdServerOptions& options() const { return options_; }

private:
    friend class NbdConnection;
    class Listener;

    Task<void> co_accept(Listener& listener);
    Task<void> co_serve(std::shared_ptr<NbdConnection> connection);
    Task<void> co_stop_connection(std::shared_ptr<NbdConnection> connection);
    void stop_connection(std::shared_ptr<NbdConnection> connection);

    AioContext& home_;
    NbdServerOptions options_;
    std::map<std::string, std::shared_ptr<NbdExport>> exports_;
    std::vector<std::unique_ptr<Listener>> listeners_;
    std::vector<std::shared_ptr<NbdConnection>> connections_;
    TaskScope scope_;
    CoEvent gone_;  // a connection has ended
    std::function<void()> on_client_gone_;
    bool stopping_ = false;
};

}  // namespace ashlar
