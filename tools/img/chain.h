// Images one by one, without their backing files: for what looks at a chain of them, whether or not all of it can be
// opened, and for what says itself how the rest is to be opened.
#pragma once

#include "block/image_info.h"
#include "tools/img/arguments.h"

#include <string>
#include <vector>

namespace ashlar::img {

// How an image is to be opened: with its driver named, whatever was said or found by a look at the file.
struct ResolvedImage {
    Json options;
    Typing typing;
    const DriverType* type;  // null: no such driver, as opening it will tell
};
[[nodiscard]] Task<Result<ResolvedImage>> co_resolve(BlockGraph& graph, std::string name, ImageArguments arguments);

// Like co_open(), but no backing file is opened.
[[nodiscard]] Task<Result<std::unique_ptr<BlockBackend>>> co_open_alone(BlockGraph& graph, std::string name,
                                                                        ImageArguments arguments);

// What is to be said of an image, by opening it in that way. The file's name in it is name_of().
[[nodiscard]] Task<Result<ImageInfo>> co_info(BlockGraph& graph, std::string name, ImageArguments arguments);

// The name of the file of an image that was opened in that way, as it was found.
std::string name_of(const BlockDriverState& node);

}  // namespace ashlar::img
