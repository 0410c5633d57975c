#include "tools/machine/char_place.h"

#include "monitor/user_objects.h"
#include "util/keyval.h"
#include "util/options.h"
#include "util/similar.h"

#include <algorithm>

namespace ashlar {

namespace {

struct CommonOptions {
    std::string backend, id;
    bool mux = false;

    static const OptionSet<CommonOptions>& options() {
        static const auto set = OptionSet<CommonOptions>("chardev")
                                    .required("backend", &CommonOptions::backend, "the kind")
                                    .required("id", &CommonOptions::id, "its name")
                                    .optional("mux", &CommonOptions::mux, "several may use it; Ctrl-a changes");
        return set;
    }
};

struct StdioOptions {
    bool signal = true;

    static const OptionSet<StdioOptions>& options() {
        static const auto set =
            OptionSet<StdioOptions>("stdio").optional("signal", &StdioOptions::signal, "Ctrl-c ends the program");
        return set;
    }
};

struct FileOptions {
    std::string path;
    bool append = false;

    static const OptionSet<FileOptions>& options() {
        static const auto set = OptionSet<FileOptions>("file")
                                    .required("path", &FileOptions::path, "of the file")
                                    .optional("append", &FileOptions::append, "write behind what is there");
        return set;
    }
};

struct PipeOptions {
    std::string path;

    static const OptionSet<PipeOptions>& options() {
        static const auto set = OptionSet<PipeOptions>("pipe").required(
            "path", &PipeOptions::path, "of the named pipes PATH.in and PATH.out, or of one");
        return set;
    }
};

struct NoOptions {
    static const OptionSet<NoOptions>& options() {
        static const auto set = OptionSet<NoOptions>("chardev");
        return set;
    }
};

// What names the socket; the rest are CharSocketOptions.
struct AddressOptions {
    std::optional<std::string> path, host, port;

    static const OptionSet<AddressOptions>& options() {
        static const auto set = OptionSet<AddressOptions>("socket")
                                    .optional("path", &AddressOptions::path, "of a Unix socket")
                                    .optional("host", &AddressOptions::host, "name or address, of a TCP socket")
                                    .optional("port", &AddressOptions::port, "of a TCP socket");
        return set;
    }
};

Result<QmpAddress> read_socket(Json& dict, Typing typing) {
    auto socket = CharSocketOptions::options().take(dict, typing);
    if (!socket)
        return std::unexpected(std::move(socket.error()));
    auto address = AddressOptions::options().parse(dict, typing);
    if (!address)
        return std::unexpected(std::move(address.error()));
    if (address->path.has_value() == address->port.has_value() || (address->path && address->host))
        return fail("socket: give path, or host and port");
    if (address->path)
        return make_qmp_address(UnixAddress{*address->path}, *socket);
    return make_qmp_address(InetAddress{address->host.value_or(""), *address->port}, *socket);
}

Result<void> read_stdio(CharPlace& place, Json& dict, Typing typing) {
    auto options = StdioOptions::options().parse(dict, typing);
    if (!options)
        return std::unexpected(std::move(options.error()));
    place.kind = CharPlace::Kind::Stdio;
    place.signals = options->signal;
    return {};
}

Result<void> read_file(CharPlace& place, Json& dict, Typing typing) {
    auto options = FileOptions::options().parse(dict, typing);
    if (!options)
        return std::unexpected(std::move(options.error()));
    place.kind = CharPlace::Kind::File;
    place.path = std::move(options->path);
    place.append = options->append;
    return {};
}

Result<void> read_pipe(CharPlace& place, Json& dict, Typing typing) {
    auto options = PipeOptions::options().parse(dict, typing);
    if (!options)
        return std::unexpected(std::move(options.error()));
    place.kind = CharPlace::Kind::Pipe;
    place.path = std::move(options->path);
    return {};
}

Result<void> read_socket(CharPlace& place, Json& dict, Typing typing) {
    auto address = read_socket(dict, typing);
    if (!address)
        return std::unexpected(std::move(address.error()));
    place.kind = CharPlace::Kind::Socket;
    place.address = std::move(*address);
    return {};
}

template <CharPlace::Kind kKind>
Result<void> read_nothing(CharPlace& place, Json& dict, Typing typing) {
    auto options = NoOptions::options().parse(dict, typing);
    if (!options)
        return std::unexpected(std::move(options.error()));
    place.kind = kKind;
    return {};
}

struct Backend {
    std::string_view name;
    Result<void> (*read)(CharPlace&, Json&, Typing);
};
constexpr Backend kBackends[] = {
    {"file", read_file},     {"null", read_nothing<CharPlace::Kind::Null>},
    {"pipe", read_pipe},     {"pty", read_nothing<CharPlace::Kind::Pty>},
    {"socket", read_socket}, {"stdio", read_stdio},
};

}  // namespace

Result<CharPlace> parse_chardev(std::string_view text) {
    auto keyval = parse_keyval(text, {.implied_key = "backend", .flags = true});
    if (!keyval)
        return std::unexpected(std::move(keyval.error()));
    auto common = CommonOptions::options().take(keyval->options, keyval->typing);
    if (!common)
        return std::unexpected(std::move(common.error()));
    const auto* backend = std::ranges::find(kBackends, common->backend, &Backend::name);
    if (backend == std::end(kBackends))
        return std::unexpected(Error{fmt::format("'{}' is not a valid char driver name", common->backend)}.with_hint(
            "-chardev help lists what there is."));
    if (!is_valid_id(common->id))
        return fail("Parameter 'id' expects an identifier");
    CharPlace place{.id = std::move(common->id), .mux = common->mux};
    if (auto read = backend->read(place, keyval->options, keyval->typing); !read)
        return std::unexpected(std::move(read.error()));
    return place;
}

std::string chardev_help() {
    std::string text = "Available chardev backend types: \n";
    for (const Backend& backend : kBackends)
        text += fmt::format("  {}\n", backend.name);
    return text;
}

Result<CharPlace> parse_char_place(std::string_view text) {
    using Kind = CharPlace::Kind;
    CharPlace place;
    const std::string_view name = text.substr(0, text.find_first_of(":,"));
    for (auto [kind, called] : {std::pair(Kind::Null, "null"), {Kind::Stdio, "stdio"}, {Kind::Pty, "pty"}})
        if (name == called) {
            if (text != name)
                return fail("{}: '{}': there are no options", name, text.substr(name.size()));
            place.kind = kind;
            return place;
        }
    for (auto [kind, prefix] : {std::pair(Kind::File, std::string_view("file:")), {Kind::Pipe, "pipe:"}})
        if (text.starts_with(prefix) && text.size() > prefix.size()) {
            place.kind = kind;
            place.path = text.substr(prefix.size());
            return place;
        }
    auto address = parse_qmp_address(text);
    if (!address)
        return std::unexpected(std::move(address.error()));
    place.kind = CharPlace::Kind::Socket;
    place.address = std::move(*address);
    return place;
}

}  // namespace ashlar
