#include "monitor/export_options.h"

#include "nbd/uri.h"
#include "util/keyval.h"

namespace ashlar {

const OptionSet<SocketAddressOptions>& SocketAddressOptions::options() {
    using Address = SocketAddressOptions;
    static const auto set = OptionSet<Address>("SocketAddress")
                                .required("type", &Address::type, "kind of the socket")
                                .variant("inet", &Address::inet)
                                .variant("unix", &Address::unix_socket)
                                .variant("vsock", &Address::vsock)
                                .variant("fd", &Address::fd);
    return set;
}

Result<SocketAddress> SocketAddressOptions::address() const {
    return SocketOptions{type, inet.data, unix_socket.data, vsock.data, fd.data}.address("addr.data");
}

const OptionSet<NbdServerStartOptions>& NbdServerStartOptions::options() {
    using Start = NbdServerStartOptions;
    static const auto set = OptionSet<Start>("nbd-server-start")
                                .required("addr", &Start::addr, "where to listen")
                                .optional("max-connections", &Start::max_connections, "clients at once; 0: any number")
                                .optional("handshake-max-seconds", &Start::handshake_max_seconds,
                                          "how long a client may take to choose an export; 0: any time");
    return set;
}

const OptionSet<NbdExportArgs>& NbdExportArgs::options() {
    using Args = NbdExportArgs;
    static const auto set =
        OptionSet<Args>("BlockExportOptionsNbd")
            .optional("name", &Args::name, "name for clients (default: the node-name)")
            .optional("description", &Args::description, "text for people")
            .optional("bitmaps", &Args::bitmaps, "dirty bitmaps to offer as qemu:dirty-bitmap:NAME")
            .optional("allocation-depth", &Args::allocation_depth, "offer the context qemu:allocation-depth");
    return set;
}

const OptionSet<BlockExportOptions>& BlockExportOptions::options() {
    using Export = BlockExportOptions;
    static const auto set =
        OptionSet<Export>("block-export-add")
            .required("id", &Export::id, "name of the export in QMP")
            .required("node-name", &Export::node_name, "the node to export")
            .optional("fixed-iothread", &Export::fixed_iothread,
                      "fail rather than serve in another thread, which never happens")
            .optional("iothread", &Export::iothread, "the thread that serves, or several: A:B")
            .optional("writable", &Export::writable, "whether clients may write")
            .optional("writethrough", &Export::writethrough, "writes are stable when they are answered")
            .required("type", &Export::type, "kind of the export")
            .variant("nbd", &Export::nbd);
    return set;
}

const OptionSet<NbdServerAddOptions>& NbdServerAddOptions::options() {
    using Add = NbdServerAddOptions;
    static const auto set = OptionSet<Add>("nbd-server-add")
                                .required("device", &Add::device, "device or node to export")
                                .optional("name", &Add::name, "name of the export (default: the device)")
                                .optional("description", &Add::description, "text for people")
                                .optional("writable", &Add::writable, "whether clients may write")
                                .optional("bitmap", &Add::bitmap, "dirty bitmap to export");
    return set;
}

const OptionSet<BlockExportInfo>& BlockExportInfo::options() {
    using Info = BlockExportInfo;
    static const auto set = OptionSet<Info>("BlockExportInfo")
                                .required("id", &Info::id, "name of the export in QMP")
                                .required("type", &Info::type, "kind of the export")
                                .required("node-name", &Info::node_name, "the node that is exported")
                                .required("shutting-down", &Info::shutting_down, "whether it is on its way out");
    return set;
}

// --- -nbd ---

namespace {

// What follows the address.
struct NbdKeys {
    std::optional<std::string> drive;
    std::optional<std::string> name;
    std::string description;
    bool writable = false;
    std::optional<bool> writethrough;
    std::optional<std::string> iothread;
    bool allocation_depth = false;
    std::optional<std::string> bitmap;
    std::vector<std::string> bitmaps;
    std::optional<uint32_t> max_connections;
    std::optional<uint32_t> handshake_limit;

    static const OptionSet<NbdKeys>& options() {
        static const auto set =
            OptionSet<NbdKeys>("-nbd")
                .optional("drive", &NbdKeys::drive, "id of a -drive or node-name (default: the only one)")
                .optional("name", &NbdKeys::name, "name of the export (default: the empty one, or the URI's)")
                .optional("description", &NbdKeys::description, "text for people")
                .optional("writable", &NbdKeys::writable, "whether clients may write")
                .optional("writethrough", &NbdKeys::writethrough,
                          "writes are stable when they are answered (default: as the drive's cache=)")
                .optional("iothread", &NbdKeys::iothread, "the thread that serves, or several: A:B")
                .optional("allocation-depth", &NbdKeys::allocation_depth, "offer qemu:allocation-depth")
                .optional("bitmap", &NbdKeys::bitmap, "dirty bitmap to offer as qemu:dirty-bitmap:NAME")
                .optional("bitmaps", &NbdKeys::bitmaps, "or several: bitmaps.0=A,bitmaps.1=B")
                .optional("max-connections", &NbdKeys::max_connections,
                          "clients of this address at once (default: any number)")
                .optional("handshake-limit", &NbdKeys::handshake_limit,
                          "seconds that a client may take to choose an export (default: 10; 0: any time)");
        return set;
    }
};

}  // namespace

std::string nbd_argument_help() {
    return NbdKeys::options().help();
}

Result<NbdArgument> parse_nbd_argument(std::string_view text) {
    if (text.empty() || text[0] == ',')
        return fail("where to listen is missing");
    auto keyval = parse_keyval(fmt::format("address={}", text));
    if (!keyval)
        return std::unexpected(std::move(keyval.error()));
    std::string where = *json_string(keyval->options["address"]);
    keyval->options.erase("address");
    auto keys = NbdKeys::options().parse(keyval->options, Typing::Lenient);
    if (!keys)
        return std::unexpected(std::move(keys.error()));

    NbdArgument argument{.drive = keys->drive,
                         .description = keys->description,
                         .writable = keys->writable,
                         .writethrough = keys->writethrough,
                         .iothread = keys->iothread,
                         .allocation_depth = keys->allocation_depth,
                         .max_connections = keys->max_connections,
                         .handshake_limit = keys->handshake_limit};
    if (nbd::is_uri(where)) {
        auto uri = nbd::parse_uri(where);
        if (!uri)
            return std::unexpected(std::move(uri.error()));
        if (keys->name && !uri->export_name.empty() && *keys->name != uri->export_name)
            return fail("the URI names the export '{}', and name= is '{}'", uri->export_name, *keys->name);
        argument.address = std::move(uri->address);
        argument.name = keys->name.value_or(uri->export_name);
    } else {
        auto address = parse_socket_address(where);
        if (!address)
            return std::unexpected(std::move(address.error()));
        argument.address = std::move(*address);
        argument.name = keys->name.value_or("");
    }
    if (keys->bitmap)
        keys->bitmaps.insert(keys->bitmaps.begin(), *keys->bitmap);
    for (std::string& bitmap : keys->bitmaps)
        argument.bitmaps.push_back({.name = std::move(bitmap)});
    make_absolute(argument.address);
    return argument;
}

}  // namespace ashlar
