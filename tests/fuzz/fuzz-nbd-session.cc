// What a server says in the transmission phase, to a client that has a read (cookie 0x100), a write (0x201), a flush
// (0x302) and a block status (0x403) under way. The first byte chooses the style of the headers. Whatever comes, the
// connection ends soon after the server has left, no request is completed twice, and none is forgotten.
#include <cassert>

#include "nbd/client_connection.h"
#include "util/sync_wait.h"
#include "util/task_scope.h"

using namespace ashlar;
using namespace ashlar::nbd;

namespace {

constexpr unsigned kRequests = 4;
unsigned completed;

Task<void> co_run(ClientConnection& connection, bool& ended) {
    Error why = co_await connection.co_run();
    assert(!why.message.empty());
    ended = true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static auto context = *AioContext::create();
    if (size == 0)
        return 0;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return 0;
    UniqueFd server(pair[1]);
    ClientConnection connection(Socket(UniqueFd(pair[0])), static_cast<HeaderStyle>(data[0] % 3), 7);
    std::byte memory[4096] = {}, written[512] = {};
    // Some that are copied, one that data is received into, and an empty one.
    iovec pieces[] = {{memory, 100}, {memory + 100, 0}, {memory + 100, 3996}}, out{written, sizeof written};
    ClientRequest requests[kRequests];
    completed = 0;
    for (ClientRequest& request : requests)
        request.done = [](ClientRequest& one) {
            completed++;
            one.done = nullptr;  // a second call crashes
        };
    requests[0].wire = {.type = kCmdRead, .offset = 4096, .length = sizeof memory};
    requests[0].data = pieces;
    requests[1].wire = {.type = kCmdWrite, .offset = 512, .length = sizeof written};
    requests[1].data = {&out, 1};
    requests[2].wire = {.type = kCmdFlush};
    requests[3].wire = {.type = kCmdBlockStatus, .offset = 0, .length = 65536};
    for (ClientRequest& request : requests)
        connection.submit(request);

    TaskScope scope;
    bool ended = false;
    scope.spawn_on(*context, co_run(connection, ended));
    context->poll(false);
    for (size_t at = 1; at < size && !ended;) {
        ssize_t n = ::send(server.get(), data + at, size - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            break;
        at += n > 0 ? static_cast<size_t>(n) : 0;
        context->poll(false);
    }
    shutdown(server.get(), SHUT_WR);
    sync_wait(*context, scope.join());
    assert(ended);
    unsigned lost = static_cast<unsigned>(connection.take_lost().size());
    assert(completed + lost == kRequests);
    (void)lost;
    return 0;
}
