// The command line of ashlar-nbd: qemu-nbd's for a server, and a few options of our own.
#pragma once

#include "nbd/server.h"
#include "tools/image_arguments.h"
#include "util/error.h"
#include "util/socket_address.h"

#include <optional>
#include <string>
#include <vector>

namespace ashlar {

struct AshlarNbdOptions {
    std::string file;
    ImageArguments image;
    std::string load_snapshot;  // which to show; empty: none
    uint64_t offset = 0;

    std::optional<std::string> socket_path;
    std::optional<std::string> bind;
    std::optional<std::string> port;
    std::string export_name;
    std::string description;
    bool allocation_depth = false;
    std::vector<std::string> bitmaps;
    NbdServerOptions server{.max_connections = 1};
    bool persistent = false;

    std::vector<std::string> objects;  // arguments of --object
    std::vector<std::string> iothreads;
    unsigned anonymous_iothreads = 0;

    bool list = false;
    bool fork = false;
    bool verbose = false;
    std::string pid_file;

    // Where it listens, or connects to with `list`.
    SocketAddress address() const;
};

// nullopt: there is nothing more to do (--help, --version).
Result<std::optional<AshlarNbdOptions>> parse_ashlar_nbd_options(int argc, char** argv);

}  // namespace ashlar
