#include "tools/img/chain.h"

#include "block/block_graph.h"
#include "block/open_backend.h"
#include "util/buffer_pool.h"
#include "util/json.h"
#include "util/keyval.h"

#include <algorithm>

namespace ashlar::img {

namespace {

constexpr std::string_view kJsonPrefix = "json:";

// The format of an image for which nobody says it.
Task<Result<const DriverType*>> co_probe(BlockGraph& graph, const Json& options, Typing typing, NodeFlags flags) {
    Json raw{{"driver", "raw"}};
    if (const Json* file = json_find(options, "file"))
        raw["file"] = *file;
    else
        raw["file"] = Json{{"filename", options.value("filename", std::string())}};
    flags.inspect = false;
    flags.read_only = true;
    auto opened = co_await co_open_backend(graph, std::move(raw), typing, flags, image_perms(flags));
    if (!opened)
        co_return std::unexpected(std::move(opened.error()));
    BlockBackend& file = **opened;
    Buffer head(DriverType::kProbeSize);
    const int64_t length = std::min<int64_t>(file.length(), DriverType::kProbeSize);
    iovec element{head.data(), static_cast<size_t>(std::max<int64_t>(length, 0))};
    int ret = length < 0 ? static_cast<int>(length) : 0;
    if (length > 0)
        ret = co_await file.co_preadv(0, length, IoVector(element));
    const std::string filename = file.root()->filename();
    Result<const DriverType*> type = nullptr;
    if (ret < 0)
        type = fail_errno(-ret, "Could not read image '{}' for determining its format", filename);
    else
        type = graph.registry().probe(head.span().first(element.iov_len), filename);
    auto closed = co_await file.co_detach();
    if (!closed && type)
        type = std::unexpected(std::move(closed.error()));
    co_return type;
}

}  // namespace

Task<Result<ResolvedImage>> co_resolve(BlockGraph& graph, std::string name, ImageArguments arguments) {
    auto keyval = image_keyval(graph.registry(), std::move(name), arguments);
    if (!keyval)
        co_return std::unexpected(std::move(keyval.error()));
    ResolvedImage image{std::move(keyval->options), keyval->typing, nullptr};
    const Json* filename = json_find(image.options, "filename");
    const std::string* text = filename ? json_string(*filename) : nullptr;
    if (text && text->starts_with(kJsonPrefix)) {
        auto inner = parse_json_object(std::string_view(*text).substr(kJsonPrefix.size()));
        if (!inner)
            co_return std::unexpected(std::move(inner.error()).prefixed("Could not parse the JSON options"));
        auto tree = crumple(flatten(*inner));
        if (!tree)
            co_return std::unexpected(std::move(tree.error()));
        image.options.erase("filename");
        if (auto merged = merge_options(*tree, image.options); !merged)
            co_return std::unexpected(std::move(merged.error()));
        image.options = std::move(*tree);
        image.typing = Typing::Lenient;
    }
    const Json* driver = json_find(image.options, "driver");
    if (driver) {
        if (const std::string* driver_name = json_string(*driver))
            image.type = graph.registry().find(*driver_name);
        co_return image;
    }
    auto found = co_await co_probe(graph, image.options, image.typing, arguments.node_flags());
    if (!found)
        co_return std::unexpected(std::move(found.error()));
    image.type = *found;
    // A raw image stays one that was guessed.
    if (image.type->supports_backing)
        image.options["driver"] = image.type->name;
    co_return image;
}

Task<Result<std::unique_ptr<BlockBackend>>> co_open_alone(BlockGraph& graph, std::string name,
                                                          ImageArguments arguments) {
    auto image = co_await co_resolve(graph, name, arguments);
    Result<std::unique_ptr<BlockBackend>> backend = nullptr;
    if (image) {
        if (image->type && image->type->supports_backing)
            image->options["backing"] = nullptr;
        const NodeFlags flags = arguments.node_flags();
        backend = co_await co_open_backend(graph, std::move(image->options), image->typing, flags, image_perms(flags));
    } else {
        backend = std::unexpected(std::move(image.error()));
    }
    if (!backend)
        co_return std::unexpected(std::move(backend.error()).prefixed(fmt::format("Could not open '{}'", name)));
    (*backend)->set_write_cache(is_writeback(arguments.cache));
    co_return backend;
}

Task<Result<ImageInfo>> co_info(BlockGraph& graph, std::string name, ImageArguments arguments) {
    auto opened = co_await co_open_alone(graph, std::move(name), std::move(arguments));
    if (!opened)
        co_return std::unexpected(std::move(opened.error()));
    BlockDriverState& node = *(*opened)->root();
    ImageInfo info = image_info(node, false);
    info.filename = name_of(node);
    if (auto closed = co_await (*opened)->co_detach(); !closed)
        co_return std::unexpected(std::move(closed.error()));
    co_return info;
}

std::string name_of(const BlockDriverState& node) {
    const std::string own = node.filename();
    if (!own.starts_with(kJsonPrefix) || !node.type().supports_backing)
        return own;
    // That it was opened without its backing file is not part of the name.
    Json all = node.full_options();
    if (const Json* backing = json_find(all, "backing"); backing && backing->is_null())
        all.erase("backing");
    return all.size() == 2 ? node.primary_child()->node().filename() : std::string(kJsonPrefix) + dump_json(all);
}

}  // namespace ashlar::img
