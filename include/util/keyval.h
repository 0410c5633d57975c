// The command line's `key=value,key2=value2` to trees of options.
//
// `,,` stands for a comma in a value; a comma at the end is ignored; the last of several values of a key wins. Dots
// make trees: `file.driver=file,server.0.host=h` is {"file": {"driver": "file"}, "server": [{"host": "h"}]}. Pure
// functions.
#pragma once

#include "util/error.h"
#include "util/json.h"

#include <string>
#include <string_view>
#include <vector>

namespace ashlar {

struct KeyvalSyntax {
    std::string_view implied_key = {};  // of a first item without '=': `-object iothread,id=x` and "qom-type"
    bool flags = false;                 // later items without '=': `server` is server=on and `nowait` is wait=off
};

struct Keyval {
    Json options = Json::object();
    Typing typing = Typing::Lenient;      // Strict when the text was JSON
    bool help = false;                    // there was a `help` or `?` without '='
    std::vector<std::string> flags = {};  // the items without '=' that KeyvalSyntax::flags has allowed, as written
};

// Whether the whole argument asks for help: `-trace help`.
inline bool is_help_request(std::string_view text) {
    return text == "help" || text == "?";
}

// The items as one flat object of strings, dots in the keys and all: for sets of options that are split between several
// owners, `-drive` above all.
Result<Keyval> parse_keyval_flat(std::string_view text, KeyvalSyntax syntax = {});

// The tree. Text that starts with '{' is JSON, as in `-blockdev '{"driver": ...}'`. Keys must be names (a letter, then
// letters, digits, '-' and '_') or list indices.
Result<Keyval> parse_keyval(std::string_view text, KeyvalSyntax syntax = {});

// {"a.b": 1, "c.0": 2} to {"a": {"b": 1}, "c": [2]}. Fails when a key is both a scalar and a tree, when names and
// indices are mixed, and when a list has gaps.
Result<Json> crumple(const Json& flat);

// The reverse. Empty objects and lists stay as values.
Json flatten(const Json& tree);

// Adds the members of `from` to `into`, whose own give way; objects merge, lists are joined.
Result<void> merge_options(Json& into, const Json& from);

}  // namespace ashlar
