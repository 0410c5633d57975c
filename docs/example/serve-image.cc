// Opens a disk image, prints its first bytes, and serves it over NBD until interrupted: the library in sixty lines.
//
//   c++ -std=c++23 serve-image.cc $(pkg-config --cflags --libs ashlar) -o serve-image
//   ./serve-image disk.img unix:/tmp/nbd.sock
#include <block/block_backend.h>
#include <block/block_graph.h>
#include <nbd/export.h>
#include <nbd/server.h>
#include <util/json.h>
#include <util/report.h>
#include <util/signals.h>
#include <util/socket_address.h>
#include <util/sync_wait.h>

#include <cstdio>

using namespace ashlar;

namespace {

// Reading is an ordinary-looking call in a coroutine; it suspends while the kernel works.
Task<Result<>> co_print_head(BlockBackend& backend) {
    unsigned char head[16];
    iovec iov{head, sizeof(head)};
    if (int ret = co_await backend.co_preadv(0, sizeof(head), IoVector(iov)); ret < 0)
        co_return fail_errno(-ret, "cannot read the first {} bytes", sizeof(head));
    for (unsigned char byte : head)
        std::printf("%02x ", byte);
    std::printf("\n");
    co_return Result<>{};
}

Task<Result<>> co_main(BlockGraph& graph, Signals& signals, std::string image, SocketAddress address) {
    auto node = co_await graph.co_open({{"driver", "raw"}, {"file", {{"driver", "file"}, {"filename", image}}}},
                                       Typing::Strict, {.read_only = true});
    if (!node)
        co_return std::unexpected(node.error());

    NbdServer server(graph.main_context(), {});
    auto exported = co_await NbdExport::co_create({.name = ""}, graph, **node);
    if (!exported)
        co_return std::unexpected(exported.error());
    if (auto ok = co_await co_print_head((*exported)->backend()); !ok)
        co_return ok;

    if (auto ok = server.add_export(*exported); !ok)
        co_return ok;
    if (auto ok = server.listen(address); !ok)
        co_return ok;
    std::printf("serving %s\n", image.c_str());
    std::fflush(stdout);

    co_await signals.co_next();
    if (auto ok = co_await server.co_stop(); !ok)
        co_return ok;
    co_return co_await graph.co_unref(**node);
}

}  // namespace

int main(int argc, char** argv) {
    set_program_name(argv[0]);
    auto address = argc == 3 ? parse_socket_address(argv[2]) : fail("usage: serve-image IMAGE ADDRESS");
    Signals signals({SIGINT, SIGTERM});
    auto context = AioContext::create();
    if (!address || !context) {
        error_report(!address ? address.error() : context.error());
        return 1;
    }
    DriverRegistry registry;
    register_all_drivers(registry);
    BlockGraph graph(**context, registry);
    auto done = sync_wait(**context, co_main(graph, signals, argv[1], *address));
    if (!done)
        error_report(done.error());
    return done ? 0 : 1;
}
