#include "block/keep_options.h"


namespace ashlar {

Result<void> check_options_kept(const OptionSchema& schema, const Json& before, const Json& after) {
    for (const OptionInfo& option : schema.options()) {
        if (option.type->kind == OptionKind::BlockdevRef || option.type->kind == OptionKind::BlockdevRefOrNull)
            continue;
        const Json *old = json_find(before, option.name), *now = json_find(after, option.name);
        if ((old == nullptr) != (now == nullptr) || (old && *old != *now))
            return fail("Cannot change the option '{}'", option.name);
    }
    return {};
}

}  // namespace ashlar
