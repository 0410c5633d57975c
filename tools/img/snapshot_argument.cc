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
    return co_show_snapshot(*image.root(), std::move(argument));
}

Task<Result<void>> co_show_snapshot(BlockDriverState& image, std::string argument) {
    constexpr std::string_view kFailed = "Failed to load snapshot";
    ImageFormat* format = image.driver().image_format();
    if (!format)
        co_return fail(
            "{}: Block format '{}' used by device '' does not support temporarily loading internal snapshots", kFailed,
            image.type().name);
    const std::vector<ImageSnapshot> all = format->snapshots();
    auto find = [&](auto matches) {
        auto it = std::ranges::find_if(all, matches);
        return it == all.end() ? nullptr : &*it;
    };
    const ImageSnapshot* found = nullptr;
    if (argument.starts_with(kPrefix)) {
        auto wanted = parse(argument);
        if (!wanted)
            co_return std::unexpected(std::move(wanted.error()));
        found = find([&](const ImageSnapshot& s) {
            return (wanted->id.empty() || s.id == wanted->id) && (wanted->name.empty() || s.name == wanted->name);
        });
    } else {
        // Unlike for what changes an image, an id goes before a name.
        found = find([&](const ImageSnapshot& s) { return s.id == argument; });
        if (!found)
            found = find([&](const ImageSnapshot& s) { return s.name == argument; });
    }
    if (!found)
        co_return fail("{}: Can't find snapshot", kFailed);
    auto shown = co_await format->co_show_snapshot(found->id);
    if (!shown)
        co_return std::unexpected(std::move(shown.error()).prefixed(kFailed));
    co_return {};
}

}  // namespace ashlar::img
