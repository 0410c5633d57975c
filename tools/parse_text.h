// parse_text: the argument of an option, key=value or JSON, as a struct that declares its options (util/options.h).
#pragma once

#include "util/keyval.h"
#include "util/options.h"

namespace ashlar {

template <HasOptions T>
Result<T> parse_text(std::string_view text, std::string_view implied_key) {
    auto keyval = parse_keyval(text, {.implied_key = implied_key});
    if (!keyval)
        return std::unexpected(std::move(keyval.error()));
    return T::options().parse(keyval->options, keyval->typing);
}

}  // namespace ashlar
