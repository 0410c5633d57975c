// Which image format a first sector belongs to, of all that are known, whether or not there is a driver for it.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace ashlar {

std::string_view format_of_header(std::span<const std::byte> head);  // "" if none

}  // namespace ashlar
