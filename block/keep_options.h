// For reopening a driver whose options cannot be changed while it is open.
#pragma once

#include "block/block_driver.h"
#include "util/json.h"

namespace ashlar {

// Fails for an option that is not what it was: "Cannot change the option 'x'". Children do not count: which node an
// edge leads to is for the graph to change.
Result<void> check_options_kept(const OptionSchema& schema, const Json& before, const Json& after);

template <class T>
Result<void> check_options_kept(const T& before, const T& after) {
    return check_options_kept(T::options(), T::options().to_json(before), T::options().to_json(after));
}

// What co_reopen_prepare() is for such a driver.
template <class T>
Task<Result<void>> co_keep_options(ReopenContext& context, T before) {
    auto after = context.parse<T>();
    if (!after)
        co_return std::unexpected(std::move(after.error()));
    co_return check_options_kept(before, *after);
}

}  // namespace ashlar
