// What the programs that serve have in common: main()'s frame, and how they go into the background and say that they
// are ready.
#pragma once

#include "tools/daemonize.h"
#include "tools/pid_file.h"
#include "tools/prepare_process.h"
#include "util/report.h"

#include <optional>
#include <string>
#include <type_traits>

namespace ashlar {

class Readiness {
public:
    // Before any thread or AioContext exists; in the background the starter does not return (Daemonizer).
    static Result<Readiness> create(bool background, std::string pid_file);

    // A person at the terminal is told what is served where.
    bool is_watched() const;
    // Clients can connect: writes the pid file, lets go of the starter and of the terminal.
    Result<void> announce();

private:
    std::optional<Daemonizer> daemonizer_;
    std::string pid_file_name_;
    PidFile pid_file_;  // while the program runs
};

// `parse` gives nothing when all that was asked for has been printed. `run` gives nothing, or an exit status. Returns
// the exit status.
template <class Options, class Outcome>
int program_main(int argc, char** argv, Result<std::optional<Options>> (*parse)(int, char**),
                 Result<Outcome> (*run)(const Options&)) {
    prepare_process(argv[0]);
    auto options = parse(argc, argv);
    if (options && !*options)
        return 0;
    Result<Outcome> result = options ? run(**options) : std::unexpected(std::move(options.error()));
    if (result) {
        if constexpr (std::is_void_v<Outcome>)
            return 0;
        else
            return *result;
    }
    error_report(result.error());
    return 1;
}

}  // namespace ashlar
