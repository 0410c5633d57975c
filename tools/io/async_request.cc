#include "tools/io/async_request.h"

namespace ashlar {

void AsyncRequest::done(Completion& completion) {
    std::unique_ptr<AsyncRequest> self(static_cast<AsyncRequest*>(&completion));
    self->report.statistics.end_ns = now_ns();
    self->shell.request_ends();
    self->report.finish(self->what, self->ret, self->buffer ? &*self->buffer : nullptr);
}

}  // namespace ashlar
