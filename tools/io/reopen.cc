#include "tools/io/reopen.h"

#include "block/block_graph.h"

namespace ashlar {

namespace {

// Adds what is to become of `node`, and of those below whose options are given, to `all`.
Result<void> add_node(std::vector<Json>& all, const BlockDriverState& node, Json options, const Json& changes) {
    for (const auto& [key, value] : changes.items()) {
        BdrvChild* child = node.find_child(key);
        if (!child || !value.is_object()) {
            options[key] = value;
            continue;
        }
        if (auto added = add_node(all, child->node(), node.graph().given_options(child->node()), value); !added)
            return added;
    }
    all.push_back(std::move(options));
    return {};
}

Json cache_options(bool direct, bool no_flush) {
    return {{"direct", direct}, {"no-flush", no_flush}};
}

}  // namespace

Task<Result<void>> co_reopen(BlockBackend& backend, BlockDriverState& node, IoReopen change) {
    if (change.read_only && change.options.contains("read-only"))
        co_return fail("Cannot set both -r/-w and 'read-only'");
    if (change.cache && change.options.contains("cache"))
        co_return fail("Cannot set both -c and the cache options");

    // The flags as they are, said aloud: what the node was opened with as a default is none when reopening.
    const NodeFlags& flags = node.flags();
    Json options = backend.graph().given_options(node);
    options["read-only"] = change.read_only.value_or(flags.read_only);
    options["auto-read-only"] = flags.auto_read_only;
    options["discard"] = enum_name(flags.discard);
    options["detect-zeroes"] = enum_name(flags.detect_zeroes);
    options["force-share"] = flags.force_share;
    options["cache"] = change.cache ? cache_options(is_direct(*change.cache), is_no_flush(*change.cache))
                                    : cache_options(flags.direct, flags.no_flush);
    if (auto given = change.options.find("cache"); given != change.options.end() && given->is_object()) {
        options["cache"].update(*given);
        change.options.erase(given);
    }
    std::vector<Json> all;
    if (auto added = add_node(all, node, std::move(options), change.options); !added)
        co_return added;

    const ChildPerm before = backend.perms();
    if (change.read_only == true) {
        ChildPerm reading = before;
        reading.perm = reading.perm & ~(BlockPerm::Write | BlockPerm::Resize);
        if (auto dropped = backend.set_perms(reading); !dropped)
            co_return dropped;
    }
    auto done = co_await backend.graph().co_blockdev_reopen(std::move(all), Typing::Lenient);
    if (done && change.cache)
        backend.set_write_cache(is_writeback(*change.cache));
    if (!done && backend.perms() != before)
        if (auto restored = backend.set_perms(before); !restored)
            co_return restored;
    co_return done;
}

}  // namespace ashlar
