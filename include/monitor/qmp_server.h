// QmpServer: the QMP clients of a program, however many, and the events that they all get.
//
// Made, used and stopped in the main context, except that emit() may be called from any thread. stop() is awaited
// before it is destroyed. Each client executes its commands one at a time, in order; commands of several clients may
// be interleaved where they suspend.
#pragma once

#include "monitor/qmp_commands.h"
#include "util/task_scope.h"
#include "util/unique_fd.h"

#include <list>
#include <memory>
#include <mutex>

namespace ashlar {

class CoEvent;
class QmpChannel;
class QmpClient;
class Socket;

class QmpServer {
public:
    QmpServer(AioContext& context, const QmpCommands& commands);
    ~QmpServer();

    // Serves who connects; `connected`, if given, is set when the first one has.
    void listen(std::vector<UniqueFd> sockets, bool pretty = false, CoEvent* connected = nullptr);
    void serve(UniqueFd socket, bool pretty = false);  // a connected one
    void serve(UniqueFd input, UniqueFd output, bool pretty);  // what can be polled, or files
    void serve_stdio(bool pretty = false);
    unsigned clients() const { return static_cast<unsigned>(clients_.size()); }

    // No more clients and commands; what is queued is sent, for up to a second.
    [[nodiscard]] Task<void> stop();

    // Tells all clients that have negotiated. Rate limiting is apart for each `similar`: the name of a device, say.
    template <class Data>
    void emit(const QmpEvent<Data>& event, const Data& data, std::string_view similar = {}) {
        post({std::string(event.name), box_json([&](Json& out) { OptionTraits<Data>::write(data, out); }),
              event.rate_limited, std::string(similar), 0});
    }

private:
    struct Event {
        std::string name;
        JsonBox data;
        bool rate_limited;
        std::string similar;
        int64_t realtime_us;
    };
    struct Limiter;

    void post(Event event);
    void take_posted();
    void admit(Event event);
    void deliver(const Event& event);
    Task<void> accept_co(UniqueFd socket, bool pretty, CoEvent* connected);
    Task<void> serve_co(QmpChannel channel, bool pretty);

    AioContext& context_;
    const QmpCommands& commands_;
    std::list<QmpClient*> clients_;
    std::list<Socket*> listeners_;
    std::list<Limiter> limiters_;
    TaskScope scope_;
    bool stopping_ = false;

    std::mutex lock_;
    std::vector<Event> posted_;  // by other threads, under lock_
    BottomHalf take_posted_;
};

}  // namespace ashlar
