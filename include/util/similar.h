// The name that somebody probably meant: for "did you mean 'x'?".
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ashlar {

// The candidate nearest to `name` by edit distance, if any is near enough to be a slip.
std::optional<std::string_view> similar_name(std::string_view name, std::span<const std::string_view> candidates);

// " (did you mean 'x'?)", or nothing.
std::string did_you_mean(std::string_view name, std::span<const std::string_view> candidates);

}  // namespace ashlar
