// BitmapRef: how QMP names a dirty bitmap: by its name, or as {"node": ..., "name": ...} (QAPI's
// BlockDirtyBitmapOrStr). A value.
#pragma once

#include "block/node_bitmaps.h"
#include "util/options.h"

#include <string>

namespace ashlar {

class BitmapRef {
public:
    BitmapRef() = default;
    explicit BitmapRef(BitmapName name) : name_(std::move(name)) {}
    const BitmapName& get() const { return name_; }

private:
    friend struct OptionTraits<BitmapRef>;
    BitmapName name_;
};

template <>
struct OptionTraits<BitmapRef> {
    // A string, or the object.
    static const OptionSchema& schema();
    static constexpr OptionType kType{.kind = OptionKind::Any, .object = &schema};
    static Result<void> read(BitmapRef& out, const Json& value, const OptionPlace& at);
    static void write(const BitmapRef& value, Json& out);
};

}  // namespace ashlar
