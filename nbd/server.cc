#include "nbd/server.h"

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "nbd/connection.h"
#include "util/socket.h"
#include "util/timer.h"

namespace ashlar {

namespace {

// After accept() failed for want of descriptors or memory.
constexpr int64_t kAcceptRetryNs = 100'000'000;

}  // namespace

class NbdServer::Listener {
public:
    Listener(UniqueFd fd, std::string unlink_path) : socket(std::move(fd)), path_(std::move(unlink_path)) {}
    ~Listener() {
        if (!path_.empty())
            unlink(path_.c_str());
    }

    Socket socket;

private:
    std::string path_;
};

NbdServer::NbdServer(AioContext& home, NbdServerOptions options) : home_(home), options_(options) {}

NbdServer::~NbdServer() {
    assert(connections_.empty() && listeners_.empty());
}

Result<> NbdServer::listen(const SocketAddress& address) {
    auto sockets = listen_on(address);
    if (!sockets)
        return std::unexpected(std::move(sockets).error());
    const auto* un = std::get_if<UnixAddress>(&address);
    for (UniqueFd& fd : *sockets) {
        listeners_.push_back(std::make_unique<Listener>(std::move(fd), un && !un->abstract ? un->path : std::string()));
        scope_.spawn_on(home_, co_accept(*listeners_.back()));
    }
    return {};
}

void NbdServer::listen(std::vector<UniqueFd> sockets) {
    for (UniqueFd& fd : sockets) {
        listeners_.push_back(std::make_unique<Listener>(std::move(fd), std::string()));
        scope_.spawn_on(home_, co_accept(*listeners_.back()));
    }
}

std::vector<SocketAddress> NbdServer::addresses() const {
    std::vector<SocketAddress> result;
    for (const auto& listener : listeners_)
        if (auto address = local_address(listener->socket.fd()))
            result.push_back(std::move(*address));
    return result;
}

Task<void> NbdServer::co_accept(Listener& listener) {
    while (!stopping_) {
        if (options_.max_connections > 0 && connections_.size() >= options_.max_connections) {
            co_await gone_.wait();
            continue;
        }
        int fd = co_await listener.socket.accept();
        if (fd >= 0 && options_.max_connections > 0 && connections_.size() >= options_.max_connections) {
            // Another listener has taken the last place meanwhile: this client waits for the next one.
            UniqueFd waiting(fd);
            while (!stopping_ && connections_.size() >= options_.max_connections)
                co_await gone_.wait();
            fd = waiting.release();
        }
        if (fd >= 0 && !stopping_)
            add_connection(UniqueFd(fd));
        else if (fd >= 0)
            UniqueFd refused(fd);
        else if (fd == -ECANCELED)
            break;
        else
            co_await co_sleep(kAcceptRetryNs);
    }
}

void NbdServer::add_connection(UniqueFd socket) {
    auto connection = std::make_shared<NbdConnection>(*this, std::move(socket));
    connections_.push_back(connection);
    scope_.spawn_on(home_, co_serve(std::move(connection)));
    if (stopping_)
        stop_connection(connections_.back());
}

Task<void> NbdServer::co_serve(std::shared_ptr<NbdConnection> connection) {
    co_await connection->co_run();
    bool served = connection->was_served();
    std::erase(connections_, connection);
    connection.reset();
    gone_.pulse();
    if (served && on_client_gone_)
        on_client_gone_();
}

Result<> NbdServer::add_export(std::shared_ptr<NbdExport> exported) {
    auto [it, inserted] = exports_.try_emplace(exported->name(), exported);
    if (!inserted)
        return fail("NBD server already has export named '{}'", exported->name());
    return {};
}

std::shared_ptr<NbdExport> NbdServer::find_export(const std::string& name) const {
    auto it = exports_.find(name);
    return it == exports_.end() ? nullptr : it->second;
}

size_t NbdServer::connections_of(const NbdExport& exported) const {
    return static_cast<size_t>(std::ranges::count_if(
        connections_, [&](const auto& connection) { return connection->exported() == &exported; }));
}

// Starts in the home context, where the connection cannot change its context meanwhile; lets go of it there too.
Task<void> NbdServer::co_stop_connection(std::shared_ptr<NbdConnection> parameter) {
    auto connection = std::move(parameter);
    co_await switch_to(connection->context());
    connection->stop();
    co_await switch_to(home_);
}

void NbdServer::stop_connection(std::shared_ptr<NbdConnection> connection) {
    scope_.spawn(co_stop_connection(std::move(connection)));
}

Task<Result<void>> NbdServer::co_remove_export(std::string name) {
    co_await switch_to(home_);
    auto node = exports_.extract(name);
    if (!node)
        co_return fail("Export '{}' is not found", name);
    std::shared_ptr<NbdExport> exported = std::move(node.mapped());
    for (const auto& connection : connections_)
        if (connection->exported() == exported.get())
            stop_connection(connection);
    while (connections_of(*exported) > 0)
        co_await gone_.wait();
    co_return co_await exported->co_close();
}

Task<Result<void>> NbdServer::co_stop() {
    co_await switch_to(home_);
    stopping_ = true;
    gone_.pulse();  // accept loops that wait for a place
    for (const auto& listener : listeners_)
        listener->socket.cancel();
    for (const auto& connection : connections_)
        stop_connection(connection);
    co_await scope_.join();
    listeners_.clear();
    Result<void> result;
    for (auto& [name, exported] : exports_)
        if (auto closed = co_await exported->co_close(); !closed && result)
            result = std::move(closed);
    exports_.clear();
    co_return result;
}

}  // namespace ashlar
