// SendQueue: the replies that wait to be sent, and the one coroutine that writes the socket.
//
// push() is for completion callbacks and coroutines of the connection's AioContext; it never suspends. The sender takes
// the whole queue and sends it with one gathered send, then gives the requests back to the pool; it runs in the turn
// after the one in which it was woken, so that every reply that became ready meanwhile goes out with it.
#pragma once

#include <vector>

#include "nbd/server_request.h"
#include "util/co_event.h"
#include "util/socket.h"
#include "util/task.h"

namespace ashlar::nbd {

class SendQueue {
public:
    SendQueue(Socket& socket, RequestPool& pool) : socket_(socket), pool_(pool) {}

    void push(ServerRequest& request);

    // Where a reply goes that is not copied; if that succeeds it is pushed next, by push_paged().
    PagePipe& pages_for(ServerRequest& request) { return (paged_ ? *paged_ : request).pages; }
    void push_paged(ServerRequest& request);
    // Enough waits of what the peer has yet to copy: it should begin while the next replies are made.
    bool wants_to_send() const { return paged_replies_ >= kManyPaged; }

    // No further requests will be taken from the pool: the sender ends when all that are out have been sent.
    void close();

    // Nothing is to be received any more once there is no request to answer.
    void stop_reading_when_idle();

    // Runs until close(). When the peer is gone what is left is dropped, and the socket shut down for the receiver.
    Task<void> co_send();

private:
    static constexpr unsigned kManyPaged = 8;

    void gather(const ServerRequest& request);
    Task<int> co_send_batch(ServerRequest* batch);
    void stop_reading_if_idle();

    Socket& socket_;
    RequestPool& pool_;
    ServerRequest* head_ = nullptr;
    ServerRequest** tail_ = &head_;
    ServerRequest* paged_ = nullptr;  // the one of the queue that has the pages
    unsigned paged_replies_ = 0;
    CoEvent wake_;
    std::vector<iovec> iov_;
    bool closed_ = false;
    bool broken_ = false;
    bool stopping_ = false;
};

}  // namespace ashlar::nbd
