#include "tools/io/async_request.h"

#include <fmt/core.h>

#include <cstring>

namespace ashlar {

void AsyncRequest::done(Completion& completion) {
    std::unique_ptr<AsyncRequest> self(static_cast<AsyncRequest*>(&completion));
    IoStatistics& statistics = self->statistics;
    statistics.end_ns = now_ns();
    self->shell.request_ends();
    if (self->ret < 0) {
        fmt::print("{} failed: {}\n", self->what, strerror(-self->ret));
        return;
    }
    if (self->pattern && !self->buffer->is_all(*self->pattern, 0, statistics.bytes))
        fmt::print("Pattern verification failed at offset {}, {} bytes\n", statistics.offset, statistics.bytes);
    if (self->quiet)
        return;
    if (self->verbose)
        fmt::print("{}", format_dump(self->buffer->data(), statistics.offset));
    fmt::print("{}", format_statistics(statistics));
}

}  // namespace ashlar
