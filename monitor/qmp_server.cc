#include "monitor/qmp_server.h"

#include "monitor/qmp_channel.h"
#include "monitor/qmp_client.h"
#include "util/json.h"
#include "util/timer.h"

#include <fcntl.h>

#include <algorithm>
#include <chrono>

namespace ashlar {

namespace {

constexpr int64_t kSecond = 1'000'000'000;

int64_t realtime_us() {
    using namespace std::chrono;
    return duration_cast<microseconds>(system_clock::now().time_since_epoch()).count();
}

}  // namespace

// After an event that is rate limited: keeps the last similar one for a second.
struct QmpServer::Limiter : Timer {
    QmpServer& server;
    std::string name;
    std::string similar;
    std::optional<Event> kept = {};

    Limiter(QmpServer& s, const Event& first)
        : Timer(s.context_, [](Timer& timer) { static_cast<Limiter&>(timer).expired(); }),
          server(s),
          name(first.name),
          similar(first.similar) {
        arm(now_ns() + kSecond);
    }

    void expired() {
        if (kept) {
            server.deliver(*kept);
            kept.reset();
            arm(now_ns() + kSecond);
            return;
        }
        server.limiters_.remove_if([this](const Limiter& other) { return &other == this; });  // *this is gone
    }
};

QmpServer::QmpServer(AioContext& context, const QmpCommands& commands)
    : context_(context),
      commands_(commands),
      take_posted_(context, [](void* self) { static_cast<QmpServer*>(self)->take_posted(); }, this) {}

QmpServer::~QmpServer() = default;

// --- clients ---

void QmpServer::listen(std::vector<UniqueFd> sockets, bool pretty, CoEvent* connected) {
    for (UniqueFd& socket : sockets)
        scope_.spawn(accept_co(std::move(socket), pretty, connected));
}

void QmpServer::serve(UniqueFd socket, bool pretty) {
    scope_.spawn(serve_co(QmpChannel(std::move(socket)), pretty));
}

void QmpServer::serve(UniqueFd input, UniqueFd output, bool pretty) {
    scope_.spawn(serve_co(QmpChannel(std::move(input), std::move(output)), pretty));
}

void QmpServer::serve_stdio(bool pretty) {
    // Copies, so that closing them does not free the numbers 0 and 1 for other files.
    serve(UniqueFd(fcntl(0, F_DUPFD_CLOEXEC, 3)), UniqueFd(fcntl(1, F_DUPFD_CLOEXEC, 3)), pretty);
}

Task<void> QmpServer::accept_co(UniqueFd fd, bool pretty, CoEvent* connected) {
    Socket socket(std::move(fd));
    listeners_.push_back(&socket);
    while (!stopping_) {
        int accepted = co_await socket.accept();
        if (accepted >= 0) {
            serve(UniqueFd(accepted), pretty);
            if (connected)
                std::exchange(connected, nullptr)->set();
        } else if (accepted != -ECANCELED && accepted != -ECONNABORTED) {
            co_await co_sleep(kSecond / 10);  // out of descriptors, most likely
        }
    }
    listeners_.remove(&socket);
}

Task<void> QmpServer::serve_co(QmpChannel channel, bool pretty) {
    if (stopping_)
        co_return;
    QmpClient client(std::move(channel), commands_, pretty);
    clients_.push_back(&client);
    co_await client.run();
    clients_.remove(&client);
}

Task<void> QmpServer::stop() {
    stopping_ = true;
    for (Limiter& limiter : limiters_)
        if (limiter.kept)
            deliver(*limiter.kept);
    limiters_.clear();
    for (Socket* listener : listeners_)
        listener->cancel();
    for (QmpClient* client : clients_)
        client->finish();
    struct Patience : Timer {
        std::list<QmpClient*>& clients;
        Patience(AioContext& context, std::list<QmpClient*>& c)
            : Timer(context,
                    [](Timer& timer) {
                        for (QmpClient* client : static_cast<Patience&>(timer).clients)
                            client->cancel();
                    }),
              clients(c) {}
    } patience(context_, clients_);
    patience.arm(now_ns() + kSecond);
    co_await scope_.join();
}

// --- events ---

void QmpServer::post(Event event) {
    event.realtime_us = realtime_us();
    if (context_.in_own_thread())
        return admit(std::move(event));
    {
        std::scoped_lock guard(lock_);
        // Of similar events that are rate limited the first and the last count, however many there are until the main
        // context comes to look.
        auto similar = [&](const Event& other) { return other.name == event.name && other.similar == event.similar; };
        auto last = std::find_if(posted_.rbegin(), posted_.rend(), similar);
        if (event.rate_limited && std::count_if(posted_.begin(), posted_.end(), similar) >= 2)
            *last = std::move(event);
        else
            posted_.push_back(std::move(event));
    }
    take_posted_.schedule();
}

void QmpServer::take_posted() {
    std::vector<Event> events;
    {
        std::scoped_lock guard(lock_);
        events.swap(posted_);
    }
    for (Event& event : events)
        admit(std::move(event));
}

void QmpServer::admit(Event event) {
    if (event.rate_limited && !stopping_) {
        auto it = std::find_if(limiters_.begin(), limiters_.end(), [&](const Limiter& limiter) {
            return limiter.name == event.name && limiter.similar == event.similar;
        });
        if (it != limiters_.end()) {
            it->kept = std::move(event);
            return;
        }
        limiters_.emplace_back(*this, event);
    }
    deliver(event);
}

void QmpServer::deliver(const Event& event) {
    constexpr int64_t kMicro = 1'000'000;
    Json message = {
        {"timestamp", {{"seconds", event.realtime_us / kMicro}, {"microseconds", event.realtime_us % kMicro}}},
        {"event", event.name}};
    if (!event.data->empty())
        message["data"] = *event.data;
    for (QmpClient* client : clients_)
        client->send_event(message);
}

}  // namespace ashlar
