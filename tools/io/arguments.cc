#include "tools/io/arguments.h"

#include "tools/io/command.h"
#include "util/size.h"

#include <fmt/core.h>
#include <getopt.h>

#include <algorithm>
#include <cerrno>

namespace ashlar {

std::vector<std::string> split_io_line(std::string_view line) {
    std::vector<std::string> words;
    while (!line.empty()) {
        size_t end = std::min(line.find(' '), line.size());
        if (end > 0)
            words.emplace_back(line.substr(0, end));
        line.remove_prefix(std::min(end + 1, line.size()));
    }
    return words;
}

IoArguments::IoArguments(const IoCommand& command, std::vector<std::string> words)
    : command_(command), words_(std::move(words)) {
    for (std::string& word : words_)
        argv_.push_back(word.data());
    argv_.push_back(nullptr);
}

char IoArguments::next_option(const char* letters) {
    if (!started_) {
        optind = 0;  // glibc: begin anew
        opterr = 1;
        started_ = true;
    }
    const int argc = static_cast<int>(words_.size());
    int option = getopt(argc, argv_.data(), letters);
    if (option != -1)
        return static_cast<char>(option);
    rest_.assign(argv_.begin() + optind, argv_.begin() + argc);
    return 0;
}

std::string IoArguments::option_argument() const {
    return optarg ? optarg : "";
}

bool IoArguments::wrong_usage() const {
    fmt::print("{}", usage_line(command_, command_.name));
    return false;
}

std::optional<int64_t> take_size(const std::string& text) {
    auto size = parse_size(text);
    if (size && *size <= INT64_MAX)
        return static_cast<int64_t>(*size);
    if (size || size.error() == -ERANGE)
        fmt::print("Parsing error: argument too large -- {}\n", text);
    else
        fmt::print("Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- {}\n", text);
    return std::nullopt;
}

std::optional<int> take_pattern(const std::string& text) {
    auto pattern = parse_int64(text);
    if (pattern && *pattern >= 0 && *pattern <= 255)
        return static_cast<int>(*pattern);
    fmt::print("{} is not a valid pattern byte\n", text);
    return std::nullopt;
}

bool is_sector_aligned(int64_t value, std::string_view name) {
    if (value % kSectorSize == 0)
        return true;
    fmt::print("{} is not a sector-aligned value for '{}'\n", value, name);
    return false;
}

}  // namespace ashlar
