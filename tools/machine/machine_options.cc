#include "tools/machine/machine_options.h"

#include "hw/memory_map.h"
#include "tools/command_line.h"
#include "tools/machine/cpu_option.h"
#include "tools/machine/device_types.h"
#include "tools/parse_text.h"
#include "util/keyval.h"
#include "util/options.h"
#include "util/size.h"

#include <charconv>

namespace ashlar {

namespace {

constexpr std::string_view kMachineHelp =
    "Supported machines are:\n"
    "none                 empty machine (default without -kernel and -bios)\n"
    "virt                 RISC-V VirtIO board (default with -kernel or -bios)\n";

struct MachineOptions {
    std::string type;
    std::string dumpdtb;

    static const OptionSet<MachineOptions>& options() {
        static const auto set =
            OptionSet<MachineOptions>("-machine")
                .required("type", &MachineOptions::type, "machine")
                .optional("dumpdtb", &MachineOptions::dumpdtb, "write the device tree to this file, and end");
        return set;
    }
};

struct SmpOptions {
    unsigned cpus = 1;

    static const OptionSet<SmpOptions>& options() {
        static const auto set = OptionSet<SmpOptions>("-smp").optional("cpus", &SmpOptions::cpus, "number of harts");
        return set;
    }
};

Result<void> take_machine(MachineArguments& out, std::string_view given) {
    auto options = parse_text<MachineOptions>(given, "type");
    if (!options)
        return std::unexpected(std::move(options.error()));
    if (options->type != "none" && options->type != "virt")
        return std::unexpected(
            Error{"unsupported machine type"}.with_hint("Use -machine help to list supported machines"));
    if (options->type == "none" && !options->dumpdtb.empty())
        return fail("dumpdtb: machine 'none' has no device tree");
    out.type = options->type;
    out.dump_device_tree = options->dumpdtb;
    return {};
}

// In MiB where no unit is given.
Result<void> take_memory(MachineArguments& out, std::string_view given) {
    std::string_view text = given.starts_with("size=") ? given.substr(5) : given;
    constexpr uint64_t kMiB = 1 << 20, kMost = uint64_t{1} << 42;
    auto bytes = parse_size(text, kMiB);
    if (!bytes || *bytes == 0)
        return fail("Parameter 'size' expects a non-negative number below 2^64");
    if (*bytes > kMost)
        return fail("more than {} MiB", kMost / kMiB);
    out.ram_bytes = (*bytes + 8191) & ~uint64_t{8191};  // as QEMU does
    return {};
}

Result<void> take_smp(MachineArguments& out, std::string_view given) {
    auto options = parse_text<SmpOptions>(given, "cpus");
    if (!options)
        return std::unexpected(std::move(options.error()));
    if (options->cpus == 0 || options->cpus > virt::kMaxHarts)
        return fail("Invalid SMP CPUs {}. The max CPUs supported by machine 'virt' is {}", options->cpus,
                    virt::kMaxHarts);
    out.harts = options->cpus;
    return {};
}

Result<void> take_global(MachineArguments& out, std::string_view given) {
    constexpr std::string_view kLegacy = "virtio-mmio.force-legacy=";
    if (!given.starts_with(kLegacy))
        return fail("only virtio-mmio.force-legacy=on|off is possible");
    const std::string_view value = given.substr(kLegacy.size());
    if (value == "on" || value == "true" || value == "yes" || value == "y")
        out.virtio_legacy = true;
    else if (value == "off" || value == "false" || value == "no" || value == "n")
        out.virtio_legacy = false;
    else
        return fail("force-legacy: '{}': give on or off", value);
    return {};
}

}  // namespace

void add_machine_options(CommandLine& line, MachineArguments& out) {
    line.add('M', "machine", "TYPE[,dumpdtb=FILE]",
             "select the emulated machine (none, virt; -machine help for a list)",
             [&line, &out](std::string_view given) -> Result<void> {
                 if (is_help_request(given))
                     return line.printer([] { return std::string(kMachineHelp); })({});
                 return take_machine(out, given);
             });
    line.add(0, "cpu", "rv64[,PROPERTY=on|off...]", "the kind of hart, and what it has (-cpu help)",
             [&line, &out](std::string_view given) -> Result<void> {
                 if (is_help_request(given))
                     return line.printer(cpu_help)({});
                 auto features = parse_cpu_option(given);
                 if (!features)
                     return std::unexpected(std::move(features.error()));
                 out.features = *features;
                 return {};
             });
    line.add(0, "m", "[size=]MEGS", "set the size of the memory, in MiB or with a suffix (default 128M)",
             [&out](std::string_view given) { return take_memory(out, given); });
    line.add(0, "smp", "[cpus=]N", "set the number of harts, up to 8",
             [&out](std::string_view given) { return take_smp(out, given); });
    line.add(0, "bios", "FILE|default|none", "firmware (default: OpenSBI, of Debian's package opensbi)",
             [&out](std::string_view given) -> Result<void> {
                 out.bios = std::string(given);
                 return {};
             });
    line.add_text(0, "kernel", "FILE", "use FILE as kernel: an Image, an ELF file, or raw", out.kernel);
    line.add_text(0, "initrd", "FILE", "use FILE as the kernel's initial RAM disk", out.initrd);
    line.add_text(0, "append", "TEXT", "use TEXT as the kernel's command line", out.append);
    line.add(0, "device", "DRIVER[,PROPERTY=VALUE...]", "add a device; `help' and `DRIVER,help' list what there is",
             [&line, &out](std::string_view given) -> Result<void> {
                 if (auto help = device_help(given))
                     return line.printer([help] { return *help; })({});
                 out.devices.emplace_back(given);
                 return {};
             });
    line.add(0, "global", "virtio-mmio.force-legacy=on|off", "version 1 of virtio-mmio instead of 2",
             [&out](std::string_view given) { return take_global(out, given); });
    line.add_flag(0, "no-reboot", "end when the guest resets itself", out.no_reboot);
}

Result<void> check_machine_arguments(const MachineArguments& arguments) {
    if (!arguments.is_virt()) {
        if (!arguments.kernel.empty() || arguments.bios || !arguments.devices.empty())
            return fail("machine 'none' has no processor: -kernel, -bios and -device are for -M virt");
        return {};
    }
    if (arguments.kernel.empty() && !arguments.append.empty())
        return fail("-append only allowed with -kernel option");
    if (arguments.kernel.empty() && !arguments.initrd.empty())
        return fail("-initrd only allowed with -kernel option");
    return {};
}

}  // namespace ashlar
