// Names of images: with or without a protocol in front, absolute or relative. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ashlar {

// "nbd" of "nbd:host:10809"; none if a slash comes before the colon ("./a:b" is a file) or the name is "json:...".
std::optional<std::string_view> protocol_prefix(std::string_view filename);

// What `name`, as written in the image `base` (as the name of its backing file), means: next to `base` if it is
// relative. "dir/a.img" and "b.img" give "dir/b.img"; protocols stay in front: "nbd://host/a" and "b": "nbd://host/b".
std::string combine_names(std::string_view base, std::string_view name);

}  // namespace ashlar
