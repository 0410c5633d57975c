// What several subcommands take: sizes with their suffixes, --output, image arguments in the manner of qemu-img, and
// opening what they name.
#pragma once

#include "block/block_backend.h"
#include "tools/command_line.h"
#include "tools/image_arguments.h"
#include "util/error.h"

#include <string>
#include <string_view>

namespace ashlar::img {

// "Invalid WHAT specified. You may use k, M, G, T, P or E suffixes for ...", or with the limits, both included.
Result<int64_t> parse_bytes(std::string_view what, std::string_view text, int64_t min = 0, int64_t max = INT64_MAX);
// For an option that is one: 0 means what is not said.
CommandLine::Handler bytes_option(std::string_view what, int64_t& out, int64_t min = 0, int64_t max = INT64_MAX);

enum class OutputFormat : unsigned char { Human, Json };
void add_output_option(CommandLine& line, OutputFormat& format);

void add_quiet_option(CommandLine& line, bool& quiet);
// -f and --image-opts; letters as ImageArguments::add_to() has them.
void add_image_options(CommandLine& line, ImageArguments& image, std::string_view letters);
// Another option for a cache mode: `letter` of the image, with qemu-img's words.
void add_cache_option(CommandLine& line, char letter, ImageArguments& image, std::string help,
                      std::string_view message = "Invalid cache option: {}");

// "Could not open 'NAME': ..."
[[nodiscard]] Task<Result<std::unique_ptr<BlockBackend>>> co_open(BlockGraph& graph, std::string name,
                                                                  ImageArguments arguments);
// The same with more options for the node, an object: {"backing": null}.
[[nodiscard]] Task<Result<std::unique_ptr<BlockBackend>>> co_open_with(BlockGraph& graph, std::string name,
                                                                       ImageArguments arguments, Json more);
// Closes; the first error of both counts.
[[nodiscard]] Task<Result<int>> co_close(std::unique_ptr<BlockBackend> backend, Result<int> so_far);

// Exactly one: "Expecting one image file name".
Result<void> take_one_name(std::vector<std::string> arguments, std::string& name);

}  // namespace ashlar::img
