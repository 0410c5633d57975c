// CommandLine: a program's options, each declared once, from which come parsing, --help and "did you mean".
//
//     CommandLine line("Usage: ashlar-nbd [OPTIONS] FILE");
//     line.heading("Connection properties");
//     line.add('k', "socket", "PATH", "listen on this Unix socket", [&](std::string_view path) { ... });
//     auto files = line.parse(argc, argv);
//
// Manners: that of getopt_long(3) with short and long options (the tools), the same with qemu-img's words for what is
// wrong, and that of qemu-system (`-drive ARG` or `--drive ARG`). A handler's error gets the option in front in the
// last:
// "-drive foo=1: ...".
#pragma once

#include "util/enum_names.h"
#include "util/error.h"

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ashlar {

class CommandLine {
public:
    using Handler = std::function<Result<void>(std::string_view argument)>;
    enum class Manner : unsigned char { Getopt, QemuImg, Qemu };

    explicit CommandLine(std::string usage, Manner manner = Manner::Getopt)
        : usage_(std::move(usage)), manner_(manner) {}

    void heading(std::string text);
    // `letter` 0: only the long name, and the reverse. `argument` empty: it takes none. `help` may have several lines.
    void add(char letter, std::string name, std::string argument, std::string help, Handler handler);
    // The common ones.
    void add_flag(char letter, std::string name, std::string help, bool& flag);
    void add_text(char letter, std::string name, std::string argument, std::string help, std::string& text);
    void add_list(char letter, std::string name, std::string argument, std::string help,
                  std::vector<std::string>& list);
    void add_trace(char letter);  // [--]trace, of util/trace.h

    // For an option that prints and so ends the program's work; the options behind it are parsed all the same.
    Handler printer(std::function<std::string()> text);
    bool has_printed() const { return has_printed_; }

    void epilogue(std::string text) { epilogue_ = std::move(text); }
    std::string help() const;

    // What has to hold when all options have been taken.
    void add_check(std::function<Result<void>()> check) { checks_.push_back(std::move(check)); }
    Result<void> check() const;

    // Calls the handlers in order, up to the first error; returns the arguments that are not options.
    Result<std::vector<std::string>> parse(int argc, char** argv) const;

private:
    struct Option {
        std::string heading;  // a heading when not empty, and then nothing else
        char letter = 0;
        std::string name = {};
        std::string argument = {};
        std::string help = {};
        Handler handler = {};
    };

    Result<std::vector<std::string>> parse_getopt(int argc, char** argv) const;
    Result<std::vector<std::string>> parse_qemu(int argc, char** argv) const;
    std::string suggestion(std::string_view name) const;
    std::string left_column(const Option& option) const;

    std::string usage_;
    Manner manner_;
    std::vector<Option> options_;
    std::vector<std::function<Result<void>()>> checks_;
    std::string epilogue_;
    bool has_printed_ = false;
};

// What goes with an error about how a program was called.
std::string help_hint();

// The error for a name that is none of these: `message` with the name for its {}, and what was probably meant.
std::unexpected<Error> unknown_name(std::string_view text, std::span<const std::string_view> names,
                                    std::string_view message);

template <NamedEnum E>
Result<void> take_enum(E& out, std::string_view text, std::string_view message) {
    if (auto value = parse_enum<E>(text)) {
        out = *value;
        return {};
    }
    std::vector<std::string_view> names;
    for (const auto& entry : enum_names(E{}))
        names.push_back(entry.name);
    return unknown_name(text, names, message);
}

}  // namespace ashlar
