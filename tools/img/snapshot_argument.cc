#include "tools/img/snapshot_argument.h"

#include "block/image_format.h"
#include "util/keyval.h"
#include "util/report.h"

#include <algorithm>

namespace ashlar::img {

namespace {

constexpr std::string_view kPrefix = "snapshot.";

// What a snapshot must have; empty: anything.
struct Wanted {
    std::string id, name;
};

Result<Wanted> parse(const std::string& argument) {
    auto parsed = parse_keyval_flat(argument);
    if (!parsed)
        return std::unexpected(std::move(parsed.error()));
    Wanted wanted;
    for (const auto& [key, value] : parsed->options.items()) {
        if (key == "snapshot.id")
            wanted.id = *json_string(value);
        else if (key == "snapshot.name")
            wanted.name = *json_string(value);
        else
            return fail("Invalid parameter '{}'", key);
    }
    return wanted;
}

}  // namespace

Result<void> check_snapshot_argument(const std::string& argument) {
    if (!argument.starts_with(kPrefix))
        return {};
    auto wanted = parse(argument);
    if (wanted)
        return {};
    error_report(wanted.error());
    return fail("Failed in parsing snapshot param '{}'", argument);
}

Task<Result<void>> co_show_snapshot(BlockBackend& image, std::string argument) {
    constexpr std::string_view kFailed = "Failed to load snapshot";
    ImageFormat* format = image.root()->driver().image_format();
    if (!format)
        co_return fail(
            "{}: Block format '{}' used by device '' does not support temporarily loading internal snapshots", kFailed,
            image.root()->type().name);
    const std::vector<ImageSnapshot> all = format->snapshots();
    const ImageSnapshot* found = nullptr;
    if (argument.starts_with(kPrefix)) {
        auto wanted = parse(argument);
        if (!wanted)
            co_return std::unexpected(std::move(wanted.error()));
        auto it = std::ranges::find_if(all, [&](const ImageSnapshot& snapshot) {
            return (wanted->id.empty() || snapshot.id == wanted->id) &&
                   (wanted->name.empty() || snapshot.name == wanted->name);
        });
        found = it == all.end() ? nullptr : &*it;
    } else {
        found = ImageFormat::find_snapshot(all, argument);
    }
    if (!found)
        co_return fail("{}: Can't find snapshot", kFailed);
    auto shown = co_await format->co_show_snapshot(found->id);
    if (!shown)
        co_return std::unexpected(std::move(shown.error()).prefixed(kFailed));
    co_return {};
}

}  // namespace ashlar::img
