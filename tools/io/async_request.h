// AsyncRequest: a request of aio_read or aio_write while it is in flight.
//
// Owns its memory, reports when it ends, and then frees itself.
#pragma once

#include "tools/io/buffer.h"
#include "tools/io/output.h"
#include "tools/io/shell.h"
#include "util/completion.h"
#include "util/timer.h"

#include <memory>

namespace ashlar {

struct AsyncRequest : Completion {
    IoShell& shell;
    std::string_view what;  // has failed: "readv"
    IoStatistics statistics;
    bool quiet = false;
    bool verbose = false;             // dumps what has been read
    std::optional<int> pattern = {};  // that must have been read
    std::optional<IoBuffer> buffer = {};

    AsyncRequest(IoShell& s, std::string_view name, std::string_view verb)
        : Completion{&AsyncRequest::done}, shell(s), what(name), statistics{.verb = verb} {}

    // From here on it frees itself; returns what aio_* wants to be given.
    static AsyncRequest& start(std::unique_ptr<AsyncRequest> request) {
        request->statistics.start_ns = now_ns();
        request->shell.request_begins();
        return *request.release();
    }

private:
    static void done(Completion& completion);
};

}  // namespace ashlar
