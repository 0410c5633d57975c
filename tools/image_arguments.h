// ImageArguments: what a tool's command line says of how an image is to be opened, and opening it.
//
//     ImageArguments image;
//     image.add_to(line, "frU");                   // -f, -r, -U and --image-opts
//     auto node = co_await co_open_node(graph, name, image);
//
// A program that gives an option another letter, or none, declares it itself and calls the setter.
#pragma once

#include "block/block_graph.h"
#include "block/cache_mode.h"
#include "block/node_flags.h"
#include "tools/command_line.h"
#include "util/error.h"
#include "util/keyval.h"
#include "util/task.h"

#include <memory>
#include <string>
#include <string_view>

namespace ashlar {

struct ImageArguments {
    std::string format;       // empty: probed
    bool image_opts = false;  // the image's name is options: key=value,...
    CacheMode cache = CacheMode::Writeback;
    std::string aio;            // of the file; empty: the driver's default
    NodeFlags flags;            // but for what follows from `cache`
    bool snapshot = false;      // writes go to a temporary file
    bool copy_on_read = false;  // what is read from a backing file is kept
    bool resize = false;        // its length may change

    bool operator==(const ImageArguments&) const = default;
    NodeFlags node_flags() const;

    // "Invalid cache option: x", or `message` with its {}.
    Result<void> set_cache(std::string_view mode, std::string_view message = "Invalid cache option: {}");
    Result<void> set_discard(std::string_view mode, std::string_view message = "Invalid discard option: {}");
    Result<void> set_aio(std::string_view mode, std::string_view message = "Invalid aio option: {}");
    // That all this goes together; `format_option` as the program calls it.
    Result<void> check(std::string_view format_option = "-f") const;

    // --image-opts, and of these the ones that `letters` has: -f, --format=FMT; -r, --read-only; -U, --force-share;
    // -t, --cache=MODE; -n, --nocache; -d, --discard=MODE; -i, --aio=MODE; -k, --native-aio; -s, --snapshot; -C,
    // --copy-on-read.
    void add_to(CommandLine& line, std::string_view letters);
};

// What `name`, a file name or, with image_opts, options, stands for: options for BlockGraph::co_open(). `more` are
// options beside it, which may name the file as well if `name` is empty.
Result<Keyval> image_keyval(const DriverRegistry& drivers, std::string name, const ImageArguments& arguments,
                            Json more = Json::object());

// What a user of an image may do with it, and what it lets others do: it must not change under who reads it, unless
// it is opened with force-share.
ChildPerm image_perms(const NodeFlags& flags, bool resize = false);

// As for image_keyval(), with what -s and -C add. Errors are those of opening, without the name in front. The caller
// owns one reference.
[[nodiscard]] Task<Result<BlockDriverState*>> co_open_node(BlockGraph& graph, std::string name,
                                                           ImageArguments arguments, Json more = Json::object());

// Opens a node whose options refer to `below` by its name, and gives the caller's reference to that away.
[[nodiscard]] Task<Result<BlockDriverState*>> co_open_over(BlockGraph& graph, BlockDriverState& below, Json options,
                                                           NodeFlags flags);

}  // namespace ashlar
