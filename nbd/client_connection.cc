#include "nbd/client_connection.h"

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "nbd/input_buffer.h"
#include "util/task_scope.h"

namespace ashlar::nbd {

ReadCoverage::Verdict ReadCoverage::add(uint64_t begin, uint64_t end) {
    if (begin < prefix_)
        return Verdict::Overlaps;
    auto next = std::ranges::lower_bound(pieces_, begin, {}, &Piece::begin);
    if (next != pieces_.end() && next->begin < end)
        return Verdict::Overlaps;
    if (next != pieces_.begin() && std::prev(next)->end > begin)
        return Verdict::Overlaps;

    bytes_ += end - begin;
    const bool joins_next = next != pieces_.end() && next->begin == end;
    if (begin == prefix_) {
        prefix_ = joins_next ? next->end : end;
        if (joins_next)
            pieces_.erase(next);
        return Verdict::New;
    }
    const bool joins_last = next != pieces_.begin() && std::prev(next)->end == begin;
    if (joins_last && joins_next) {
        std::prev(next)->end = next->end;
        pieces_.erase(next);
    } else if (joins_last) {
        std::prev(next)->end = end;
    } else if (joins_next) {
        next->begin = begin;
    } else {
        if (pieces_.size() == kMaxPieces)
            return Verdict::TooScattered;
        pieces_.insert(next, {begin, end});
    }
    return Verdict::New;
}

ClientConnection::ClientConnection(Socket socket, HeaderStyle style, std::optional<uint32_t> context_id)
    : socket_(std::move(socket)), style_(style), context_id_(context_id), input_(std::make_unique<InputBuffer>()) {
    static_assert(kMaxInFlight == 256, "a slot's number is a byte of the cookie");
    for (unsigned i = kMaxInFlight; i-- > 0;)
        free_slots_.push_back(static_cast<uint8_t>(i));
}

ClientConnection::~ClientConnection() {
    assert(load_ == 0);
}

void ClientConnection::submit(ClientRequest& request) {
    request.connection = this;
    request.result = 0;
    request.extent = {};
    request.next_ = nullptr;
    request.sending_ = request.answered_ = request.has_extent_ = false;
    request.errors_ = 0;
    request.coverage_ = {};
    *tail_ = &request;
    tail_ = &request.next_;
    ++load_;
    wake_.pulse();
}

Task<Error> ClientConnection::co_run() {
    TaskScope scope;
    scope.spawn(co_send());
    auto received = co_await co_receive();
    ended_ = true;
    socket_.shutdown();
    wake_.pulse();
    co_await scope.join();
    if (send_error_ < 0 && send_error_ != -EPIPE && received.error().code != 0)
        co_return fail_errno(-send_error_, "the connection to the NBD server is broken").error();
    co_return std::move(received.error());
}

std::vector<ClientRequest*> ClientConnection::take_lost() {
    assert(ended_);
    std::vector<ClientRequest*> lost;
    for (Slot& slot : slots_)
        if (slot.request)
            lost.push_back(std::exchange(slot.request, nullptr));
    // In the order in which they were made: the guest need not notice.
    std::ranges::sort(lost, {}, [](const ClientRequest* request) { return request->wire.cookie >> 8; });
    for (; head_; head_ = head_->next_)
        lost.push_back(head_);
    tail_ = &head_;
    load_ = 0;
    return lost;
}

void ClientConnection::disconnect() {
    if (ended_)
        return;
    assert(load_ == 0);
    std::byte header[kExtendedRequestSize];
    build_request(header, {.type = kCmdDisc}, style_);
    // The server hangs up at the end of the stream too, if it does not read this.
    (void)::send(socket_.fd(), header, request_header_size(style_), MSG_DONTWAIT | MSG_NOSIGNAL);
    socket_.shutdown();
}

void ClientConnection::complete(ClientRequest& request) {
    Slot& slot = slots_[request.slot_];
    assert(slot.request == &request);
    slot.request = nullptr;
    free_slots_.push_back(static_cast<uint8_t>(request.slot_));
    --load_;
    if (head_)
        wake_.pulse();
    request.done(request);
}

// --- the sender ---

void ClientConnection::gather(ClientRequest& request) {
    if (style_ == HeaderStyle::Extended && request.wire.type == kCmdWrite)
        request.wire.flags |= kCmdFlagPayloadLen;
    std::byte* header = headers_.emplace_back().data();
    build_request(header, request.wire, style_);
    iov_.push_back({header, request_header_size(style_)});
    if (request.wire.type == kCmdWrite)
        iov_.insert(iov_.end(), request.data.begin(), request.data.end());
}

Task<void> ClientConnection::co_send() {
    headers_.reserve(kMaxInFlight);  // the vector refers to them
    for (;;) {
        while (!ended_ && !(head_ && !free_slots_.empty()))
            co_await wake_.wait();
        if (ended_)
            co_return;

        headers_.clear();
        iov_.clear();
        batch_.clear();
        uint64_t payload = 0;
        while (head_ && !free_slots_.empty()) {
            ClientRequest& request = *head_;
            const uint64_t more = request.wire.type == kCmdWrite ? request.wire.length : 0;
            if (more > 0 && payload + more > kMaxBatch && !batch_.empty())
                break;
            payload += more;
            head_ = request.next_;
            if (!head_)
                tail_ = &head_;
            request.slot_ = free_slots_.back();
            free_slots_.pop_back();
            request.wire.cookie = ++sequence_ << 8 | request.slot_;
            request.sending_ = true;
            slots_[request.slot_] = {&request, request.wire.cookie};
            batch_.push_back(&request);
            gather(request);
        }
        int ret = co_await socket_.send_all(iov_);
        for (ClientRequest* request : batch_) {
            request->sending_ = false;
            if (request->answered_)
                complete(*request);
        }
        if (ret < 0) {
            send_error_ = ret;
            socket_.shutdown();  // for the receiver
            co_return;
        }
    }
}

}  // namespace ashlar::nbd
