// What a subcommand of ashlar-img is: one file each, which declares its options, takes its arguments and does its work.
//
// ashlar-img.cc makes the one that is asked for, lets it declare its options, parses, and runs co_run() in the main
// context. An Error of co_run() is printed and gives failure_status(); what it returns is the exit status otherwise.
#pragma once

#include "block/block_graph.h"
#include "tools/command_line.h"
#include "util/error.h"
#include "util/task.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ashlar::img {

class Command {
public:
    virtual ~Command() = default;

    virtual void declare(CommandLine& line) = 0;
    // What is not an option. All options have been taken.
    virtual Result<void> take(std::vector<std::string> arguments) = 0;
    virtual Task<Result<int>> co_run(BlockGraph& graph) = 0;
    // True if the last argument is never an option, even if it begins with '-'.
    virtual bool has_signed_last() const { return false; }
    virtual int failure_status() const { return 1; }
    // False once take() has done everything there was to do (-o help).
    bool has_work() const { return has_work_; }

protected:
    bool has_work_ = true;
};

struct CommandType {
    std::string_view name;
    std::string_view syntax;  // behind the name, in --help
    std::unique_ptr<Command> (*make)();
};

template <class T>
std::unique_ptr<Command> make_command() {
    return std::make_unique<T>();
}

extern const CommandType kAmend, kBench, kBitmap, kCheck, kCommit, kCompare, kConvert, kCreate, kDd, kInfo, kMap,
    kMeasure, kRebase, kResize, kSnapshot;

// An error in how the program was called: with the way to the help.
Error usage_error(std::string message);

}  // namespace ashlar::img
