#include "tools/command_line.h"

#include "util/keyval.h"
#include "util/report.h"
#include "util/similar.h"
#include "util/trace.h"

#include <getopt.h>

#include <fmt/core.h>
#include <algorithm>

namespace ashlar {

void CommandLine::heading(std::string text) {
    options_.push_back({.heading = std::move(text)});
}

void CommandLine::add(char letter, std::string name, std::string argument, std::string help, Handler handler) {
    options_.push_back({{}, letter, std::move(name), std::move(argument), std::move(help), std::move(handler)});
}

void CommandLine::add_flag(char letter, std::string name, std::string help, bool& flag) {
    add(letter, std::move(name), "", std::move(help), [&flag](std::string_view) -> Result<void> {
        flag = true;
        return {};
    });
}

void CommandLine::add_text(char letter, std::string name, std::string argument, std::string help, std::string& text) {
    add(letter, std::move(name), std::move(argument), std::move(help), [&text](std::string_view given) -> Result<void> {
        text = given;
        return {};
    });
}

void CommandLine::add_list(char letter, std::string name, std::string argument, std::string help,
                           std::vector<std::string>& list) {
    add(letter, std::move(name), std::move(argument), std::move(help), [&list](std::string_view given) -> Result<void> {
        list.emplace_back(given);
        return {};
    });
}

void CommandLine::add_trace(char letter) {
    add(letter, "trace", "[[enable=]PATTERN][,events=FILE][,file=FILE]", "enable trace events; `help' lists them",
        [this](std::string_view given) -> Result<void> {
            if (!is_help_request(given))
                return trace_configure(given);
            return printer(trace_help)({});
        });
}

std::string CommandLine::left_column(const Option& option) const {
    if (manner_ == Manner::Qemu) {
        std::string text = option.letter ? fmt::format("-{}{}", option.letter, option.name.empty() ? "" : ", ") : "";
        if (!option.name.empty())
            text += "-" + option.name;
        return option.argument.empty() ? text : text + " " + option.argument;
    }
    std::string text =
        option.letter ? fmt::format("  -{}{}", option.letter, option.name.empty() ? "" : ", ") : "      ";
    if (!option.name.empty())
        text += "--" + option.name;
    if (!option.argument.empty())
        text += (option.name.empty() ? " " : "=") + option.argument;
    return text;
}

CommandLine::Handler CommandLine::printer(std::function<std::string()> text) {
    return [this, text](std::string_view) -> Result<void> {
        if (!has_printed_)
            fmt::print("{}", text());
        has_printed_ = true;
        return {};
    };
}

std::string CommandLine::help() const {
    constexpr size_t kColumn = 28;
    std::string out = usage_ + "\n";
    for (const Option& option : options_) {
        if (!option.heading.empty()) {
            out += fmt::format("\n{}:\n", option.heading);
            continue;
        }
        std::string left = left_column(option);
        std::string_view rest = option.help;
        if (left.size() + 2 > kColumn) {
            out += left + "\n";
            left.clear();
        }
        do {
            size_t end = std::min(rest.find('\n'), rest.size());
            out += fmt::format("{:<{}}{}\n", left, kColumn, rest.substr(0, end));
            left.clear();
            rest.remove_prefix(std::min(end + 1, rest.size()));
        } while (!rest.empty());
    }
    if (!epilogue_.empty())
        out += "\n" + epilogue_;
    return out;
}

std::string CommandLine::suggestion(std::string_view name) const {
    std::vector<std::string_view> names;
    for (const Option& option : options_)
        if (!option.name.empty())
            names.push_back(option.name);
    auto similar = similar_name(name, names);
    std::string_view dashes = manner_ == Manner::Qemu ? "-" : "--";
    return similar ? fmt::format(" (did you mean '{}{}'?)", dashes, *similar) : "";
}

Result<void> CommandLine::check() const {
    for (const auto& check : checks_)
        if (auto checked = check(); !checked)
            return checked;
    return {};
}

Result<std::vector<std::string>> CommandLine::parse(int argc, char** argv) const {
    return manner_ == Manner::Qemu ? parse_qemu(argc, argv) : parse_getopt(argc, argv);
}

namespace {

template <class... Args>
std::unexpected<Error> misuse(fmt::format_string<Args...> format, Args&&... args) {
    return std::unexpected(Error{fmt::format(format, std::forward<Args>(args)...)}.with_hint(help_hint()));
}

}  // namespace

Result<std::vector<std::string>> CommandLine::parse_getopt(int argc, char** argv) const {
    constexpr int kFirst = 1000;  // values of options are indices from here, above those of letters
    std::string letters = ":";
    std::vector<option> longs;
    for (size_t i = 0; i < options_.size(); ++i) {
        const Option& o = options_[i];
        bool argument = !o.argument.empty();
        if (o.letter)
            letters.append(1, o.letter).append(argument ? ":" : "");
        if (!o.name.empty())
            longs.push_back(
                {o.name.c_str(), argument ? required_argument : no_argument, nullptr, kFirst + static_cast<int>(i)});
    }
    longs.push_back({});

    opterr = 0;
    optind = 0;  // from the start, whoever used getopt before
    for (;;) {
        optind = std::max(optind, 1);
        int before = optind;
        int got = getopt_long(argc, argv, letters.c_str(), longs.data(), nullptr);
        if (got == -1)
            break;
        if (got == ':' || got == '?') {
            std::string_view word = argv[std::max(optind, before + 1) - 1];
            if (manner_ == Manner::QemuImg)
                return got == ':' ? fail("missing argument for option '{}'", word)
                                  : fail("unrecognized option '{}'{}", word,
                                         word.starts_with("--") ? suggestion(word.substr(2)) : "");
            if (optopt >= kFirst) {
                const std::string& name = options_[static_cast<size_t>(optopt - kFirst)].name;
                return got == ':' ? misuse("option '--{}' requires an argument", name)
                                  : misuse("option '--{}' doesn't allow an argument", name);
            }
            if (optopt)
                return got == ':' ? misuse("option requires an argument -- '{}'", static_cast<char>(optopt))
                                  : misuse("invalid option -- '{}'", static_cast<char>(optopt));
            std::string_view name = word.substr(0, word.find('=')).substr(2);
            size_t similar = static_cast<size_t>(std::count_if(
                options_.begin(), options_.end(), [&](const Option& o) { return o.name.starts_with(name); }));
            if (similar > 1)
                return misuse("option '{}' is ambiguous", word);
            return misuse("unrecognized option '{}'{}", word, suggestion(name));
        }
        auto it = std::find_if(options_.begin(), options_.end(), [&](const Option& o) { return o.letter == got; });
        const Option& found = got >= kFirst ? options_[static_cast<size_t>(got - kFirst)] : *it;
        if (auto done = found.handler(optarg ? optarg : ""); !done)
            return std::unexpected(std::move(done.error()));
    }
    return std::vector<std::string>(argv + optind, argv + argc);
}

Result<std::vector<std::string>> CommandLine::parse_qemu(int argc, char** argv) const {
    std::vector<std::string> rest;
    for (int i = 1; i < argc; ++i) {
        std::string_view word = argv[i];
        if (!word.starts_with('-') || word == "-") {
            rest.emplace_back(word);
            continue;
        }
        std::string_view name = word.substr(word.starts_with("--") ? 2 : 1);
        auto it = std::find_if(options_.begin(), options_.end(), [&](const Option& o) {
            return o.heading.empty() && (o.name == name || (o.letter && name == std::string_view(&o.letter, 1)));
        });
        if (it == options_.end())
            return fail("{}: invalid option{}", word, suggestion(name));
        std::string_view argument;
        if (!it->argument.empty()) {
            if (++i == argc)
                return fail("{}: requires an argument", word);
            argument = argv[i];
        }
        if (auto done = it->handler(argument); !done)
            return std::unexpected(
                std::move(done.error())
                    .prefixed(argument.empty() ? std::string(word) : fmt::format("{} {}", word, argument)));
    }
    return rest;
}

std::unexpected<Error> unknown_name(std::string_view text, std::span<const std::string_view> names,
                                    std::string_view message) {
    return fail("{}{}", fmt::format(fmt::runtime(message), text), did_you_mean(text, names));
}

std::string help_hint() {
    return fmt::format("Try `{} --help' for more information.", program_name());
}

}  // namespace ashlar
