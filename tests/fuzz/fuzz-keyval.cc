// The key=value parser: a tree that is accepted is the same after being flattened and put together again.
#include <cassert>

#include "util/keyval.h"

using namespace ashlar;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    (void)parse_keyval_flat(text, {.implied_key = "driver", .flags = true});
    auto keyval = parse_keyval(text, {.implied_key = "driver"});
    if (!keyval || keyval->typing == Typing::Strict)
        return 0;
    auto again = crumple(flatten(keyval->options));
    assert(again && *again == keyval->options);
    Json merged = keyval->options;
    assert(merge_options(merged, Json::object()) && merged == keyval->options);
    return 0;
}
