// AsyncRequest: a request of aio_read or aio_write while it is in flight.
//
// Owns its memory, reports when it ends, and then frees itself.
#pragma once

#include "tools/io/report.h"
#include "tools/io/shell.h"
#include "util/completion.h"
#include "util/timer.h"

#include <memory>

namespace ashlar {

struct AsyncRequest : Completion {
    IoShell& shell;
    std::string_view what;  // has failed: "readv"
    IoReport report;
    std::optional<IoBuffer> buffer = {};

    AsyncRequest(IoShell& s, std::string_view name, IoReport r)
        : Completion{&AsyncRequest::done}, shell(s), what(name), report(std::move(r)) {}

    // From here on it frees itself; returns what aio_* wants to be given.
    static AsyncRequest& start(std::unique_ptr<AsyncRequest> request) {
        request->report.statistics.start_ns = now_ns();
        request->shell.request_begins();
        return *request.release();
    }

private:
    static void done(Completion& completion);
};

}  // namespace ashlar
