// ServerRequest and RequestPool: the requests of one connection that are being served, from header to sent reply.
//
// A request is the Completion of its own I/O, the owner of its data, and the reply in the making; it comes from the
// pool's free list, so that serving one allocates nothing once the list has grown to the client's queue depth. The pool
// bounds how many there are and how many bytes of data they hold: the receiver takes no request that the pool does not
// admit, which is the back-pressure on a client that does not read its replies. All in the connection's AioContext.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "nbd/reply.h"
#include "nbd/request.h"
#include "util/buffer_pool.h"
#include "util/co_event.h"
#include "util/completion.h"
#include "util/gate.h"
#include "util/page_pipe.h"

namespace ashlar::nbd {

class Transmission;

// A reply of several chunks: the bytes of all headers, and where everything is.
struct ChunkedReply {
    std::vector<std::byte> headers;  // not resized once `iov` points into it
    std::vector<iovec> iov;
};

struct ServerRequest : Completion {
    Transmission* transmission = nullptr;
    ServerRequest* next = nullptr;  // in the free list or in the send queue
    Request wire;
    Buffer data;           // a write's payload, or what a read has read
    iovec data_iov{};      // the data as the backend and the socket see it
    uint32_t charged = 0;  // bytes of the pool's budget
    uint32_t header_size = 0;
    std::array<std::byte, kMaxErrorReply> header;
    bool sends_data = false;               // data_iov follows the header
    std::unique_ptr<ChunkedReply> chunks;  // instead of header and data
    PagePipe pages;                        // instead of header and data, if it is not empty
    std::optional<Gate::Pass> mapped;      // data_iov is in a map, where it stays while this is held

    Reply reply(HeaderStyle style) const { return {style, wire.cookie, wire.offset}; }
    // False: there is no memory.
    [[nodiscard]] bool allocate(size_t bytes);
};

class RequestPool {
public:
    RequestPool(unsigned max_requests, uint64_t max_bytes) : max_requests_(max_requests), max_bytes_(max_bytes) {}
    ~RequestPool();
    RequestPool(const RequestPool&) = delete;

    // A request larger than the whole budget is admitted when it is alone.
    bool admits(uint64_t bytes) const {
        return in_use_ < max_requests_ && (bytes_ == 0 || bytes == 0 || bytes_ + bytes <= max_bytes_);
    }
    CoEvent& room() { return room_; }  // pulsed when requests or bytes become free

    ServerRequest& take(uint32_t bytes);
    void give_back(ServerRequest& request);
    void free_data(ServerRequest& request);  // its data is no longer needed, the request is

    unsigned in_use() const { return in_use_; }
    uint64_t bytes() const { return bytes_; }

private:
    static constexpr unsigned kMaxFree = 128;  // that an idle connection keeps: some 40 KiB

    unsigned max_requests_;
    uint64_t max_bytes_;
    unsigned in_use_ = 0;
    uint64_t bytes_ = 0;
    unsigned free_count_ = 0;
    ServerRequest* free_ = nullptr;
    CoEvent room_;
    PagePipe::Keeper pipes_;
};

}  // namespace ashlar::nbd
