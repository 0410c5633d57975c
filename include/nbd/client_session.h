// ClientSession: one export of an NBD server, over one connection or several, for any number of requests.
//
// Opened and closed in one AioContext, its home, which is where the connections live and which outlives it. Requests
// may be made from any context, at any time, by coroutines; each goes over the connection that has the least to do.
// Results are 0 or a negative errno.
//
// A connection that is lost is made anew, for ever, if the server is still the same (size, flags, block sizes, metadata
// context). The requests that it had, and those that are made while there is no connection at all, wait for it for
// `reconnect_delay_ns` and are then repeated, or fail with EIO. A server that breaks the protocol, or has become
// another, is not called again: the requests fail, unless another connection is left.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "nbd/client.h"
#include "nbd/client_connection.h"
#include "util/aio_context.h"
#include "util/task_scope.h"
#include "util/timer.h"

namespace ashlar::nbd {

struct SessionOptions {
    static constexpr unsigned kMaxConnections = 16;

    std::string name;  // in messages
    SocketAddress address;
    std::string export_name;
    std::string context;                          // the metadata context that co_block_status() asks for
    int64_t reconnect_delay_ns = 0;               // 0: requests that lose their connection fail
    int64_t open_timeout_ns = 0;                  // 0: one attempt to connect
    int64_t handshake_limit_ns = 60'000'000'000;  // of one attempt
    unsigned connections = 1;                     // more than one if the server promises CAN_MULTI_CONN
};

class ClientSession {
public:
    [[nodiscard]] static Task<Result<std::unique_ptr<ClientSession>>> co_open(SessionOptions options);
    ~ClientSession();  // after co_close()
    ClientSession(const ClientSession&) = delete;

    // No request is under way. Does not wait for the server.
    [[nodiscard]] Task<void> co_close();

    // As negotiated at first; any context.
    HeaderStyle style() const { return style_; }
    const ExportDetails& details() const { return details_; }
    bool has_flag(uint16_t transmission_flag) const { return details_.info.flags & transmission_flag; }
    bool has_context() const { return !details_.contexts.empty(); }

    // `data` describes `length` bytes, for READ and WRITE; empty for all others.
    [[nodiscard]] Task<int> co_request(uint16_t command, uint16_t flags, uint64_t offset, uint64_t length,
                                       std::span<const iovec> data = {});
    struct Status {
        int ret = 0;
        Extent extent;
    };
    [[nodiscard]] Task<Status> co_block_status(uint64_t offset, uint64_t length);  // of the first piece

    unsigned connected() const { return connected_; }  // home context

private:
    struct Line;
    struct Pending;
    struct Submission;
    struct Clock;

    explicit ClientSession(SessionOptions options);

    void post(Pending& request);  // any context
    void take_posted();
    void dispatch(Pending& request);
    void retry(Pending& request, int error);
    void answered(Pending& request);
    static void finish(Pending& request, int result);

    [[nodiscard]] Task<Result<Entered>> co_enter_once(Line& line, int64_t limit_ns);
    [[nodiscard]] Task<Result<Entered>> co_enter_first(Line& line);
    [[nodiscard]] Task<void> co_keep(Line& line);
    [[nodiscard]] Task<bool> co_reconnect(Line& line);
    Result<> check_same(const Entered& entered) const;
    void use(Line& line, const Entered& entered);
    void lost(Line& line, const Error& why);
    void hold_if_none_is_left();
    void give_up_waiting();

    const SessionOptions options_;
    AioContext& home_;
    HeaderStyle style_ = HeaderStyle::Simple;
    ExportDetails details_;

    // The home context's.
    std::vector<std::unique_ptr<Line>> lines_;  // one for each connection
    unsigned connected_ = 0;
    unsigned kept_ = 0;     // lines that are connected, or try to be
    bool holding_ = false;  // requests wait although there is no connection
    bool closing_ = false;
    std::vector<Pending*> waiting_;
    std::unique_ptr<Clock> hold_timer_;
    TaskScope scope_;

    // From other contexts.
    std::mutex posted_lock_;
    std::vector<Pending*> posted_;
    BottomHalf posted_bh_;
};

}  // namespace ashlar::nbd
