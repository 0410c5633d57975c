// A whole session as a client might send it, from its flags to its last request, to a server in this process. Whatever
// it is, the server has forgotten the client soon after that has left.
#include "tests/unit/nbd_fixture.h"

using namespace ashlar;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static NbdFixture f;
    NbdPeer peer(*f.server);
    ByteVector bytes(reinterpret_cast<const std::byte*>(data), reinterpret_cast<const std::byte*>(data) + size);
    std::byte replies[4096];
    while (!bytes.empty()) {
        ssize_t n = ::send(peer.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            break;
        if (n > 0)
            bytes.erase(bytes.begin(), bytes.begin() + n);
        f.context->poll(false);
        while (::recv(peer.fd(), replies, sizeof replies, MSG_DONTWAIT) > 0) {
        }
    }
    peer.shutdown(SHUT_WR);
    bool forgotten = f.turn_until([&] {
        while (::recv(peer.fd(), replies, sizeof replies, MSG_DONTWAIT) > 0) {
        }
        return f.server->connections() == 0;
    });
    g_assert_true(forgotten);
    return 0;
}
