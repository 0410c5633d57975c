// BlockdevRef: how an option names a child node: by the node-name of one that exists, or by the options of one to open.
//
// The options of a new node are not checked here: that is up to the driver that they name. They are as they were
// written; typing() says how.
#pragma once

#include "util/json_box.h"

#include <string>
#include <utility>

namespace ashlar {

class BlockdevRef {
public:
    BlockdevRef() = default;  // not given
    BlockdevRef(JsonBox value, Typing typing) : value_(std::move(value)), typing_(typing) {}

    bool is_given() const { return value_.has_value(); }
    bool is_null() const;  // JSON's null: no child, in a BlockdevRefOrNull
    bool is_reference() const;
    const std::string& reference() const;  // when is_reference()
    bool is_definition() const;
    const Json& definition() const;  // when is_definition(): an object
    Typing typing() const { return typing_; }
    const JsonBox& value() const { return value_; }

private:
    JsonBox value_;
    Typing typing_ = Typing::Strict;
};

// Where null may be written to have no child, as for `backing`.
class BlockdevRefOrNull : public BlockdevRef {
public:
    using BlockdevRef::BlockdevRef;
};

// Where only the options of a new node make sense, as in blockdev-add.
class BlockdevDefinition : public BlockdevRef {
public:
    using BlockdevRef::BlockdevRef;
};

}  // namespace ashlar
