// Transmission: the second phase of a connection. receive.cc takes requests in, dispatch.cc submits them and turns what
// came of them into replies, sparse_read.cc and block_status.cc do what needs more than one call of the backend.
//
// Lives in the frame of NbdConnection::run; made, used and destroyed in one AioContext. co_run() ends when the client
// has disconnected or the connection is broken, every request has finished, and every reply was sent or dropped.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "nbd/export.h"
#include "nbd/input_buffer.h"
#include "nbd/request.h"
#include "nbd/send_queue.h"
#include "nbd/server_request.h"
#include "util/socket.h"
#include "util/task_scope.h"
#include "util/timer.h"

namespace ashlar::nbd {

// The metadata contexts that this server knows, and their ids on the wire: from kContextFirstBitmap on the export's
// bitmaps.
enum ContextId : uint32_t { kContextBaseAllocation = 0, kContextAllocationDepth = 1, kContextFirstBitmap = 2 };

// What negotiation has settled.
struct TransmissionSettings {
    ExportLimits limits;
    std::vector<uint32_t> contexts;  // ids of the selected metadata contexts
    unsigned max_requests = 0;
    uint64_t max_bytes = 0;
    int64_t stop_timeout_ns = 0;
};

// Bounds on the answer to a BLOCK_STATUS: a client asks again for what is beyond.
inline constexpr size_t kMaxExtents = 1024;  // for each context, or fewer if there are more than two
inline constexpr uint32_t kMaxBlockStatusMemory = 64u << 10;

// Shuts the socket down when it fires.
struct ShutdownTimer : Timer {
    Socket& socket;
    ShutdownTimer(AioContext& context, Socket& s)
        : Timer(context, [](Timer& self) { static_cast<ShutdownTimer&>(self).socket.shutdown(); }), socket(s) {}
};

class Transmission {
public:
    Transmission(Socket& socket, NbdExport& exported, TransmissionSettings settings);

    Task<void> co_run();

    // New requests get ESHUTDOWN from now on; when those under way have been answered the connection ends.
    void stop();

private:
    struct Piece {  // of a read: `length` bytes of data, or of zeroes
        uint64_t offset = 0;
        uint64_t length = 0;
        bool zero = false;
    };

    // receive.cc
    Task<const char*> co_receive();  // until it ends: why
    Task<bool> co_receive_payload(ServerRequest& request);
    Task<size_t> co_receive_large(std::span<std::byte> to);
    Task<bool> co_receive_status_payload(ServerRequest& request);
    Task<bool> co_drain(uint64_t bytes);
    Refusal judge(const Request& wire) const;

    // dispatch.cc
    void dispatch(ServerRequest& request);
    void submit_read(ServerRequest& request);
    bool read_pages(ServerRequest& request);
    bool read_mapped(ServerRequest& request);
    void build_read_header(ServerRequest& request);
    void finish(ServerRequest& request, int ret);
    void refuse(ServerRequest& request, ErrorValue error, std::string_view message);
    static void on_done(Completion& completion);
    static void on_discarded(Completion& completion);

    // sparse_read.cc
    bool may_be_sparse(const ServerRequest& request) const;
    void forget_known_data() { known_data_end_ = 0; }  // the client makes holes
    Task<void> co_sparse_read(ServerRequest& request);
    Task<int> co_find_pieces(uint64_t offset, uint64_t length, std::vector<Piece>& pieces);
    void send_pieces(ServerRequest& request, std::span<const Piece> pieces);

    // block_status.cc
    Task<void> co_block_status(ServerRequest& request, std::vector<uint32_t> contexts);

    Socket& socket_;
    BlockBackend& backend_;
    std::vector<std::shared_ptr<DirtyBitmap>> bitmaps_;
    ExportLimits limits_;
    std::vector<uint32_t> contexts_;
    RequestPool pool_;
    SendQueue queue_;
    InputBuffer input_;
    TaskScope scope_;
    ShutdownTimer linger_;
    // A range that block status last said was all data: reading it needs no further question. It may have become sparse
    // since; then it is read as data, which is right, if not the shortest.
    uint64_t known_data_begin_ = 0;
    uint64_t known_data_end_ = 0;
    size_t unsubmitted_ = 0;  // bytes of large payloads since the receiver has last let the loop go on
    int64_t stop_timeout_ns_;
    bool stopping_ = false;
};

}  // namespace ashlar::nbd
