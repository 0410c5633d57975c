// QmpClient: a client of a QmpServer: the coroutine that receives commands and executes them one after the other, the
// one that sends, and the queue between them. In the main context.
//
// A client that does not read costs a bounded amount of memory: over kReplyBacklog bytes in its queue no more commands
// are taken from it, and an event that comes over kEventBacklog ends the connection, because a client that lost events
// without knowing would go on with a wrong picture.
#pragma once

#include "monitor/qmp_channel.h"
#include "monitor/qmp_session.h"
#include "util/co_event.h"

#include <string>

namespace ashlar {

class QmpClient {
public:
    static constexpr size_t kReplyBacklog = size_t{1} << 20;
    static constexpr size_t kEventBacklog = size_t{4} << 20;

    QmpClient(QmpChannel channel, const QmpCommands& commands, bool pretty);

    [[nodiscard]] Task<void> run();  // until the client is gone, or finish()
    void send_event(const Json& event);
    void finish();  // after the command that is being executed: sends what is queued, and ends
    void cancel();  // ends now, except for the command that is being executed

private:
    Task<void> receive_co();
    Task<void> send_co();
    void send(const Json& message);
    bool ending() const { return finishing_ || failed_; }

    QmpChannel channel_;
    QmpSession session_;
    bool pretty_;
    std::string queue_;
    size_t sending_ = 0;  // bytes that the sender took and has not sent yet
    CoEvent wake_sender_;
    CoEvent drained_;  // the queue is below kReplyBacklog
    bool finishing_ = false;
    bool failed_ = false;
    bool received_all_ = false;
};

}  // namespace ashlar
