#include "util/similar.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

namespace ashlar {

namespace {

constexpr size_t kMaxName = 64;  // longer ones are not slips of anything that we know

// Insertions, deletions, replacements, and swaps of neighbours.
size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
    for (size_t j = 0; j <= b.size(); ++j)
        row[j] = j;
    for (size_t i = 1; i <= a.size(); ++i) {
        std::swap(before, above);
        std::swap(above, row);
        row[0] = i;
        for (size_t j = 1; j <= b.size(); ++j) {
            row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1])});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = std::min(row[j], before[j - 2] + 1);
        }
    }
    return row[b.size()];
}

}  // namespace

std::optional<std::string_view> similar_name(std::string_view name, std::span<const std::string_view> candidates) {
    std::optional<std::string_view> best;
    if (name.size() > kMaxName)
        return best;
    size_t nearest = name.size() / 3 + 1;  // a distance of at most this many edits
    for (std::string_view candidate : candidates) {
        size_t distance = edit_distance(name, candidate);
        if (distance < candidate.size() && (best ? distance < nearest : distance <= nearest)) {
            best = candidate;
            nearest = distance;
        }
    }
    return best;
}

std::string did_you_mean(std::string_view name, std::span<const std::string_view> candidates) {
    auto near = similar_name(name, candidates);
    return near ? fmt::format(" (did you mean '{}'?)", *near) : std::string();
}

}  // namespace ashlar
