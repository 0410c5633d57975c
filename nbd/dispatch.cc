// Dispatch: valid requests to the backend, and what came of them to replies. Nothing here suspends or allocates, but
// for the buffer of a read, which comes from the thread's cache.
#include <cerrno>
#include <cstring>

#include "nbd/transmission.h"
#include "util/trace.h"

namespace ashlar::nbd {

namespace {

// A read of so many bytes is worth the system calls that it takes not to copy it.
constexpr uint64_t kMinPaged = 32u << 10;

RequestFlags write_flags(uint16_t flags) {
    return flags & kCmdFlagFua ? RequestFlags::Fua : RequestFlags::None;
}

RequestFlags zero_flags(uint16_t flags) {
    RequestFlags result = write_flags(flags);
    if (!(flags & kCmdFlagNoHole))
        result |= RequestFlags::MayUnmap;
    if (flags & kCmdFlagFastZero)
        result |= RequestFlags::NoFallback;
    return result;
}

}  // namespace

void Transmission::dispatch(ServerRequest& request) {
    const Request& wire = request.wire;
    request.fn = on_done;
    auto offset = static_cast<int64_t>(wire.offset);
    auto length = static_cast<int64_t>(wire.length);
    if (length == 0 && wire.type != kCmdFlush)
        return finish(request, 0);
    switch (wire.type) {
        case kCmdRead:
            if (may_be_sparse(request))
                scope_.spawn(co_sparse_read(request));
            else
                submit_read(request);
            break;
        case kCmdWrite:
            backend_.aio_pwritev(offset, length, IoVector(request.data_iov), write_flags(wire.flags), request);
            break;
        case kCmdFlush:
            backend_.aio_flush(request);
            break;
        case kCmdTrim:
            forget_known_data();
            request.fn = wire.flags & kCmdFlagFua ? on_discarded : on_done;
            backend_.aio_pdiscard(offset, length, request);
            break;
        case kCmdCache:
            // Success may be said before all of it is cached: what is beyond one large read is left to the client's
            // reads.
            backend_.aio_preadv(offset, std::min<int64_t>(length, kMaxPayload), {}, RequestFlags::Prefetch, request);
            break;
        case kCmdWriteZeroes:
            forget_known_data();
            backend_.aio_pwrite_zeroes(offset, length, zero_flags(wire.flags), request);
            break;
        case kCmdBlockStatus:
            scope_.spawn(co_block_status(request, contexts_));
            break;
    }
}

void Transmission::build_read_header(ServerRequest& request) {
    const Request& wire = request.wire;
    request.header_size =
        static_cast<uint32_t>(build_data_header(request.header.data(), request.reply(limits_.style), kReplyFlagDone,
                                                wire.offset, static_cast<uint32_t>(wire.length)));
}

// Answers a large read at once, without copying, if that can be done.
bool Transmission::read_pages(ServerRequest& request) {
    const Request& wire = request.wire;
    if (wire.length < kMinPaged)
        return false;
    build_read_header(request);
    request.pages.set_head(std::as_bytes(std::span(request.header)).first(request.header_size));
    if (!backend_.try_read_pages(static_cast<int64_t>(wire.offset), static_cast<int64_t>(wire.length), request.pages)) {
        request.pages.reset();
        return false;
    }
    trace_nbd_reply(&socket_, wire.cookie, 0);
    queue_.push(request);
    return true;
}

// The same of a small read, which is copied once: from a map of the image to the socket.
bool Transmission::read_mapped(ServerRequest& request) {
    const Request& wire = request.wire;
    if (wire.length >= kMinPaged || queue_.is_sending())
        return false;
    const std::byte* data =
        backend_.try_map(static_cast<int64_t>(wire.offset), static_cast<int64_t>(wire.length), request.mapped);
    if (!data)
        return false;
    request.data_iov = {const_cast<std::byte*>(data), wire.length};
    request.sends_data = true;
    build_read_header(request);
    trace_nbd_map_read(&socket_, wire.cookie);
    trace_nbd_reply(&socket_, wire.cookie, 0);
    queue_.push(request);
    return true;
}

void Transmission::submit_read(ServerRequest& request) {
    if (read_pages(request) || read_mapped(request))
        return;
    if (!request.allocate(request.wire.length))
        return refuse(request, kENoMem, "there is no memory for the data");
    request.fn = on_done;
    backend_.aio_preadv(static_cast<int64_t>(request.wire.offset), static_cast<int64_t>(request.wire.length),
                        IoVector(request.data_iov), RequestFlags::None, request);
}

void Transmission::on_done(Completion& completion) {
    auto& request = static_cast<ServerRequest&>(completion);
    request.transmission->finish(request, request.ret);
}

// The first half of a TRIM with FUA: what it discarded is to be on stable storage too.
void Transmission::on_discarded(Completion& completion) {
    auto& request = static_cast<ServerRequest&>(completion);
    if (request.ret < 0)
        return on_done(completion);
    request.fn = on_done;
    request.transmission->backend_.aio_flush(request);
}

void Transmission::finish(ServerRequest& request, int ret) {
    const Request& wire = request.wire;
    if (ret < 0) {
        bool fast_zero = wire.type == kCmdWriteZeroes && (wire.flags & kCmdFlagFastZero);
        return refuse(request, error_from_errno(-ret, fast_zero), strerrordesc_np(-ret));
    }
    trace_nbd_reply(&socket_, wire.cookie, 0);
    if (wire.type == kCmdRead && wire.length > 0) {
        request.sends_data = true;
        build_read_header(request);
    } else {
        if (request.data)
            pool_.free_data(request);
        request.header_size = static_cast<uint32_t>(
            build_success(request.header.data(), request.reply(limits_.style), wire.type == kCmdRead));
    }
    queue_.push(request);
}

void Transmission::refuse(ServerRequest& request, ErrorValue error, std::string_view message) {
    trace_nbd_reply(&socket_, request.wire.cookie, -errno_from_error(error));
    pool_.free_data(request);
    request.header_size =
        static_cast<uint32_t>(build_error(request.header.data(), request.reply(limits_.style), error, message));
    queue_.push(request);
}

}  // namespace ashlar::nbd
