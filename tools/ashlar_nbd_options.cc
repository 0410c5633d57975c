#include "tools/ashlar_nbd_options.h"

#include "monitor/version.h"
#include "tools/command_line.h"
#include "tools/img/snapshot_argument.h"
#include "tools/object_option.h"
#include "util/size.h"

#include <unistd.h>

namespace ashlar {

namespace {

constexpr std::string_view kUsage =
    "Usage: ashlar-nbd [OPTIONS] FILE\n"
    "  or:  ashlar-nbd -L [OPTIONS]\n"
    "Serves a disk image to clients of the Network Block Device protocol.";

constexpr std::string_view kDefaultPort = "10809";

Result<void> take_number(unsigned& out, std::string_view text, std::string_view what) {
    auto number = parse_uint64(text);
    if (!number || *number > INT32_MAX)
        return fail("Invalid {} '{}'", what, text);
    out = static_cast<unsigned>(*number);
    return {};
}

CommandLine::Handler refuse(std::string why) {
    return [why](std::string_view) -> Result<void> { return fail("{}", why); };
}

// qemu-nbd can hand a device of the kernel's NBD client to itself.
Result<void> refuse_kernel_device(std::string_view option, std::string_view instead) {
    if (access("/sys/module/nbd", F_OK) < 0 && access("/dev/nbd0", F_OK) < 0)
        return std::unexpected(Error{fmt::format("{}: not supported: this kernel has no NBD client", option)}.with_hint(
            "Where there is one ('modprobe nbd'), nbd-client(8) attaches the export to a device."));
    return std::unexpected(
        Error{fmt::format("{}: not supported: use nbd-client(8)", option)}.with_hint(std::string(instead)));
}

class Parser {
public:
    Parser() : line_(std::string(kUsage)) {
        add_general();
        add_connection();
        add_part();
        add_block();
        add_refused();
        line_.epilogue("ashlar-nbd(1) says more.\n");
    }

    Result<std::optional<AshlarNbdOptions>> parse(int argc, char** argv) {
        auto files = line_.parse(argc, argv);
        if (!files)
            return std::unexpected(std::move(files.error()));
        if (line_.has_printed())
            return std::nullopt;
        if (auto checked = check(*files); !checked)
            return std::unexpected(std::move(checked.error()));
        return std::move(o_);
    }

private:
    CommandLine::Handler text(std::optional<std::string>& out) {
        return [&out](std::string_view given) -> Result<void> {
            out = given;
            return {};
        };
    }

    CommandLine::Handler number(unsigned& out, std::string what) {
        return [&out, what](std::string_view given) { return take_number(out, given, what); };
    }

    void add_general() {
        line_.add('h', "help", "", "display this help and exit", line_.printer([this] { return line_.help(); }));
        line_.add('V', "version", "", "output version information and exit",
                  line_.printer([] { return version_text("ashlar-nbd"); }));
        line_.heading("General purpose options");
        line_.add_flag('L', "list", "list exports available from another NBD server", o_.list);
        add_object_option(line_, o_.objects);
        line_.add_trace('T');
        line_.add_flag(0, "fork", "fork off the server process and exit the parent\nonce the server is running",
                       o_.fork);
        line_.add_text(0, "pid-file", "PATH", "store the server's process ID in the given file", o_.pid_file);
        line_.add_flag('v', "verbose", "say what is served, where and how", o_.verbose);
    }

    void add_connection() {
        line_.heading("Connection properties");
        line_.add('p', "port", "PORT", "port to listen on (default 10809)", text(o_.port));
        line_.add('b', "bind", "ADDRESS", "address to bind to (default 0.0.0.0)", text(o_.bind));
        line_.add('k', "socket", "PATH", "path to the unix socket", text(o_.socket_path));
        line_.add('e', "shared", "NUM", "device can be shared by NUM clients (default 1);\n0 for any number",
                  number(o_.server.max_connections, "shared device number"));
        line_.add_flag('t', "persistent", "don't exit on the last connection", o_.persistent);
        line_.add('x', "export-name", "NAME", "expose export by name (default is empty string)",
                  mark_export(o_.export_name));
        line_.add('D', "description", "TEXT", "export a human-readable description", mark_export(o_.description));
        line_.add(0, "handshake-limit", "SECONDS",
                  "how long a client may take to choose an export\n(default 10; 0: any time)",
                  [this](std::string_view given) -> Result<void> {
                      unsigned seconds = 0;
                      auto done = take_number(seconds, given, "handshake limit");
                      o_.server.handshake_timeout_ns = seconds * int64_t{1'000'000'000};
                      return done;
                  });
        line_.add(0, "max-requests", "NUM", "requests of one client at once (default 256)",
                  number(o_.server.max_requests, "number of requests"));
        line_.add(0, "max-bytes", "SIZE", "memory for the data of one client's requests\n(default 8M)",
                  [this](std::string_view given) -> Result<void> {
                      auto bytes = parse_size(given);
                      if (!bytes || *bytes == 0)
                          return fail("Invalid number of bytes '{}'", given);
                      o_.server.max_bytes = *bytes;
                      return {};
                  });
        line_.add(0, "iothreads", "NUM", "spread the connections over NUM threads",
                  number(o_.anonymous_iothreads, "number of threads"));
        line_.add_list(0, "iothread", "ID", "serve connections in this thread, an --object; may be\nrepeated",
                       o_.iothreads);
    }

    CommandLine::Handler mark_export(std::string& out) {
        return [this, &out](std::string_view given) -> Result<void> {
            out = given;
            for_device_ = true;
            return {};
        };
    }

    void add_part() {
        line_.heading("Exposing part of the image");
        line_.add('o', "offset", "OFFSET", "offset into the image", [this](std::string_view given) -> Result<void> {
            auto offset = parse_size(given);
            if (!offset || *offset > INT64_MAX)
                return fail("Invalid offset '{}'", given);
            o_.offset = *offset;
            for_device_ = true;
            return {};
        });
        line_.add('A', "allocation-depth", "", "expose the allocation depth", [this](std::string_view) -> Result<void> {
            o_.allocation_depth = for_device_ = true;
            return {};
        });
        line_.add('B', "bitmap", "NAME", "expose a persistent dirty bitmap; may be repeated",
                  [this](std::string_view given) -> Result<void> {
                      o_.bitmaps.emplace_back(given);
                      for_device_ = true;
                      return {};
                  });
    }

    void add_block() {
        line_.heading("Block device options");
        o_.image.add_to(line_, "frs");
        line_.add('n', "nocache", "", "disable host cache", [this](std::string_view) { return set_cache("none"); });
        line_.add(0, "cache", "MODE",
                  "set cache mode used to access the disk image, the\nvalid options are: 'none', 'writeback' "
                  "(default),\n'writethrough', 'directsync' and 'unsafe'",
                  [this](std::string_view given) { return set_cache(given); });
        line_.add(0, "aio", "MODE", "set AIO mode (native, io_uring or threads; default:\nio_uring if there)",
                  [this](std::string_view given) { return o_.image.set_aio(given, "Invalid aio mode '{}'"); });
        line_.add(0, "discard", "MODE", "set discard mode (ignore, unmap)",
                  [this](std::string_view given) { return o_.image.set_discard(given, "Invalid discard mode '{}'"); });
        line_.add('l', "load-snapshot", "SNAPSHOT",
                  "export an internal snapshot, read-only: its name or\nid, or snapshot.id=ID,snapshot.name=NAME",
                  [this](std::string_view given) -> Result<void> {
                      o_.load_snapshot = given;
                      o_.image.flags.read_only = true;
                      return img::check_snapshot_argument(o_.load_snapshot);
                  });
        line_.add(0, "detect-zeroes", "MODE", "set detect-zeroes mode (off, on, unmap)",
                  [this](std::string_view given) {
                      return take_enum(o_.image.flags.detect_zeroes, given, "Invalid detect-zeroes mode '{}'");
                  });
    }

    void add_refused() {
        line_.heading("Of qemu-nbd, not supported");
        line_.add(0, "tls-creds", "ID", "encryption", refuse("--tls-creds: not supported: there is no TLS yet"));
        line_.add(0, "tls-authz", "ID", "authorization", refuse("--tls-authz: not supported: there is no TLS yet"));
        line_.add(0, "tls-hostname", "HOST", "name in the certificate",
                  refuse("--tls-hostname: not supported: there is no TLS yet"));
        line_.add(0, "selinux-label", "LABEL", "label of the socket", refuse("--selinux-label: not supported"));
        line_.add('c', "connect", "DEV", "attach to the kernel's NBD device", [](std::string_view) {
            return refuse_kernel_device("-c", "Serve with -k PATH, then: nbd-client -unix PATH DEV");
        });
        line_.add('d', "disconnect", "DEV", "detach from it",
                  [](std::string_view) { return refuse_kernel_device("-d", "Detach with: nbd-client -d DEV"); });
    }

    Result<void> set_cache(std::string_view name) {
        if (cache_given_)
            return fail("-n and --cache can only be specified once");
        cache_given_ = true;
        return o_.image.set_cache(name, "Invalid cache mode '{}'");
    }

    Result<void> check(const std::vector<std::string>& files) {
        if (o_.socket_path && (o_.port || o_.bind))
            return fail("-k is for a Unix socket, -p and -b are for TCP: give one or the other");
        if (o_.list) {
            if (!files.empty())
                return fail("List mode is incompatible with a file name");
            if (o_.fork)
                return fail("List mode is incompatible with forking");
            if (!o_.pid_file.empty())
                return fail("List mode is incompatible with a pid file");
            if (for_device_ || cache_given_ || o_.image != ImageArguments{} || o_.persistent)
                return fail("List mode is incompatible with per-device settings");
        } else if (files.size() != 1) {
            return std::unexpected(Error{"Invalid number of arguments"}.with_hint(help_hint()));
        } else {
            o_.file = files[0];
        }
        if (auto checked = o_.image.check(); !checked)
            return checked;
        if (o_.image.flags.detect_zeroes == DetectZeroes::Unmap && o_.image.flags.discard != Discard::Unmap)
            return fail("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
        if (o_.server.max_requests == 0)
            return fail("--max-requests: 0 is none at all");
        return {};
    }

    CommandLine line_;
    AshlarNbdOptions o_;
    bool cache_given_ = false;
    bool for_device_ = false;  // something was set that says how to serve a device
};

}  // namespace

SocketAddress AshlarNbdOptions::address() const {
    if (socket_path) {
        SocketAddress socket = UnixAddress{*socket_path};
        make_absolute(socket);
        return socket;
    }
    return InetAddress{bind.value_or(list ? "localhost" : "0.0.0.0"), port.value_or(std::string(kDefaultPort))};
}

Result<std::optional<AshlarNbdOptions>> parse_ashlar_nbd_options(int argc, char** argv) {
    return Parser().parse(argc, argv);
}

}  // namespace ashlar
