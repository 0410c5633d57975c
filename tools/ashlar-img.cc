// ashlar-img: makes, examines, copies and changes disk images; the counterpart of qemu-img.
#include "block/image_options.h"
#include "monitor/version.h"
#include "tools/img/command.h"
#include "tools/object_option.h"
#include "tools/prepare_process.h"
#include "util/keyval.h"
#include "util/report.h"
#include "util/sync_wait.h"
#include "util/thread_pool.h"
#include "util/trace.h"

#include <algorithm>
#include <cstdio>

using namespace ashlar;

namespace {

using img::CommandType;

constexpr const CommandType* kCommands[] = {
    &img::kAmend,   &img::kBench,   &img::kBitmap,   &img::kCheck,  &img::kCommit,
    &img::kCompare, &img::kConvert, &img::kCreate,   &img::kDd,     &img::kInfo,
    &img::kMap,     &img::kMeasure, &img::kSnapshot, &img::kRebase, &img::kResize,
};

constexpr std::string_view kUsage =
    "usage: ashlar-img [standard options] command [command options]\n"
    "Ashlar's disk image utility\n"
    "\n"
    "    '-h', '--help'       display this help and exit\n"
    "    '-V', '--version'    output version information and exit\n"
    "    '-T', '--trace'      [[enable=]<pattern>][,events=<file>][,file=<file>]\n"
    "                         specify tracing options\n"
    "\n"
    "Command syntax:\n";

constexpr std::string_view kParameters =
    "\n"
    "Command parameters:\n"
    "  'filename' is a disk image: a path, PROTOCOL:..., json:{...}, or with --image-opts options\n"
    "  'objectdef' is an object definition: TYPE,id=ID,...\n"
    "  'fmt' is the disk image format. It is guessed automatically in most cases\n"
    "  'cache' is the cache mode used to write the output disk image, the valid\n"
    "    options are: 'none', 'writeback' (default, except for convert), 'writethrough',\n"
    "    'directsync' and 'unsafe' (default for convert)\n"
    "  'src_cache' is the cache mode used to read input disk images, the valid\n"
    "    options are the same as for the 'cache' option\n"
    "  'size' is the disk image size in bytes, with the suffixes k, M, G, T, P and E for\n"
    "    powers of 1024\n"
    "  'options' is a comma separated list of format specific options in a name=value\n"
    "    format; -o help lists them\n"
    "  'snapshot_param' is snapshot.id=[ID],snapshot.name=[NAME] or [ID_OR_NAME]\n"
    "  '-p' show progress of command (only certain commands); without it, SIGUSR1 asks for it\n"
    "  '-q' use Quiet mode - do not print any output (except errors)\n"
    "\n"
    "`ashlar-img COMMAND --help' lists the options of a command; ashlar-img(1) says more.\n"
    "\n";

std::string help(const DriverRegistry& drivers) {
    std::string text(kUsage);
    for (const CommandType* type : kCommands)
        text += fmt::format("  {} {}\n", type->name, type->syntax);
    text += kParameters;
    return text + formats_help(drivers);
}

Result<int> run(int argc, char** argv) {
    DriverRegistry drivers;
    register_all_drivers(drivers);

    // The standard options come before the command, whose own are behind it.
    CommandLine standard("", CommandLine::Manner::QemuImg);
    standard.add('h', "help", "", "", standard.printer([&] { return version_text("ashlar-img") + help(drivers); }));
    standard.add('V', "version", "", "", standard.printer([] { return version_text("ashlar-img"); }));
    standard.add('T', "trace", "PATTERN", "", [&standard](std::string_view given) -> Result<void> {
        if (!is_help_request(given))
            return trace_configure(given);
        return standard.printer(trace_help)({});
    });
    int own = 1;
    while (own < argc && argv[own][0] == '-') {
        std::string_view word = argv[own++];
        if ((word == "-T" || word == "--trace") && own < argc)
            ++own;
    }
    if (auto parsed = standard.parse(std::min(own, argc), argv); !parsed)
        return std::unexpected(img::usage_error(std::move(parsed.error().message)));
    if (standard.has_printed())
        return 0;
    if (own >= argc)
        return std::unexpected(img::usage_error("Not enough arguments"));

    const std::string_view name = argv[own];
    auto found = std::ranges::find(kCommands, name, &CommandType::name);
    if (found == std::end(kCommands))
        return std::unexpected(img::usage_error(fmt::format("Command not found: {}", name)));
    auto command = (*found)->make();
    auto made = AioContext::create();
    if (!made)
        return std::unexpected(std::move(made.error()));
    AioContext& context = **made;
    BlockGraph graph(context, drivers);
    UserObjects objects(graph);

    CommandLine line(fmt::format("usage: ashlar-img {} {}", name, (*found)->syntax), CommandLine::Manner::QemuImg);
    line.add('h', "help", "", "display this help and exit", line.printer([&] { return line.help(); }));
    add_object_option(line, [&objects](std::string_view given) { return objects.add(given); });
    command->declare(line);
    std::vector<char*> words(argv + own, argv + argc);
    std::string last;
    if (command->has_signed_last() && words.size() > 1 && words.back()[0] == '-' && isdigit(words.back()[1])) {
        last = words.back();
        words.pop_back();
    }
    words.push_back(nullptr);
    auto arguments = line.parse(static_cast<int>(words.size()) - 1, words.data());
    if (arguments && !last.empty())
        arguments->push_back(last);
    if (!arguments) {
        const std::string& message = arguments.error().message;
        const bool usage = message.starts_with("unrecognized option") || message.starts_with("missing argument");
        if (usage)
            return std::unexpected(img::usage_error(message));
        error_report(arguments.error());
        return command->failure_status();
    }
    if (line.has_printed())
        return 0;
    if (auto taken = command->take(std::move(*arguments)); !taken)
        return std::unexpected(std::move(taken.error()));
    if (auto checked = line.check(); !checked) {
        error_report(checked.error());
        return command->failure_status();
    }
    if (!command->has_work())
        return 0;
    set_own_work(OwnWork::BlockingCalls);  // there is nobody to answer meanwhile
    auto status = sync_wait(context, command->co_run(graph));
    if (auto closed = sync_wait(context, graph.co_close_all()); !closed && status)
        status = std::unexpected(std::move(closed.error()));
    if (!status) {
        error_report(status.error());
        return command->failure_status();
    }
    return status;
}

}  // namespace

int main(int argc, char** argv) {
    prepare_process(argv[0]);
    auto status = run(argc, argv);
    if (!status)
        error_report(status.error());
    if (fflush(stdout) != 0 || ferror(stdout)) {
        error_report("cannot write to standard output: {}", std::strerror(errno));
        return 1;
    }
    return status.value_or(1);
}
