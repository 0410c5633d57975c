#include "block/file_name.h"
#include "block/graph_transaction.h"
#include "block/open_spec.h"
#include "util/buffer_pool.h"
#include "util/keyval.h"
#include "util/report.h"

#include <algorithm>

namespace ashlar {

namespace {

constexpr std::string_view kJsonPrefix = "json:";

std::string take_string(Json& options, const char* key) {
    const Json* value = json_find(options, key);
    const std::string* text = value ? json_string(*value) : nullptr;
    std::string taken = text ? *text : "";
    if (text)
        options.erase(key);
    return taken;
}

// {"filename": "json:{...}", ...} to the object with what is beside it.
Result<void> expand_json_name(Json& options, Typing& typing) {
    const Json* value = json_find(options, "filename");
    const std::string* text = value ? json_string(*value) : nullptr;
    if (!text || !text->starts_with(kJsonPrefix))
        return {};
    auto inner = parse_json_object(std::string_view(*text).substr(kJsonPrefix.size()));
    if (!inner)
        return std::unexpected(std::move(inner.error()).prefixed("Could not parse the JSON options"));
    auto tree = crumple(flatten(*inner));  // dotted keys may be written in it, too
    if (!tree)
        return std::unexpected(std::move(tree.error()));
    options.erase("filename");
    if (auto merged = merge_options(*tree, options); !merged)
        return merged;
    options = std::move(*tree);
    typing = Typing::Lenient;
    return {};
}

}  // namespace

NodeFlags inherited_flags(const NodeFlags& parent, ChildRole role) {
    NodeFlags flags = parent;
    if (has(role, ChildRole::Cow)) {
        flags.read_only = true;
        flags.auto_read_only = false;
        flags.discard = Discard::Ignore;
    } else {
        flags.discard = Discard::Unmap;  // the parent decides which requests come
    }
    flags.detect_zeroes = DetectZeroes::Off;
    return flags;
}

Result<NodeFlags> resolve_flags(const NodeOptions& options, NodeFlags base) {
    NodeFlags flags = base;
    flags.read_only = options.read_only.value_or(base.read_only);
    flags.auto_read_only = options.auto_read_only.value_or(base.auto_read_only);
    flags.direct = options.cache.direct.value_or(base.direct);
    flags.no_flush = options.cache.no_flush.value_or(base.no_flush);
    flags.discard = options.discard.value_or(base.discard);
    flags.detect_zeroes = options.detect_zeroes.value_or(base.detect_zeroes);
    flags.force_share = options.force_share || base.force_share;
    if (flags.force_share && !flags.read_only)
        return fail("force-share=on can only be used with read-only images");
    if (flags.detect_zeroes == DetectZeroes::Unmap && flags.discard != Discard::Unmap)
        return fail("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
    return flags;
}

Task<Result<BlockDriverState*>> BlockGraph::co_open(Json options, Typing typing, NodeFlags base) {
    return co_open_spec({.options = std::move(options), .typing = typing, .base = base});
}

Task<Result<BlockDriverState*>> BlockGraph::co_open_complete(Json options, Typing typing) {
    return co_open_spec({.options = std::move(options), .typing = typing, .complete = true});
}

Task<Result<BlockDriverState*>> BlockGraph::co_open_spec(OpenSpec spec) {
    if (!spec.options.is_object())
        co_return fail("the options of a block device must be an object");
    if (!spec.complete)
        if (auto done = expand_json_name(spec.options, spec.typing); !done)
            co_return std::unexpected(std::move(done.error()));

    const Json* driver = json_find(spec.options, "driver");
    if (!driver && spec.complete)
        co_return fail("Parameter 'driver' is missing");
    if (driver) {
        const std::string* name = json_string(*driver);
        if (!name)
            co_return fail("Invalid parameter type for 'driver', expected: string");
        auto type = registry_.get(*name);
        if (!type)
            co_return std::unexpected(std::move(type.error()));
        // A format with a file name stands for the format over the protocol that the name says.
        if (!spec.complete && !(*type)->is_protocol && !json_find(spec.options, "file"))
            if (std::string filename = take_string(spec.options, "filename"); !filename.empty())
                spec.options["file"] = Json{{"filename", std::move(filename)}};
        co_return co_await co_open_node(std::move(spec), **type, false);
    }

    if (!spec.protocol)
        co_return co_await co_open_probed(std::move(spec));
    const Json* given = json_find(spec.options, "filename");
    const std::string* filename = given ? json_string(*given) : nullptr;
    if (!filename)
        co_return fail("Must specify either driver or file");
    auto type = registry_.protocol_for(*filename);
    if (!type)
        co_return std::unexpected(std::move(type.error()));
    if (auto prefix = protocol_prefix(*filename); prefix && (*type)->parse_filename) {
        auto parsed = (*type)->parse_filename(*filename);
        if (!parsed)
            co_return std::unexpected(std::move(parsed.error()));
        spec.options.erase("filename");
        if (auto merged = merge_options(*parsed, spec.options); !merged)
            co_return std::unexpected(std::move(merged.error()));
        spec.options = std::move(*parsed);
        spec.typing = Typing::Lenient;
    } else if (prefix) {
        spec.options["filename"] = filename->substr(prefix->size() + 1);
    }
    spec.options["driver"] = (*type)->name;
    co_return co_await co_open_node(std::move(spec), **type, false);
}

// Opens the file, looks at its first bytes, and opens the format over it.
Task<Result<BlockDriverState*>> BlockGraph::co_open_probed(OpenSpec spec) {
    std::string filename = take_string(spec.options, "filename");
    const Json* given = json_find(spec.options, "file");
    if (!filename.empty() && given)
        co_return fail("Options 'file' and 'filename' cannot both be given");
    if (filename.empty() && !given)
        co_return fail("A block device must be specified for \"file\"");

    // As a node of its own, which the format then refers to by name.
    Json rest = spec.options;
    auto options = NodeOptions::options().take(rest, spec.typing);
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    auto flags = resolve_flags(*options, spec.base);
    if (!flags)
        co_return std::unexpected(std::move(flags.error()));
    constexpr ChildRole kFileRole = ChildRole::Data | ChildRole::Primary;
    BlockDriverState* file = nullptr;
    const std::string* reference = given ? json_string(*given) : nullptr;
    if (reference) {
        auto found = find_device_or_node(*reference);
        if (!found)
            co_return std::unexpected(std::move(found.error()));
        file = *found;
        ref(*file);
    } else {
        OpenSpec below{.options = given ? *given : Json{{"filename", filename}},
                       .typing = spec.typing,
                       .base = inherited_flags(*flags, kFileRole),
                       .role = kFileRole,
                       .protocol = true};
        auto opened = co_await co_open_spec(std::move(below));
        if (!opened)
            co_return opened;
        file = *opened;
    }

    Result<BlockDriverState*> result = nullptr;
    Buffer head(DriverType::kProbeSize);
    int64_t length = std::min<int64_t>(file->length(), DriverType::kProbeSize);
    iovec element{head.data(), static_cast<size_t>(std::max<int64_t>(length, 0))};
    int ret = length < 0 ? static_cast<int>(length) : 0;
    if (length > 0)
        ret = co_await file->co_preadv(0, length, IoVector(element), RequestFlags::None);
    if (ret < 0) {
        result = fail_errno(-ret, "Could not read image '{}' for determining its format", file->filename());
    } else if (auto type = registry_.probe(head.span().first(element.iov_len), file->filename()); !type) {
        result = std::unexpected(std::move(type.error()));
    } else {
        const bool is_raw = (*type)->name == "raw";
        if (is_raw && !flags->read_only)
            report(Severity::Warning,
                   fmt::format("Image format was not specified for '{}' and probing guessed raw.", file->filename()),
                   "         Automatically detecting the format is dangerous for raw images, write operations on "
                   "block 0 will be restricted.\n"
                   "         Specify the 'raw' format explicitly to remove the restrictions.");
        spec.options["driver"] = (*type)->name;
        spec.options["file"] = file->node_name();
        BlockDriverState* adopt = reference ? nullptr : file;
        result = co_await co_open_node(std::move(spec), **type, is_raw);
        if (result && adopt) {
            adopt->inherits_from_ = *result;
            adopt->inherits_as_ = kFileRole;
        }
    }
    if (auto done = co_await co_unref(*file); !done && result)
        co_return std::unexpected(std::move(done.error()));
    co_return result;
}

Task<Result<BlockDriverState*>> BlockGraph::co_open_node(OpenSpec spec, const DriverType& type, bool probed) {
    Json rest = std::move(spec.options);
    auto options = NodeOptions::options().take(rest, spec.typing);
    if (!options)
        co_return std::unexpected(std::move(options.error()));
    auto flags = resolve_flags(*options, spec.base);
    if (!flags)
        co_return std::unexpected(std::move(flags.error()));
    auto added = add_node(options->node_name, type);
    if (!added)
        co_return std::unexpected(std::move(added.error()));
    BlockDriverState& node = **added;
    node.flags_ = *flags;
    node.probed_raw_ = probed;
    node.node_options_ = *options;
    node.driver_options_ = JsonBox(rest);
    node.typing_ = spec.typing;
    node.inherits_from_ = spec.parent;
    node.inherits_as_ = spec.role;
    node.base_flags_ = spec.base;

    const Json* name = json_find(rest, "filename");
    std::string shown = name && json_string(*name) ? *json_string(*name) : node.node_name();
    OpenContext context(*this, node, node.flags_, node.driver_options_, spec.typing, std::move(shown), spec.complete);
    auto driver = co_await type.co_open(context);
    Error error;
    if (!driver) {
        error = std::move(driver.error());
    } else {
        node.driver_ = std::move(*driver);
        node.describe_options();
        node.refresh_limits();
        GraphTransaction transaction;
        transaction.set_flags(node, node.flags_);
        auto done = transaction.commit();
        if (done)
            co_return &node;
        error = std::move(done.error());
    }
    node.references_ = 0;
    if (auto closed = co_await co_close(node, false); !closed)
        error_report(closed.error());
    co_return std::unexpected(std::move(error));
}

Task<Result<BdrvChild*>> OpenContext::co_open_child(std::string name, BlockdevRef reference, ChildRole role) {
    if (!reference.is_given() || reference.is_null())
        co_return fail("A block device must be specified for \"{}\"", name);
    BlockDriverState* child = nullptr;
    if (reference.is_reference()) {
        auto found = graph_.find_device_or_node(reference.reference());
        if (!found)
            co_return std::unexpected(std::move(found.error()));
        child = *found;
        graph_.ref(*child);
    } else {
        // A filter over a protocol that is one itself (blkdebug:...) shows what is in the file, not in an image in it.
        // What it compares that with may be an image (blkverify:RAW:TEST).
        const bool image = (has(role, ChildRole::Filtered) && !node_.type().is_protocol) || has(role, ChildRole::Cow) ||
                           (node_.type().is_filter && role == ChildRole::Data);
        auto opened = co_await graph_.co_open_spec({.options = reference.definition(),
                                                    .typing = typing_,
                                                    .base = inherited_flags(flags_, role),
                                                    .parent = &node_,
                                                    .role = role,
                                                    .protocol = !image,
                                                    .complete = complete_});
        if (!opened)
            co_return std::unexpected(std::move(opened.error()));
        child = *opened;
    }
    auto edge = std::make_unique<BdrvChild>(node_, std::move(name), role);
    BdrvChild* result = edge.get();
    std::optional<Error> error;
    {
        GraphTransaction transaction;
        transaction.attach(*edge, *child);
        transaction.set_edge_perms(*edge, {BlockPerm::ConsistentRead, BlockPerm::All});
        if (auto done = transaction.commit(); !done)
            error = std::move(done.error());
    }
    if (error) {
        if (auto closed = co_await graph_.co_unref(*child); !closed)
            error_report(closed.error());
        co_return std::unexpected(std::move(*error));
    }
    node_.children_.push_back(std::move(edge));
    co_return result;
}

Result<void> OpenContext::fall_back_to_read_only(Error why) {
    if (!flags_.auto_read_only)
        return std::unexpected(std::move(why));
    flags_.read_only = true;
    return {};
}

void BlockDriverState::stop_inheriting() {
    base_flags_ = inherited_flags(inherits_from_->flags(), inherits_as_);
    inherits_from_ = nullptr;
}

}  // namespace ashlar
