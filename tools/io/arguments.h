// The words of a command of ashlar-io: how a line is split, and how commands take options and numbers from it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ashlar {

struct IoCommand;

// The words of a line, which single spaces separate: quotes, tabs and backslashes are characters like others, as in
// qemu-io.
std::vector<std::string> split_io_line(std::string_view line);

// For one command at a time: options are parsed by getopt(3), which keeps its state for itself.
class IoArguments {
public:
    // words[0] is the command's name, as typed.
    IoArguments(const IoCommand& command, std::vector<std::string> words);

    const std::string& name() const { return words_[0]; }
    int count() const { return static_cast<int>(words_.size()) - 1; }
    std::span<const std::string> words() const { return words_; }  // for commands without options

    // The next option among `letters`, in getopt(3)'s syntax; '?' for one that is not, which has been reported; 0 when
    // there is no more.
    char next_option(const char* letters);
    std::string option_argument() const;
    // What is left when next_option() has returned 0.
    std::span<const std::string> rest() const { return rest_; }

    // Prints how the command is used. Returns false, for the command to return.
    bool wrong_usage() const;

private:
    const IoCommand& command_;
    std::vector<std::string> words_;
    std::vector<char*> argv_;
    std::vector<std::string> rest_;
    bool started_ = false;
};

// Each prints what is wrong.
std::optional<int64_t> take_size(const std::string& text);
std::optional<int> take_pattern(const std::string& text);  // a byte
bool is_sector_aligned(int64_t value, std::string_view name);

}  // namespace ashlar
