// Negotiation: the handshake phase of one connection, from the greeting to the chosen export.
//
// In the server's home context. co_run() ends with an export and the settings for the transmission phase, or with none:
// then the connection is to be closed. Memory is bounded by kMaxOptionLength, and taken only as the data arrives.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nbd/handshake.h"
#include "nbd/server.h"
#include "nbd/transmission.h"
#include "util/socket.h"

namespace ashlar::nbd {

class Negotiation {
public:
    struct Outcome {
        std::shared_ptr<NbdExport> exported;
        TransmissionSettings settings;
    };

    Negotiation(NbdServer& server, Socket& socket) : server_(server), socket_(socket) {}

    Task<std::optional<Outcome>> co_run();

    // The export that the transmission phase is about to be entered with; null: none yet.
    const NbdExport* chosen() const { return outcome_ ? outcome_->exported.get() : nullptr; }

    // Further options but ABORT are refused: the server is shutting down.
    void stop() { stopping_ = true; }

private:
    enum class Next { Option, Transmission, Close };

    Task<Next> co_option();
    Task<bool> co_read_data(uint32_t length, std::vector<std::byte>& data);
    Task<bool> co_discard(uint32_t length);
    Task<bool> co_send(std::vector<std::byte> out);

    // Each appends its replies to `out`.
    Next handle(uint32_t option, Bytes data, std::vector<std::byte>& out);
    Next handle_export_name(Bytes data, std::vector<std::byte>& out);
    Next handle_info(uint32_t option, Bytes data, std::vector<std::byte>& out);
    void handle_list(Bytes data, std::vector<std::byte>& out);
    void handle_style(uint32_t option, Bytes data, std::vector<std::byte>& out);
    void handle_meta_context(uint32_t option, Bytes data, std::vector<std::byte>& out);
    void choose(std::shared_ptr<NbdExport> exported, bool block_sizes_agreed);
    bool has_contexts_for(const NbdExport& exported) const;

    NbdServer& server_;
    Socket& socket_;
    ClientFlags client_;
    HeaderStyle style_ = HeaderStyle::Simple;
    std::string context_export_;  // the export that the contexts were selected of
    std::vector<uint32_t> contexts_;
    std::optional<Outcome> outcome_;
    bool stopping_ = false;
};

}  // namespace ashlar::nbd
