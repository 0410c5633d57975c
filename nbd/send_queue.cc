#include "nbd/send_queue.h"

#include <sys/socket.h>

#include <cerrno>
#include <span>
#include <utility>

#include "util/trace.h"

namespace ashlar::nbd {

void SendQueue::push(ServerRequest& request) {
    request.next = nullptr;
    *tail_ = &request;
    tail_ = &request.next;
    wake_.pulse();
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
    if (request.pages.size() > 0)
        return;
    if (request.chunks) {
        iov_.insert(iov_.end(), request.chunks->iov.begin(), request.chunks->iov.end());
        return;
    }
    iov_.push_back({const_cast<std::byte*>(request.header.data()), request.header_size});
    if (request.sends_data)
        iov_.push_back(request.data_iov);
}

// One gathered send, then what is not copied.
Task<int> SendQueue::co_send_batch(ServerRequest* batch) {
    if (int ret = co_await co_send_gathered(batch); ret < 0)
        co_return ret;
    for (ServerRequest* r = batch; r; r = r->next) {
        if (r->pages.size() == 0)
            continue;
        trace_nbd_send_pages(&socket_, r->pages.size());
        if (int ret = co_await socket_.send_pages(r->pages); ret < 0)
            co_return ret;
    }
    co_return 0;
}

Task<int> SendQueue::co_send_gathered(ServerRequest* batch) {
    iov_.clear();
    for (ServerRequest* r = batch; r; r = r->next)
        gather(*r);
    std::span<iovec> rest = iov_;
    size_t sent = 0;
    int n = 0;
    if (!rest.empty())
        trace_nbd_send(&socket_, rest.size());
    while (!rest.empty() && (n = socket_.try_send(rest)) >= 0) {
        rest = behind(rest, static_cast<size_t>(n));
        sent += static_cast<size_t>(n);
    }
    for (ServerRequest* r = batch; r; r = r->next)
        r->mapped.reset();
    if (n >= 0)
        co_return 0;
    co_return n == -EAGAIN || n == -EFAULT ? co_await co_send_rest(batch, sent) : n;
}

// What the peer has not taken at once, or what is no longer in the map: no map is needed for it any more.
Task<int> SendQueue::co_send_rest(ServerRequest* batch, size_t sent) {
    iov_.clear();
    size_t end = 0;
    for (ServerRequest* r = batch; r; r = r->next) {
        const size_t first = iov_.size();
        gather(*r);
        for (const iovec& piece : std::span(iov_).subspan(first))
            end += piece.iov_len;
        const bool was_mapped = r->sends_data && !r->data;
        if (!was_mapped || end <= sent)
            continue;
        const auto length = static_cast<int64_t>(r->wire.length);
        if (!r->allocate(r->wire.length))
            co_return -ENOMEM;
        iov_.back() = r->data_iov;
        if (int ret = co_await backend_.co_preadv(static_cast<int64_t>(r->wire.offset), length, IoVector(r->data_iov));
            ret < 0)
            co_return ret;
    }
    co_return co_await socket_.send_all(behind(iov_, sent));
}

Task<void> SendQueue::co_send() {
    for (;;) {
        while (!head_ && !(closed_ && pool_.in_use() == 0))
            co_await wake_.wait();
        ServerRequest* batch = std::exchange(head_, nullptr);
        tail_ = &head_;
        if (!batch)
            co_return;
        if (!broken_) {
            sending_ = true;
            if (co_await co_send_batch(batch) < 0) {
                broken_ = true;
                socket_.shutdown();
            }
            sending_ = false;
        }
        while (batch)
            pool_.give_back(*std::exchange(batch, batch->next));
        stop_reading_if_idle();
    }
}

}  // namespace ashlar::nbd
