#include "tools/ashlar_options.h"

#include "monitor/drive.h"
#include "monitor/version.h"
#include "tools/command_line.h"
#include "tools/object_option.h"
#include "tools/parse_text.h"
#include "util/keyval.h"
#include "util/log.h"
#include "util/options.h"
#include "util/similar.h"
#include "util/trace.h"

#include <algorithm>

namespace ashlar {

namespace {

constexpr std::string_view kUsage = "usage: ashlar [options]";

struct NameOptions {
    std::string guest;

    static const OptionSet<NameOptions>& options() {
        static const auto set = OptionSet<NameOptions>("-name").optional("guest", &NameOptions::guest, "name");
        return set;
    }
};

class Parser {
public:
    Parser() : line_(std::string(kUsage), CommandLine::Manner::Qemu) {
        add_standard();
        line_.heading("Machine options");
        add_machine_options(line_, o_.machine);
        line_.heading("Character devices and monitors");
        add_char_options(line_, o_.chars);
        add_block();
        add_management();
        add_debug();
        add_harmless();
        line_.epilogue("Options may be written with one dash or two. ashlar(1) says more.\n");
    }

    Result<std::optional<AshlarOptions>> parse(int argc, char** argv) {
        auto rest = line_.parse(argc, argv);
        if (!rest)
            return std::unexpected(std::move(rest.error()));
        if (line_.has_printed())
            return std::nullopt;
        if (!rest->empty())
            return std::unexpected(Error{fmt::format("{}: an image is given with an option", (*rest)[0])}.with_hint(
                "Give it with -drive file=..., and export it with -nbd."));
        if (auto valid = check_machine_arguments(o_.machine); !valid)
            return std::unexpected(std::move(valid.error()));
        if (auto valid = settle_char_arguments(o_.chars, o_.machine.is_virt(), o_.daemonize); !valid)
            return std::unexpected(std::move(valid.error()));
        return std::move(o_);
    }

private:
    void add_standard() {
        line_.heading("Standard options");
        line_.add('h', "help", "", "display this help and exit", line_.printer([this] { return line_.help(); }));
        line_.add(0, "version", "", "display version information and exit",
                  line_.printer([] { return version_text("Ashlar emulator"); }));
        line_.add(0, "name", "NAME", "set the name of the guest", [this](std::string_view given) -> Result<void> {
            auto options = parse_text<NameOptions>(given, "guest");
            if (!options)
                return std::unexpected(std::move(options.error()));
            o_.name = options->guest;
            return {};
        });
        line_.add_flag(0, "S", "start with the machine stopped", o_.paused);
    }

    void add_block() {
        line_.heading("Block device options");
        line_.add_list(0, "blockdev",
                       "[driver=]DRIVER[,node-name=NODE][,discard=ignore|unmap][,cache.direct=on|off]\n"
                       "          [,cache.no-flush=on|off][,read-only=on|off][,detect-zeroes=on|off|unmap]\n"
                       "          [,DRIVER-SPECIFIC...]",
                       "define a block node; JSON as well", o_.blockdevs);
        line_.add(0, "drive",
                  "[file=FILE][,if=virtio|none][,id=NAME][,format=FORMAT]\n"
                  "       [,cache=writethrough|writeback|none|directsync|unsafe][,aio=threads|native|io_uring]\n"
                  "       [,readonly=on|off][,discard=ignore|unmap][,detect-zeroes=on|off|unmap]\n"
                  "       [,werror=report|ignore|stop|enospc][,rerror=report|ignore|stop]\n"
                  "       [,throttling.bps-total=N][,throttling.iops-total=N][,throttling.group=GROUP]...",
                  "use FILE as a drive; `format=help' lists the formats",
                  [this](std::string_view given) -> Result<void> {
                      DriverRegistry drivers;
                      register_all_drivers(drivers);
                      if (auto help = drive_help(drivers, given))
                          return line_.printer([help] { return *help; })({});
                      o_.drives.emplace_back(given);
                      return {};
                  });
        line_.add(0, "nbd",
                  "ADDRESS-OR-URI[,drive=ID][,name=EXPORT][,writable=on|off][,iothread=ID[:ID...]]\n"
                  "     [,description=TEXT][,writethrough=on|off][,allocation-depth=on|off][,bitmap=NAME]\n"
                  "     [,max-connections=N][,handshake-limit=SECONDS]",
                  "export a drive over NBD at unix:PATH, HOST:PORT, nbd://HOST:PORT/EXPORT,\n"
                  "nbd+unix:///EXPORT?socket=PATH, vsock:CID:PORT or fd:N; may be repeated",
                  [this](std::string_view given) -> Result<void> {
                      if (is_help_request(given))
                          return line_.printer(nbd_argument_help)({});
                      auto argument = parse_nbd_argument(given);
                      if (!argument)
                          return std::unexpected(std::move(argument.error()));
                      o_.nbds.push_back({std::string(given), std::move(*argument)});
                      return {};
                  });
        add_object_option(line_, o_.objects);
    }

    void add_management() {
        line_.heading("Management");
        line_.add_flag(0, "daemonize", "run in the background, once everything is served", o_.daemonize);
        line_.add_text(0, "pidfile", "FILE", "write the process's number to FILE, once everything is served",
                       o_.pid_file);
        line_.add_flag('v', "verbose", "say more of what is served where", o_.verbose);
    }

    void add_debug() {
        line_.heading("Debugging");
        line_.add('d', "", "ITEM[,ITEM...]", "enable logging of items (-d help for a list)",
                  [this](std::string_view given) -> Result<void> {
                      if (is_help_request(given))
                          return line_.printer(log_help)({});
                      return log_enable(given);
                  });
        line_.add('D', "", "FILE", "write the log to FILE (default stderr)", log_to_file);
        line_.add_trace(0);
    }

    // What scripts for QEMU give to have less, where there is nothing to begin with.
    void add_harmless() {
        line_.heading("Accepted because there is nothing that they would leave out");
        line_.add(0, "no-user-config", "", "no effect", [](std::string_view) -> Result<void> { return {}; });
        for (const char* name : {"display", "parallel", "vga", "nic", "net"})
            line_.add(0, name, "none", "no effect", [](std::string_view given) -> Result<void> {
                if (given != "none")
                    return fail("there is no such device: only 'none' is possible");
                return {};
            });
    }

    CommandLine line_;
    AshlarOptions o_;
};

}  // namespace

Result<std::optional<AshlarOptions>> parse_ashlar_options(int argc, char** argv) {
    return Parser().parse(argc, argv);
}

}  // namespace ashlar
