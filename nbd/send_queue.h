// SendQueue: the replies that wait to be sent, and the one coroutine that writes the socket.
//
// push() is for completion callbacks and coroutines of the connection's AioContext; it never suspends. The sender takes
// the whole queue and sends it with one gathered send, then gives the requests back to the pool; it runs in the turn
// after the one in which it was woken, so that every reply that became ready meanwhile goes out with it.
//
// Data in a map (ServerRequest::mapped) are for a send that does not wait: what the peer does not take at once is read
// from the backend into buffers, and no pass is held when the sender suspends.
#pragma once

#include <vector>

#include "block/block_backend.h"
#include "nbd/server_request.h"
#include "util/co_event.h"
#include "util/socket.h"
#include "util/task.h"

namespace ashlar::nbd {

class SendQueue {
public:
    SendQueue(Socket& socket, RequestPool& pool, BlockBackend& backend)
        : socket_(socket), pool_(pool), backend_(backend) {}

    // Not of data in a map while is_sending(), which lasts as long as the peer likes.
    void push(ServerRequest& request);
    bool is_sending() const { return sending_; }

    // No further requests will be taken from the pool: the sender ends when all that are out have been sent.
    void close();

    // Nothing is to be received any more once there is no request to answer.
    void stop_reading_when_idle();

    // Runs until close(). When the peer is gone what is left is dropped, and the socket shut down for the receiver.
    Task<void> co_send();

private:
    void gather(const ServerRequest& request);
    Task<int> co_send_batch(ServerRequest* batch);
    Task<int> co_send_gathered(ServerRequest* batch);
    Task<int> co_send_rest(ServerRequest* batch, size_t sent);
    void stop_reading_if_idle();

    Socket& socket_;
    RequestPool& pool_;
    BlockBackend& backend_;
    ServerRequest* head_ = nullptr;
    ServerRequest** tail_ = &head_;
    CoEvent wake_;
    std::vector<iovec> iov_;
    bool sending_ = false;
    bool closed_ = false;
    bool broken_ = false;
    bool stopping_ = false;
};

}  // namespace ashlar::nbd
