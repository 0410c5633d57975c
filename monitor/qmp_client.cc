#include "monitor/qmp_client.h"

#include "util/json.h"
#include "util/json_stream.h"
#include "util/log.h"
#include "util/task_scope.h"

#include <array>

namespace ashlar {

QmpClient::QmpClient(QmpChannel channel, const QmpCommands& commands, bool pretty)
    : channel_(std::move(channel)), session_(commands), pretty_(pretty) {}

Task<void> QmpClient::run() {
    TaskScope scope;
    send(QmpSession::greeting());
    scope.spawn(send_co());
    co_await receive_co();
    received_all_ = true;
    wake_sender_.set();
    co_await scope.join();
}

Task<void> QmpClient::receive_co() {
    JsonStream stream;
    std::array<std::byte, 4096> buffer;
    while (!ending()) {
        int got = co_await channel_.read(buffer);
        if (got <= 0)
            co_return;
        stream.feed({reinterpret_cast<const char*>(buffer.data()), static_cast<size_t>(got)});
        while (auto request = stream.next()) {
            if (!*request)
                log(LogItem::GuestErrors, "QMP client: {}", request->error().message);
            send(co_await session_.execute(std::move(*request)));
            if (queue_.size() + sending_ >= kReplyBacklog) {
                drained_.reset();
                co_await drained_.wait();
            }
            co_await co_yield_now();  // many small commands must not keep the others waiting
            if (ending())
                co_return;
        }
    }
}

Task<void> QmpClient::send_co() {
    while (!failed_) {
        if (queue_.empty()) {
            if (received_all_)
                co_return;
            wake_sender_.reset();
            co_await wake_sender_.wait();
            continue;
        }
        std::string text = std::move(queue_);
        queue_.clear();
        sending_ = text.size();
        int sent = co_await channel_.write(text);
        sending_ = 0;
        if (sent < 0)
            cancel();
        if (queue_.size() < kReplyBacklog)
            drained_.set();
    }
}

void QmpClient::send(const Json& message) {
    if (failed_)
        return;
    queue_ += pretty_ ? dump_json_pretty(message) : dump_json(message);
    queue_ += "\r\n";
    wake_sender_.set();
}

void QmpClient::send_event(const Json& event) {
    if (!session_.negotiated() || failed_)
        return;
    if (queue_.size() + sending_ >= kEventBacklog) {
        log(LogItem::GuestErrors, "QMP client: does not read its replies: disconnected");
        cancel();
        return;
    }
    send(event);
}

void QmpClient::finish() {
    finishing_ = true;
    channel_.stop_reading();
}

void QmpClient::cancel() {
    failed_ = true;
    queue_.clear();
    channel_.cancel();
    wake_sender_.set();
    drained_.set();
}

}  // namespace ashlar
