// NbdConnection: one client, from accept to close.
//
// co_run() starts and ends in the server's home context; between it runs in context(). stop() is called in context().
// Shared by the server's list and by whoever is about to stop it, so that it outlives both.
#pragma once

#include <memory>

#include "nbd/export.h"
#include "nbd/server.h"
#include "nbd/transmission.h"
#include "util/socket.h"

namespace ashlar {

namespace nbd {
class Negotiation;
}

class NbdConnection {
public:
    NbdConnection(NbdServer& server, UniqueFd socket);
    ~NbdConnection();

    Task<void> co_run();
    void stop();

    // In the home context.
    AioContext& context() const { return *context_; }
    const NbdExport* exported() const;  // null before one is chosen
    bool was_served() const { return exported_ != nullptr; }

private:
    Task<bool> co_negotiate(nbd::TransmissionSettings& settings);
    Task<void> co_transmit(nbd::TransmissionSettings settings);

    NbdServer& server_;
    Socket socket_;
    AioContext* context_;
    std::shared_ptr<NbdExport> exported_;
    nbd::Negotiation* negotiation_ = nullptr;    // while it runs
    nbd::Transmission* transmission_ = nullptr;  // while it runs
    bool stopped_ = false;                       // of context()
};

}  // namespace ashlar
