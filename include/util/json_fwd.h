// Json: a JSON value, declared only. Headers use this one; what reads or builds values includes util/json.h.
//
// Objects keep the order of their members. Integers are exact from -2^63 to 2^64-1.
#pragma once

#include <nlohmann/json_fwd.hpp>

namespace ashlar {

using Json = nlohmann::ordered_json;

// How the scalars of a tree of options are written. Strict: as JSON has them, `true`, `5`, "text" (QMP, and JSON on the
// command line). Lenient: as strings, `"on"`, `"5"`, `"1.5G"`, which is all that key=value can say; typed ones are
// accepted as well, because a `json:` name may be mixed with key=value.
enum class Typing : unsigned char { Strict, Lenient };

}  // namespace ashlar
