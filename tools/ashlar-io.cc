// ashlar-io: makes requests to a disk image, as it is told; the counterpart of qemu-io.
#include "monitor/user_objects.h"
#include "tools/ashlar_io_options.h"
#include "tools/io/line_input.h"
#include "tools/io/shell.h"
#include "tools/prepare_process.h"
#include "util/json.h"
#include "util/report.h"
#include "util/sync_wait.h"

using namespace ashlar;

namespace {

class IoProgram {
public:
    IoProgram(AioContext& context, const DriverRegistry& drivers, const AshlarIoOptions& options)
        : options_(options), shell_(context, drivers), objects_(shell_.graph()) {
        shell_.misalign = options.misalign;
    }

    // True if all has gone well.
    Task<bool> co_run() {
        bool ok = co_await co_start() && co_await co_run_commands();
        ok &= check(co_await shell_.co_close());
        ok &= check(co_await shell_.graph().co_close_all());
        co_return ok;
    }

private:
    static bool check(Result<void> result) {
        if (!result)
            error_report(result.error());
        return result.has_value();
    }

    Task<bool> co_start() {
        for (const std::string& object : options_.objects)
            if (!check(objects_.add(object)))
                co_return false;
        if (options_.file.empty())
            co_return true;
        co_return check(co_await shell_.co_open(options_.file, options_.image, Json::object()));
    }

    Task<bool> co_run_commands() {
        bool ok = true;
        if (options_.commands.empty()) {
            LineInput input(program_name() + "> ");
            while (!shell_.has_quit()) {
                auto line = co_await input.co_next();
                if (!line)
                    break;
                ok &= co_await shell_.co_run(std::move(*line));
            }
            co_return ok;
        }
        for (const std::string& command : options_.commands) {
            ok &= co_await shell_.co_run(command);
            if (shell_.has_quit())
                break;
        }
        co_return ok;
    }

    const AshlarIoOptions& options_;
    IoShell shell_;
    UserObjects objects_;
};

Result<bool> run(const AshlarIoOptions& options) {
    auto context = AioContext::create();
    if (!context)
        return std::unexpected(std::move(context.error()));
    DriverRegistry drivers;
    register_all_drivers(drivers);
    IoProgram program(**context, drivers, options);
    return sync_wait(**context, program.co_run());
}

}  // namespace

int main(int argc, char** argv) {
    prepare_process(argv[0]);
    auto options = parse_ashlar_io_options(argc, argv);
    if (options && !*options)
        return 0;
    Result<bool> ok = options ? run(**options) : std::unexpected(std::move(options.error()));
    if (!ok)
        error_report(ok.error());
    return ok.value_or(false) ? 0 : 1;
}
