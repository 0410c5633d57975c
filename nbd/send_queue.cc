#include "nbd/send_queue.h"

#include <sys/socket.h>

#include <utility>

#include "util/trace.h"

namespace ashlar::nbd {

void SendQueue::push(ServerRequest& request) {
    request.next = nullptr;
    *tail_ = &request;
    tail_ = &request.next;
    wake_.pulse();
}

void SendQueue::push_paged(ServerRequest& request) {
    request.header_size = 0;
    if (!paged_)
        paged_ = &request;
    paged_replies_++;
    push(request);
}

void SendQueue::close() {
    closed_ = true;
    wake_.pulse();
}

void SendQueue::stop_reading_when_idle() {
    stopping_ = true;
    stop_reading_if_idle();
}

void SendQueue::stop_reading_if_idle() {
    if (stopping_ && pool_.in_use() == 0)
        ::shutdown(socket_.fd(), SHUT_RD);
}

void SendQueue::gather(const ServerRequest& request) {
    if (request.chunks) {
        iov_.insert(iov_.end(), request.chunks->iov.begin(), request.chunks->iov.end());
        return;
    }
    if (request.header_size > 0)  // otherwise it is among the pages
        iov_.push_back({const_cast<std::byte*>(request.header.data()), request.header_size});
    if (request.sends_data)
        iov_.push_back(request.data_iov);
}

// One gathered send, interrupted by what is not copied.
Task<int> SendQueue::co_send_batch(ServerRequest* batch) {
    iov_.clear();
    for (ServerRequest* r = batch; r; r = r->next) {
        const bool paged = r->pages.size() > 0;
        if (!paged)
            gather(*r);
        if (!iov_.empty() && (paged || !r->next)) {
            trace_nbd_send(&socket_, iov_.size());
            if (int ret = co_await socket_.send_all(iov_); ret < 0)
                co_return ret;
            iov_.clear();
        }
        if (paged) {
            trace_nbd_send_pages(&socket_, r->pages.size());
            if (int ret = co_await socket_.send_pages(r->pages); ret < 0)
                co_return ret;
        }
    }
    co_return 0;
}

Task<void> SendQueue::co_send() {
    for (;;) {
        while (!head_ && !(closed_ && pool_.in_use() == 0))
            co_await wake_.wait();
        ServerRequest* batch = std::exchange(head_, nullptr);
        tail_ = &head_;
        paged_ = nullptr;
        paged_replies_ = 0;
        if (!batch)
            co_return;
        if (!broken_) {
            if (co_await co_send_batch(batch) < 0) {
                broken_ = true;
                socket_.shutdown();
            }
        }
        while (batch)
            pool_.give_back(*std::exchange(batch, batch->next));
        stop_reading_if_idle();
    }
}

}  // namespace ashlar::nbd
