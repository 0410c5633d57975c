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

Task<Result<std::unique_ptr<BlockBackend>>> co_open_alone(BlockGraph& graph, std::string name,
                                                          ImageArguments arguments) {
    auto failed = [&name](Error error) {
        return std::unexpected(std::move(error).prefixed(fmt::format("Could not open '{}'", name)));
    };
    auto keyval = image_keyval(graph.registry(), name, arguments);
    if (!keyval)
        co_return failed(std::move(keyval.error()));
    Json options = std::move(keyval->options);
    Typing typing = keyval->typing;
    const std::string filename = options.value("filename", std::string());
    if (filename.starts_with(kJsonPrefix)) {
        auto inner = parse_json_object(std::string_view(filename).substr(kJsonPrefix.size()));
        if (!inner)
            co_return failed(std::move(inner.error()).prefixed("Could not parse the JSON options"));
        auto tree = crumple(flatten(*inner));
        if (!tree)
            co_return failed(std::move(tree.error()));
        options.erase("filename");
        if (auto merged = merge_options(*tree, options); !merged)
            co_return failed(std::move(merged.error()));
        options = std::move(*tree);
        typing = Typing::Lenient;
    }
    const NodeFlags flags = arguments.node_flags();
    const Json* driver = json_find(options, "driver");
    const std::string* driver_name = driver ? json_string(*driver) : nullptr;
    const DriverType* type = driver_name ? graph.registry().find(*driver_name) : nullptr;
    if (!driver) {
        auto found = co_await co_probe(graph, options, typing, flags);
        if (!found)
            co_return failed(std::move(found.error()));
        type = *found;
        // A raw image is opened as one that was guessed.
        if (type->supports_backing)
            options["driver"] = type->name;
    }
    if (type && type->supports_backing)
        options["backing"] = nullptr;
    auto backend = co_await co_open_backend(graph, std::move(options), typing, flags, image_perms(flags));
    if (!backend)
        co_return failed(std::move(backend.error()));
    (*backend)->set_write_cache(is_writeback(arguments.cache));
    co_return backend;
}

std::string name_of(const BlockDriverState& node) {
    const std::string own = node.filename();
    BdrvChild* file = node.primary_child();
    return own.starts_with(kJsonPrefix) && file ? file->node().filename() : own;
}

}  // namespace ashlar::img
