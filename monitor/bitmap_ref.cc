#include "monitor/bitmap_ref.h"

#include "util/json.h"

namespace ashlar {

namespace {

struct NodeAndName {
    std::string node;
    std::string name;

    static const OptionSet<NodeAndName>& options() {
        static const auto set = OptionSet<NodeAndName>("BlockDirtyBitmap")
                                    .required("node", &NodeAndName::node, "device or node")
                                    .required("name", &NodeAndName::name, "name of the bitmap");
        return set;
    }
};

}  // namespace

const OptionSchema& OptionTraits<BitmapRef>::schema() {
    return NodeAndName::options();
}

Result<void> OptionTraits<BitmapRef>::read(BitmapRef& out, const Json& value, const OptionPlace& at) {
    if (const std::string* name = json_string(value)) {
        out.name_ = {.node = {}, .name = *name};
        return {};
    }
    NodeAndName both;
    if (auto read = OptionTraits<NodeAndName>::read(both, value, at); !read)
        return read;
    out.name_ = {.node = std::move(both.node), .name = std::move(both.name)};
    return {};
}

void OptionTraits<BitmapRef>::write(const BitmapRef& value, Json& out) {
    if (value.name_.node)
        OptionTraits<NodeAndName>::write({*value.name_.node, value.name_.name}, out);
    else
        write_option(value.name_.name, out);
}

}  // namespace ashlar
