// What the commands and options about exports take and return.
#pragma once

#include "monitor/bitmap_ref.h"
#include "util/options.h"
#include "util/socket_options.h"

namespace ashlar {

// --- QAPI's SocketAddressLegacy: {"type": "unix", "data": {"path": "/x"}} ---

// `data` of one type of socket.
template <class Data>
struct SocketData {
    Data data;

    static const OptionSet<SocketData>& options() {
        static const auto set = OptionSet<SocketData>(Data::options().name() + "Wrapper")
                                    .required("data", &SocketData::data, "the address");
        return set;
    }
};

struct SocketAddressOptions {
    SocketType type = SocketType::Inet;
    SocketData<InetSocketOptions> inet;
    SocketData<UnixSocketOptions> unix_socket;
    SocketData<VsockSocketOptions> vsock;
    SocketData<FdSocketOptions> fd;

    static const OptionSet<SocketAddressOptions>& options();
    Result<SocketAddress> address() const;
};

// --- NBD ---

struct NbdServerStartOptions {
    SocketAddressOptions addr;
    uint32_t max_connections = 0;
    uint32_t handshake_max_seconds = 10;

    static const OptionSet<NbdServerStartOptions>& options();
};

enum class ExportRemoveMode : uint8_t { Safe, Hard };
constexpr auto enum_names(ExportRemoveMode) {
    return std::to_array<EnumName<ExportRemoveMode>>({
        {ExportRemoveMode::Safe, "safe"},
        {ExportRemoveMode::Hard, "hard"},
    });
}

enum class ExportType : uint8_t { Nbd };
constexpr auto enum_names(ExportType) {
    return std::to_array<EnumName<ExportType>>({{ExportType::Nbd, "nbd"}});
}

struct NbdExportArgs {
    std::optional<std::string> name;
    std::string description;
    std::vector<BitmapRef> bitmaps;
    bool allocation_depth = false;

    static const OptionSet<NbdExportArgs>& options();
};

// block-export-add
struct BlockExportOptions {
    ExportType type = ExportType::Nbd;
    std::string id;
    std::string node_name;
    bool fixed_iothread = false;
    std::optional<std::string> iothread;  // or several, separated by colons
    bool writable = false;
    bool writethrough = false;
    NbdExportArgs nbd;

    static const OptionSet<BlockExportOptions>& options();
};

// nbd-server-add
struct NbdServerAddOptions {
    std::string device;
    std::optional<std::string> name;
    std::string description;
    bool writable = false;
    std::optional<std::string> bitmap;

    static const OptionSet<NbdServerAddOptions>& options();
};

// query-block-exports
struct BlockExportInfo {
    std::string id;
    ExportType type = ExportType::Nbd;
    std::string node_name;
    bool shutting_down = false;

    static const OptionSet<BlockExportInfo>& options();
};

// -nbd ADDRESS-OR-URI[,drive=ID][,name=EXPORT]...
struct NbdArgument {
    SocketAddress address;
    std::optional<std::string> drive;  // default: the only one there is
    std::string name;
    std::string description;
    bool writable = false;
    std::optional<bool> writethrough;  // default: as the drive
    std::optional<std::string> iothread;
    bool allocation_depth = false;
    std::vector<BitmapName> bitmaps;
    // Of the server, which the first -nbd of an address makes.
    std::optional<uint32_t> max_connections;
    std::optional<uint32_t> handshake_limit;  // seconds
};

Result<NbdArgument> parse_nbd_argument(std::string_view text);
std::string nbd_argument_help();

}  // namespace ashlar
