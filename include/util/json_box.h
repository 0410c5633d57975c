// JsonBox: a JSON value of any type, or none, that is cheap to copy and whose header is light. Immutable.
#pragma once

#include "util/json_fwd.h"

#include <memory>

namespace ashlar {

class JsonBox {
public:
    JsonBox() = default;
    explicit JsonBox(Json value);

    bool has_value() const { return value_ != nullptr; }
    const Json& operator*() const { return *value_; }
    const Json* operator->() const { return value_.get(); }

private:
    std::shared_ptr<const Json> value_;
};

}  // namespace ashlar
