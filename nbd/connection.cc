#include "nbd/connection.h"

#include <sys/socket.h>

#include "nbd/negotiation.h"
#include "util/timer.h"
#include "util/trace.h"

namespace ashlar {

NbdConnection::NbdConnection(NbdServer& server, UniqueFd socket)
    : server_(server), socket_(std::move(socket)), context_(&server.home()) {
    prepare_for_requests(socket_.fd());
    if (trace_enabled(TraceEvent::nbd_accept)) {
        auto peer = peer_address(socket_.fd());
        trace_nbd_accept(&socket_, peer ? to_string(*peer).c_str() : "unknown");
    }
}

NbdConnection::~NbdConnection() = default;

const NbdExport* NbdConnection::exported() const {
    if (exported_)
        return exported_.get();
    return negotiation_ ? negotiation_->chosen() : nullptr;
}

Task<void> NbdConnection::co_run() {
    nbd::TransmissionSettings settings;
    if (co_await co_negotiate(settings)) {
        co_await switch_to(*context_);
        co_await co_transmit(std::move(settings));
        co_await switch_to(server_.home());
    }
    socket_.shutdown();
}

Task<bool> NbdConnection::co_negotiate(nbd::TransmissionSettings& settings) {
    nbd::ShutdownTimer deadline(*context_, socket_);
    if (int64_t timeout = server_.options().handshake_timeout_ns; timeout > 0)
        deadline.arm(now_ns() + timeout);
    nbd::Negotiation negotiation(server_, socket_);
    negotiation_ = &negotiation;
    auto outcome = co_await negotiation.co_run();
    negotiation_ = nullptr;
    if (!outcome || stopped_) {
        trace_nbd_disconnect(&socket_, stopped_ ? "stopped" : "the handshake ended without an export");
        co_return false;
    }
    exported_ = std::move(outcome->exported);
    settings = std::move(outcome->settings);
    trace_nbd_negotiated(&socket_, exported_->name().c_str(), settings.limits.flags);
    context_ = &exported_->next_context(server_.home());
    co_return true;
}

Task<void> NbdConnection::co_transmit(nbd::TransmissionSettings settings) {
    nbd::Transmission transmission(socket_, *exported_, std::move(settings));
    transmission_ = &transmission;
    if (stopped_)
        transmission.stop();
    co_await transmission.co_run();
    transmission_ = nullptr;
}

void NbdConnection::stop() {
    stopped_ = true;
    if (transmission_) {
        transmission_->stop();
    } else if (socket_) {
        if (negotiation_)
            negotiation_->stop();
        ::shutdown(socket_.fd(), SHUT_RD);  // what has arrived is still answered
    }
}

}  // namespace ashlar
