// Arguments of the commands about dirty bitmaps, which are actions of `transaction` as well.
#pragma once

#include "block/node_bitmaps.h"
#include "monitor/bitmap_ref.h"
#include "util/options.h"

#include <optional>
#include <string>
#include <vector>

namespace ashlar {

struct BitmapAddArgs {
    std::string node;
    std::string name;
    std::optional<uint32_t> granularity;
    bool persistent = false;
    bool disabled = false;

    NewBitmap wanted() const {
        return {.name = name, .granularity = granularity, .persistent = persistent, .enabled = !disabled};
    }
    static const OptionSet<BitmapAddArgs>& options() {
        static const auto set = OptionSet<BitmapAddArgs>("BlockDirtyBitmapAdd")
                                    .required("node", &BitmapAddArgs::node, "device or node to watch")
                                    .required("name", &BitmapAddArgs::name, "name of the bitmap")
                                    .optional("granularity", &BitmapAddArgs::granularity,
                                              "bytes for each bit (default: a cluster, 4k to 64k)")
                                    .optional("persistent", &BitmapAddArgs::persistent, "store it in the image")
                                    .optional("disabled", &BitmapAddArgs::disabled, "do not record yet");
        return set;
    }
};

struct BitmapArgs {
    std::string node;
    std::string name;

    static const OptionSet<BitmapArgs>& options() {
        static const auto set = OptionSet<BitmapArgs>("BlockDirtyBitmap")
                                    .required("node", &BitmapArgs::node, "device or node")
                                    .required("name", &BitmapArgs::name, "name of the bitmap");
        return set;
    }
};

struct BitmapMergeArgs {
    std::string node;
    std::string target;
    std::vector<BitmapRef> bitmaps;

    std::vector<BitmapName> sources() const {
        std::vector<BitmapName> names;
        for (const BitmapRef& source : bitmaps)
            names.push_back(source.get());
        return names;
    }
    static const OptionSet<BitmapMergeArgs>& options() {
        static const auto set = OptionSet<BitmapMergeArgs>("BlockDirtyBitmapMerge")
                                    .required("node", &BitmapMergeArgs::node, "device or node")
                                    .required("target", &BitmapMergeArgs::target, "the bitmap to merge into")
                                    .required("bitmaps", &BitmapMergeArgs::bitmaps, "those to merge");
        return set;
    }
};

}  // namespace ashlar
