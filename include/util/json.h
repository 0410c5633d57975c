// JSON text to values and back. Pure functions; nothing here throws, apart from std::bad_alloc.
//
// Input is RFC 8259 with the extension of QEMU's dialect: strings may be in single quotes. What QEMU refuses is
// refused: nesting over kJsonMaxNesting, duplicate keys, ill-formed UTF-8; so is \u0000, because the strings become C
// strings. Output has QEMU's spacing, and is ASCII: other characters are \u escapes.
//
// nlohmann's accessors throw on a type that is not the expected one: use the json_find()/json_string() family here for
// anything that came from outside.
#pragma once

#include "util/error.h"
#include "util/json_fwd.h"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ashlar {

constexpr unsigned kJsonMaxNesting = 1024;

// Exactly one value, with white space around it. Errors: "JSON parse error at offset 12: ...".
Result<Json> parse_json(std::string_view text);
// The same where only an object makes sense.
Result<Json> parse_json_object(std::string_view text);

std::string dump_json(const Json& value);         // {"return": {}, "id": 1}
std::string dump_json_pretty(const Json& value);  // indented by four spaces, without a newline at the end

// Each returns null or nullopt when the value is not of the type, is out of range, or there is no such member.
const Json* json_find(const Json& object, std::string_view key);
const std::string* json_string(const Json& value);
std::optional<bool> json_bool(const Json& value);
std::optional<int64_t> json_int64(const Json& value);
std::optional<uint64_t> json_uint64(const Json& value);

// What an error message calls the type: "string", "integer", "object", ...
std::string_view json_type_name(const Json& value);

}  // namespace ashlar
