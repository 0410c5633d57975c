// The receiver: bytes to requests, under the pool's limits.
#include "nbd/transmission.h"
#include "util/trace.h"

namespace ashlar::nbd {

namespace {

// A payload of up to this is waited for in the input buffer, with whatever follows it; a longer one is received where
// it is to stay.
constexpr size_t kCopiedPayload = 8u << 10;

// Of large payloads so many bytes are received at a time, if they are there, before their writes begin.
constexpr size_t kBatch = 1u << 20;

// A client that has shut down its sending side may still read its replies, but not forever.
constexpr int64_t kLingerNs = 30'000'000'000;

constexpr const char* kCutOff = "the client vanished in the middle of a request";

// What a request charges to the connection's budget of bytes: what it makes us hold until its reply is sent.
uint32_t bytes_held(const Request& wire, uint64_t payload) {
    if (wire.type == kCmdBlockStatus)
        return kMaxBlockStatusMemory;
    return static_cast<uint32_t>(wire.type == kCmdRead ? wire.length : payload);
}

}  // namespace

Transmission::Transmission(Socket& socket, NbdExport& exported, TransmissionSettings settings)
    : socket_(socket),
      backend_(exported.backend()),
      bitmaps_(exported.bitmaps().begin(), exported.bitmaps().end()),
      limits_(settings.limits),
      contexts_(std::move(settings.contexts)),
      pool_(settings.max_requests, settings.max_bytes),
      queue_(socket, pool_, backend_),
      linger_(*AioContext::current(), socket),
      stop_timeout_ns_(settings.stop_timeout_ns) {}

Task<void> Transmission::co_run() {
    scope_.spawn(queue_.co_send());
    trace_nbd_disconnect(&socket_, co_await co_receive());
    if (!linger_.armed())
        linger_.arm(now_ns() + kLingerNs);
    queue_.close();
    co_await scope_.join();
}

void Transmission::stop() {
    if (stopping_)
        return;
    stopping_ = true;
    linger_.arm(now_ns() + stop_timeout_ns_);
    queue_.stop_reading_when_idle();
}

Refusal Transmission::judge(const Request& wire) const {
    if (stopping_)
        return {kEShutdown, "the server is shutting down"};
    return validate(wire, limits_);
}

Task<const char*> Transmission::co_receive() {
    const HeaderStyle style = limits_.style;
    const size_t header_size = request_header_size(style);
    for (;;) {
        while (input_.size() < header_size) {
            const bool idle = pool_.in_use() == 0;
            // First the replies to what is done at once: then the client is awake, and has sent more.
            co_await co_next_turn();
            unsubmitted_ = 0;
            int n = co_await socket_.recv(input_.header_space(header_size, idle));
            if (n <= 0)
                co_return n < 0 ? "the connection is broken"
                : stopping_     ? "stopped"
                                : "the client closed the connection";
            input_.received(static_cast<size_t>(n));
        }
        auto wire = parse_request(input_.bytes().first(header_size), style);
        if (!wire)
            co_return "a request without magic";
        if (wire->type == kCmdDisc)
            co_return "the client disconnected";
        trace_nbd_request(&socket_, wire->cookie, wire->type, wire->flags, wire->offset, wire->length);
        input_.consume(header_size);

        uint64_t payload = payload_length(*wire, style);
        Refusal refusal = judge(*wire);
        uint32_t held = refusal ? 0 : bytes_held(*wire, payload);
        while (!pool_.admits(held))
            co_await pool_.room().wait();
        ServerRequest& request = pool_.take(held);
        request.transmission = this;
        request.wire = *wire;

        if (refusal) {
            refuse(request, refusal.error, refusal.message);
            // A payload beyond what was advertised is a denial of service in the extended style, which lets a client
            // say 2^64 - 1; in the compact one it ends at 2^32.
            if (style == HeaderStyle::Extended && payload > limits_.max_payload)
                co_return "a payload over the limit";
            if (payload > 0 && !co_await co_drain(payload))
                co_return kCutOff;
        } else if (payload == 0) {
            dispatch(request);
        } else if (wire->type == kCmdWrite) {
            if (!co_await co_receive_payload(request))
                co_return kCutOff;
        } else if (!co_await co_receive_status_payload(request)) {
            co_return kCutOff;
        }
    }
}

// Receives a write's payload and submits the write; false when the peer went away.
Task<bool> Transmission::co_receive_payload(ServerRequest& request) {
    size_t length = request.wire.length;
    if (!request.allocate(length)) {
        refuse(request, kENoMem, "there is no memory for the payload");
        co_return co_await co_drain(length);
    }
    size_t got = input_.take(request.data.span());
    if (size_t rest = length - got; rest > kCopiedPayload) {
        got += co_await co_receive_large(request.data.span().subspan(got));
    } else {
        while (got < length) {
            int n = co_await socket_.recv(input_.space(false));
            if (n <= 0)
                break;
            input_.received(static_cast<size_t>(n));
            got += input_.take(request.data.span().subspan(got));
        }
    }
    if (got < length) {
        pool_.give_back(request);  // half a write is none
        co_return false;
    }
    dispatch(request);
    co_return true;
}

// Says how much of it came before the peer went away. With it comes the header behind it, so that the next payload can
// be received at once: what several of them are written by is handed to the kernel together.
Task<size_t> Transmission::co_receive_large(std::span<std::byte> to) {
    input_.bypassed();
    const bool and_header = unsubmitted_ + to.size() < kBatch;
    size_t got = 0;
    while (got < to.size()) {
        std::span<std::byte> header = input_.next_header_space(request_header_size(limits_.style));
        if (!and_header)
            header = {};
        const iovec iov[] = {{to.data() + got, to.size() - got}, {header.data(), header.size()}};
        int n = socket_.try_recv(iov);
        if (n == -EAGAIN)
            n = co_await socket_.recv(to.subspan(got));
        if (n <= 0)
            break;
        const size_t of_this = std::min(static_cast<size_t>(n), to.size() - got);
        got += of_this;
        input_.received(static_cast<size_t>(n) - of_this);
    }
    unsubmitted_ += got;
    co_return got;
}

Task<bool> Transmission::co_receive_status_payload(ServerRequest& request) {
    size_t length = request.wire.length;
    if (length > kBlockStatusPayloadMin + contexts_.size() * sizeof(uint32_t)) {
        refuse(request, kEInval, "the payload lists more metadata contexts than were negotiated");
        co_return co_await co_drain(length);
    }
    while (input_.size() < length) {
        int n = co_await socket_.recv(input_.space(false));
        if (n <= 0) {
            pool_.give_back(request);
            co_return false;
        }
        input_.received(static_cast<size_t>(n));
    }
    auto filter = parse_block_status_payload(input_.bytes().first(length), contexts_);
    input_.consume(length);
    if (!filter) {
        refuse(request, kEInval,
               "the payload is malformed, or names a metadata context twice or one that was not negotiated");
        co_return true;
    }
    Request effective = request.wire;
    effective.flags &= ~kCmdFlagPayloadLen;
    effective.length = filter->effect_length;
    if (Refusal refusal = judge(effective)) {
        refuse(request, refusal.error, refusal.message);
        co_return true;
    }
    request.wire.length = filter->effect_length;
    scope_.spawn(co_block_status(request, std::move(filter->ids)));
    co_return true;
}

Task<bool> Transmission::co_drain(uint64_t bytes) {
    for (;;) {
        size_t n = static_cast<size_t>(std::min<uint64_t>(bytes, input_.size()));
        input_.consume(n);
        bytes -= n;
        if (bytes == 0)
            co_return true;
        int received = co_await socket_.recv(input_.space(false));
        if (received <= 0)
            co_return false;
        input_.received(static_cast<size_t>(received));
    }
}

}  // namespace ashlar::nbd
