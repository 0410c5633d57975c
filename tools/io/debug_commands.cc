// break, resume, wait_break, remove_break: requests stopped by blkdebug. abort, sigraise, sleep.
#include "block/blkdebug.h"
#include "tools/io/command.h"
#include "tools/io/shell.h"
#include "util/size.h"
#include "util/timer.h"

#include <fmt/core.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

namespace ashlar {

namespace {

bool fail_with(std::string_view what, int error) {
    fmt::print("{}: {}\n", what, strerror(error));
    return false;
}

Task<bool> co_break(IoShell& shell, IoArguments& arguments) {
    Blkdebug* rules = shell.blkdebug();
    if (!rules)
        co_return fail_with("Could not set breakpoint", ENOTSUP);
    auto event = parse_enum<BlkdebugEvent>(arguments.words()[1]);
    if (!event)
        co_return fail_with("Could not set breakpoint", ENOENT);
    rules->add_breakpoint(*event, arguments.words()[2]);
    co_return true;
}

Task<bool> co_remove_break(IoShell& shell, IoArguments& arguments) {
    Blkdebug* rules = shell.blkdebug();
    const std::string& tag = arguments.words()[1];
    const int error = !rules ? ENOTSUP : rules->remove_breakpoint(tag) ? 0 : ENOENT;
    co_return error ? fail_with("Could not remove breakpoint " + tag, error) : true;
}

Task<bool> co_resume(IoShell& shell, IoArguments& arguments) {
    Blkdebug* rules = shell.blkdebug();
    const int error = !rules ? ENOTSUP : rules->resume(arguments.words()[1]) ? 0 : ENOENT;
    co_return error ? fail_with("Could not resume request", error) : true;
}

Task<bool> co_wait_break(IoShell& shell, IoArguments& arguments) {
    if (!shell.blkdebug())  // it would wait for ever
        co_return fail_with("Could not wait for a breakpoint", ENOTSUP);
    co_await shell.co_wait_suspended(arguments.words()[1]);
    co_return true;
}

Task<bool> co_abort(IoShell&, IoArguments&) {
    abort();
}

Task<bool> co_sigraise(IoShell&, IoArguments& arguments) {
    auto number = take_size(arguments.words()[1]);
    if (!number)
        co_return false;
    if (*number > NSIG) {
        fmt::print("signal argument '{}' is too large to be a valid signal\n", arguments.words()[1]);
        co_return false;
    }
    fflush(nullptr);
    raise(static_cast<int>(*number));
    co_return true;
}

// Requests go on meanwhile.
Task<bool> co_sleep_command(IoShell&, IoArguments& arguments) {
    auto milliseconds = parse_int64(arguments.words()[1]);
    if (!milliseconds || *milliseconds < 0 || *milliseconds > INT64_MAX / 1'000'000) {
        fmt::print("{} is not a valid number\n", arguments.words()[1]);
        co_return false;
    }
    co_await co_sleep(*milliseconds * 1'000'000);
    co_return true;
}

constexpr IoCommand kCommands[] = {
    {.name = "break",
     .usage = "event tag",
     .help = "sets a breakpoint on event and tags the stopped request as tag",
     .min_arguments = 2,
     .max_arguments = 2,
     .run = co_break},
    {.name = "remove_break",
     .usage = "tag",
     .help = "remove a breakpoint by tag",
     .min_arguments = 1,
     .max_arguments = 1,
     .run = co_remove_break},
    {.name = "resume",
     .usage = "tag",
     .help = "resumes the request tagged as tag",
     .min_arguments = 1,
     .max_arguments = 1,
     .run = co_resume},
    {.name = "wait_break",
     .usage = "tag",
     .help = "waits for the suspension of a request",
     .min_arguments = 1,
     .max_arguments = 1,
     .run = co_wait_break},
    {.name = "abort", .help = "simulate a program crash using abort(3)", .needs_image = false, .run = co_abort},
    {.name = "sigraise",
     .usage = "signal",
     .help = "raises a signal",
     .long_help = R"(
 raises the given signal

 Example:
 'sigraise 15' - raises SIGTERM

 Invokes raise(signal), where "signal" is the mandatory integer argument
 given to sigraise.

)",
     .min_arguments = 1,
     .max_arguments = 1,
     .needs_image = false,
     .run = co_sigraise},
    {.name = "sleep",
     .help = "waits for the given value in milliseconds",
     .min_arguments = 1,
     .max_arguments = 1,
     .needs_image = false,
     .run = co_sleep_command},
};

}  // namespace

std::span<const IoCommand> debug_commands() {
    return kCommands;
}

}  // namespace ashlar
