// ClientConnection: the client's side of one connection in the transmission phase.
//
// Made from a socket over which co_enter() has succeeded; everything is called in one AioContext, the connection's
// home. co_run() is two coroutines, as in the server: one reads replies and completes the requests that they answer, by
// their cookies; the other takes all requests that wait and sends them with one gathered send. Any number of requests
// may be submitted; at most kMaxInFlight are with the server at a time.
//
// The server is not trusted: whatever it says is checked against the request that it answers, takes a bounded amount of
// memory, and ends the connection with an Error that names it if it is wrong.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "nbd/client.h"
#include "nbd/reply.h"
#include "nbd/request.h"
#include "util/co_event.h"
#include "util/error.h"
#include "util/socket.h"
#include "util/task.h"

namespace ashlar::nbd {

class ClientConnection;
class InputBuffer;

// Which bytes of a read have arrived. Takes memory for what comes out of order only, and a bounded amount.
class ReadCoverage {
public:
    enum class Verdict : uint8_t { New, Overlaps, TooScattered };
    static constexpr size_t kMaxPieces = 1024;

    Verdict add(uint64_t begin, uint64_t end);  // not empty
    uint64_t bytes() const { return bytes_; }

private:
    struct Piece {
        uint64_t begin, end;
    };
    uint64_t prefix_ = 0;        // [0, prefix_) is there
    std::vector<Piece> pieces_;  // and these: sorted, disjoint, not adjacent, behind prefix_
    uint64_t bytes_ = 0;
};

// One request; owned by who submits it, with the memory that `data` describes, and left alone until `done` is called.
struct ClientRequest {
    Request wire;                 // but for the cookie, and PAYLOAD_LEN
    std::span<const iovec> data;  // WRITE: what to send; READ: where to; wire.length bytes
    void (*done)(ClientRequest&) = nullptr;

    // When `done` is called:
    int result = 0;                          // 0 or a negative errno: what the server answered
    Extent extent;                           // BLOCK_STATUS: the first one
    ClientConnection* connection = nullptr;  // that it was answered on

private:
    friend class ClientConnection;
    ClientRequest* next_ = nullptr;
    unsigned slot_ = 0;
    bool sending_ = false;   // the sender uses its memory
    bool answered_ = false;  // to be completed when the sender has finished
    unsigned errors_ = 0;    // error chunks
    bool has_extent_ = false;
    ReadCoverage coverage_;
};

class ClientConnection {
public:
    static constexpr unsigned kMaxInFlight = 256;
    static constexpr size_t kMaxBatch = 1u << 20;         // bytes of payload in one send, if not of one request
    static constexpr unsigned kMaxErrorChunks = 1024;     // of one request
    static constexpr size_t kMaxSmallPayload = 8u << 10;  // of a chunk that holds no data

    // `context_id`: the metadata context whose status is asked for.
    ClientConnection(Socket socket, HeaderStyle style, std::optional<uint32_t> context_id);
    ~ClientConnection();

    // Never calls `done` before it returns.
    void submit(ClientRequest& request);
    unsigned load() const { return load_; }  // requests submitted and not yet completed

    // Runs until the connection has come to its end, and says why: an Error with a code if it was lost, without one if
    // the server broke the protocol. Nobody touches the memory of a request then: those that have not been completed
    // are given back by take_lost(), linked by nothing.
    [[nodiscard]] Task<Error> co_run();
    std::vector<ClientRequest*> take_lost();

    // Nothing is under way, and nothing will be submitted any more: says good-bye and ends. Does not wait for the
    // server.
    void disconnect();

private:
    struct Slot {
        ClientRequest* request = nullptr;
        uint64_t cookie = 0;
    };

    // The sender.
    [[nodiscard]] Task<void> co_send();
    void gather(ClientRequest& request);

    // The receiver. A Result that has failed ends the connection.
    [[nodiscard]] Task<Result<>> co_receive();
    [[nodiscard]] Task<Result<>> co_fill(size_t bytes, const char* what);
    [[nodiscard]] Task<Result<>> co_simple_reply(ClientRequest& request, ReplyHeader header);
    [[nodiscard]] Task<Result<>> co_chunk(ClientRequest& request, ReplyHeader header);
    [[nodiscard]] Task<Result<>> co_data(ClientRequest& request, uint64_t position, uint64_t length);
    [[nodiscard]] Result<> cover(ClientRequest& request, uint64_t offset, uint64_t length, const char* what);
    [[nodiscard]] Result<> take_hole(ClientRequest& request, Bytes payload);
    [[nodiscard]] Result<> take_status(ClientRequest& request, Bytes payload, uint16_t type);
    [[nodiscard]] Result<> take_error(ClientRequest& request, Bytes payload, uint16_t type);
    [[nodiscard]] Result<> finish(ClientRequest& request);
    std::unexpected<Error> closed(int ret, const char* what) const;
    void complete(ClientRequest& request);

    Socket socket_;
    const HeaderStyle style_;
    const std::optional<uint32_t> context_id_;

    std::array<Slot, kMaxInFlight> slots_;
    std::vector<uint8_t> free_slots_;
    uint64_t sequence_ = 0;
    unsigned load_ = 0;
    bool ended_ = false;

    // Those that wait to be sent.
    ClientRequest* head_ = nullptr;
    ClientRequest** tail_ = &head_;
    CoEvent wake_;
    std::vector<iovec> iov_;
    std::vector<std::array<std::byte, kExtendedRequestSize>> headers_;
    std::vector<ClientRequest*> batch_;
    int send_error_ = 0;

    std::unique_ptr<InputBuffer> input_;
};

}  // namespace ashlar::nbd
