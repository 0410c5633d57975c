#include "tools/machine/char_options.h"

#include "tools/command_line.h"
#include "tools/parse_text.h"
#include "util/keyval.h"
#include "util/options.h"

#include <algorithm>

namespace ashlar {

namespace {

constexpr std::string_view kSerial = "serial0", kGdb = "gdb";

enum class Mode : uint8_t { Readline, Control };
constexpr auto enum_names(Mode) {
    return std::to_array<EnumName<Mode>>({{Mode::Readline, "readline"}, {Mode::Control, "control"}});
}

struct MonOptions {
    std::string chardev;
    Mode mode = Mode::Readline;
    bool pretty = false;

    static const OptionSet<MonOptions>& options() {
        static const auto set = OptionSet<MonOptions>("-mon")
                                    .required("chardev", &MonOptions::chardev, "where")
                                    .optional("mode", &MonOptions::mode, "for people, or QMP")
                                    .optional("pretty", &MonOptions::pretty, "QMP's replies are indented");
        return set;
    }
};

// The chardev that is named, or a new one called `id`: its name.
Result<std::string> chardev_of(CharArguments& out, std::string_view text, std::string id) {
    constexpr std::string_view kNamed = "chardev:";
    if (text.starts_with(kNamed))
        return std::string(text.substr(kNamed.size()));
    auto place = parse_char_place(text);
    if (!place)
        return std::unexpected(std::move(place.error()));
    place->id = id;
    out.chardevs.push_back(std::move(*place));
    return id;
}

Result<void> take_chardev(CharArguments& out, std::string_view given) {
    auto place = parse_chardev(given);
    if (!place)
        return std::unexpected(std::move(place.error()));
    out.chardevs.push_back(std::move(*place));
    return {};
}

Result<void> take_mon(CharArguments& out, std::string_view given) {
    auto options = parse_text<MonOptions>(given, "chardev");
    if (!options)
        return std::unexpected(std::move(options.error()));
    const bool control = options->mode == Mode::Control;
    if (options->pretty && !control)
        return fail("'pretty' is not compatible with HMP monitors");
    out.monitors.push_back({std::move(options->chardev), control, options->pretty});
    out.monitor_given |= !control;
    return {};
}

Result<void> take_monitor(CharArguments& out, std::string_view given, bool control, bool pretty) {
    out.monitor_given |= !control;
    if (given == "none")
        return {};
    auto chardev = chardev_of(out, given, fmt::format("compat_monitor{}", out.monitors.size()));
    if (!chardev)
        return std::unexpected(std::move(chardev.error()));
    out.monitors.push_back({std::move(*chardev), control, pretty});
    return {};
}

Result<void> take_serial(CharArguments& out, std::string_view given) {
    if (out.serial)
        return fail("there is one serial port");
    if (given == "none") {
        out.serial = "";
        return {};
    }
    const bool shared = given.starts_with("mon:");
    auto chardev = chardev_of(out, shared ? given.substr(4) : given, std::string(kSerial));
    if (!chardev)
        return std::unexpected(std::move(chardev.error()));
    out.serial = *chardev;
    if (!shared)
        return {};
    if (*chardev != kSerial)
        return fail("mon: is for what -serial opens; give the chardev mux=on, and -mon chardev={}", *chardev);
    out.chardevs.back().mux = true;
    out.chardevs.back().signals = false;  // Ctrl-c is for the guest
    out.monitors.push_back({*chardev});
    out.monitor_given = true;
    return {};
}

Result<void> take_gdb(CharArguments& out, std::string_view given) {
    const bool named = given.starts_with("chardev:");
    auto chardev =
        chardev_of(out, named ? std::string(given) : fmt::format("{},server=on,wait=off", given), std::string(kGdb));
    if (!chardev)
        return std::unexpected(std::move(chardev.error()));
    out.gdb = std::move(*chardev);
    return {};
}

}  // namespace

void add_char_options(CommandLine& line, CharArguments& out) {
    constexpr const char* kWhere =
        "chardev:ID|stdio|pty|null|file:FILE|unix:PATH[,server=on][,wait=off]|tcp:HOST:PORT...";
    line.add(0, "chardev", "BACKEND,id=ID[,mux=on|off][,OPTION=VALUE...]",
             "a character device for the options below; `help' lists the backends",
             [&line, &out](std::string_view given) -> Result<void> {
                 if (is_help_request(given))
                     return line.printer(chardev_help)({});
                 return take_chardev(out, given);
             });
    line.add(0, "serial", fmt::format("[mon:]{}|none", kWhere), "where the serial port leads to (default: mon:stdio)",
             [&out](std::string_view given) { return take_serial(out, given); });
    line.add(0, "monitor", fmt::format("{}|none", kWhere), "a monitor for people is there",
             [&out](std::string_view given) { return take_monitor(out, given, false, false); });
    line.add(0, "qmp", fmt::format("{}|none", kWhere), "serve QMP there; may be repeated",
             [&out](std::string_view given) { return take_monitor(out, given, true, false); });
    line.add(0, "qmp-pretty", "DEVICE", "the same with indented replies",
             [&out](std::string_view given) { return take_monitor(out, given, true, true); });
    line.add(0, "mon", "[chardev=]ID[,mode=readline|control][,pretty=on|off]",
             "a monitor for people, or QMP, is at this chardev",
             [&out](std::string_view given) { return take_mon(out, given); });
    line.add_flag(0, "nographic", "serial port and monitor on the terminal, Ctrl-a h for help", out.nographic);
    line.add(0, "gdb", "tcp:[HOST]:PORT|unix:PATH|chardev:ID", "let gdb connect there (target remote)",
             [&out](std::string_view given) { return take_gdb(out, given); });
    line.add(0, "s", "", "the same as -gdb tcp::1234", [&out](std::string_view) { return take_gdb(out, "tcp::1234"); });
    line.add_flag(0, "nodefaults", "nothing on the terminal that is not asked for", out.nodefaults);
}

Result<void> settle_char_arguments(CharArguments& arguments, bool has_serial_port, bool daemonize) {
    const auto on_stdio = [&] {
        return std::ranges::count(arguments.chardevs, CharPlace::Kind::Stdio, &CharPlace::kind);
    };
    // They are those of -nographic: there is nothing but a terminal.
    if (has_serial_port) {
        if (arguments.nographic && arguments.serial && !arguments.monitor_given)
            if (auto taken = take_monitor(arguments, "stdio", false, false); !taken)
                return taken;
        const bool takes_terminal = arguments.nographic || (!arguments.nodefaults && !daemonize && on_stdio() == 0);
        if (!arguments.serial && takes_terminal)
            if (auto taken = take_serial(arguments, arguments.monitor_given ? "stdio" : "mon:stdio"); !taken)
                return taken;
    } else if (arguments.gdb || (arguments.serial && !arguments.serial->empty())) {
        return fail("machine 'none' has no serial port and no processor: -serial and -gdb are for -M virt");
    }
    if (on_stdio() > 1)
        return fail("cannot use stdio by multiple character devices");
    if (on_stdio() > 0 && daemonize)
        return fail("cannot use stdio with -daemonize");
    return {};
}

}  // namespace ashlar
