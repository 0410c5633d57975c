// The client's side of the handshake: connecting, listing exports, and entering the transmission phase.
//
// Coroutines over a Socket that the caller owns and keeps alive; they suspend in the caller's AioContext. A server that
// breaks the protocol, or sends more than the limits below, gets an Error; the socket is then of no further use. Errors
// of a server that it may make sense to try again (it cannot be reached, has gone, or refuses) have a code; those of
// one that breaks the protocol have none.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "nbd/handshake.h"
#include "nbd/protocol.h"
#include "util/error.h"
#include "util/socket.h"
#include "util/socket_address.h"
#include "util/task.h"

namespace ashlar::nbd {

inline constexpr uint32_t kMaxOptionReply = 64u << 10;  // bytes in one reply of the server
inline constexpr size_t kMaxListed = 1u << 16;          // exports, or contexts of one export
inline constexpr size_t kMaxInfos = 1024;               // informations about one export

struct MetaContext {
    uint32_t id = 0;
    std::string name;
};

struct ExportDetails {
    std::string name;  // the server's canonical one, if it sent that
    std::string description;
    ExportInfo info;
    // Unset: the server sent none, the protocol's defaults hold. After co_enter they make sense: the minimum is a power
    // of two of at most 64 KiB that divides the size, and the maximum a multiple of it.
    std::optional<BlockSizes> block_sizes;
    std::vector<MetaContext> contexts;  // selected ones after co_enter, available ones from co_list
};

struct EnterOptions {
    std::string export_name;
    bool structured = true;  // what to ask for; the server may not have it
    bool extended = true;
    std::vector<std::string> contexts;  // metadata contexts to select
};

struct Entered {
    HeaderStyle style = HeaderStyle::Simple;
    ExportDetails details;
};

// A connection in the making, which another coroutine of the same AioContext may give up: what is done with `socket`
// then soon fails.
struct ConnectionAttempt {
    Socket socket;
    bool given_up = false;

    void give_up() {
        given_up = true;
        socket.cancel();
    }
};
[[nodiscard]] Task<Result<>> co_connect(ConnectionAttempt& attempt, SocketAddress address);
[[nodiscard]] Task<Result<Socket>> co_connect(SocketAddress address);

// Over a fresh connection. On success the transmission phase has begun.
[[nodiscard]] Task<Result<Entered>> co_enter(Socket& socket, EnterOptions options);

// Over a fresh connection, which it ends with NBD_OPT_ABORT: every export, each with what INFO and LIST_META_CONTEXT
// say of it. An export whose details the server refuses is listed with its name, a size of 0 and no flags.
[[nodiscard]] Task<Result<std::vector<ExportDetails>>> co_list(Socket& socket);

}  // namespace ashlar::nbd
