#include "tests/unit/assert_text.h"
#include "util/keyval.h"

#include <glib.h>

using namespace ashlar;

namespace {

std::string show(const Result<Keyval>& result) {
    if (!result)
        return "! " + result.error().message;
    return dump_json(result->options) + (result->help ? " help" : "");
}

void assert_tree(std::string_view text, const char* expected, KeyvalSyntax syntax = {}) {
    assert_text(show(parse_keyval(text, syntax)), expected);
}

void assert_flat(std::string_view text, const char* expected, KeyvalSyntax syntax = {}) {
    assert_text(show(parse_keyval_flat(text, syntax)), expected);
}

void test_values() {
    assert_tree("", "{}");
    assert_tree("a=1,b=x y", R"({"a": "1", "b": "x y"})");
    assert_tree("a=1,", R"({"a": "1"})");
    assert_tree("a=x,,y,,,b=,,", R"({"a": "x,y,", "b": ","})");
    assert_tree("a=b=c,d=", R"({"a": "b=c", "d": ""})");
    assert_tree("a=1,a=2", R"({"a": "2"})");
}

void test_trees() {
    assert_tree("file.driver=file,file.filename=x,driver=raw",
                R"({"file": {"driver": "file", "filename": "x"}, "driver": "raw"})");
    assert_tree("server.1.host=b,server.0.host=a,server.0.port=1",
                R"({"server": [{"host": "a", "port": "1"}, {"host": "b"}]})");
    assert_tree("a.0=x,a.1=y", R"({"a": ["x", "y"]})");
}

void test_inconsistent() {
    assert_tree("a=1,a.b=2", "! Parameters 'a.*' used inconsistently");
    assert_tree("a.b=1,a=2", "! Parameters 'a.*' used inconsistently");
    assert_tree("a.0=1,a.b=2", "! Parameters 'a.*' used inconsistently");
    assert_tree("a.b.0=1,a.b.2=x", "! Parameter 'a.b.1' missing");
    assert_tree("a.4294967296=1", "! Parameter 'a.0' missing");
    assert_tree("a.00=1", "! Parameter 'a.0' missing");
}

void test_bad_keys() {
    assert_tree("1x=3", "! Invalid parameter '1x'");
    assert_tree("=3", "! Invalid parameter ''");
    assert_tree("a..b=3", "! Invalid parameter 'a..b'");
    assert_tree("a.=3", "! Invalid parameter 'a.'");
    assert_tree("0.a=3", "! Invalid parameter '0.a'");
    assert_tree("a b=3", "! Invalid parameter 'a b'");
    assert_tree("x=1,bar", "! Expected '=' after parameter 'bar'");
    assert_tree("x=1,,", R"({"x": "1,"})");
    assert_tree("x=1,,,,,y", "! Expected '=' after parameter 'y'");
    std::string deep = "a";
    for (int i = 0; i < 2000; ++i)
        deep += ".a";
    g_assert_nonnull(strstr(show(parse_keyval(deep + "=1")).c_str(), "exceeds the limit of 1024 levels"));
}

void test_implied_key() {
    assert_tree("iothread,id=x", R"({"qom-type": "iothread", "id": "x"})", {.implied_key = "qom-type"});
    assert_tree("id=x", R"({"id": "x"})", {.implied_key = "qom-type"});
    assert_tree("id=x,iothread", "! Expected '=' after parameter 'iothread'", {.implied_key = "qom-type"});
    assert_tree("iothread,help", R"({"qom-type": "iothread"} help)", {.implied_key = "qom-type"});
    assert_tree("help", "{} help", {.implied_key = "qom-type"});
    assert_tree("driver=raw,?", R"({"driver": "raw"} help)");
    assert_tree("help=1", R"({"help": "1"})");
}

void test_flags() {
    KeyvalSyntax legacy{.implied_key = "path", .flags = true};
    assert_flat("unix:/tmp/x,server,nowait,a.b=1",
                R"({"path": "unix:/tmp/x", "server": "on", "wait": "off", "a.b": "1"})", legacy);
    assert_flat("server", R"({"server": "on"})", {.flags = true});
    assert_flat("server=on,no", R"({"server": "on", "no": "on"})", {.flags = true});
    assert_flat("1x=weird key", R"({"1x": "weird key"})", {.flags = true});
}

void test_json() {
    auto typed = parse_keyval(R"({"driver": "raw", "size": 5})");
    g_assert_true(typed.has_value());
    g_assert_true(typed->typing == Typing::Strict);
    g_assert_true(json_int64(*json_find(typed->options, "size")) == 5);
    assert_tree("{\"driver\"",
                "! JSON parse error at offset 9: syntax error while parsing object separator - unexpected "
                "end of input; expected ':'");
    g_assert_true(parse_keyval("driver=raw")->typing == Typing::Lenient);
}

void test_flatten() {
    Json tree = *parse_json(R"({"a": {"b": 1, "c": [true, {"d": null}], "e": {}, "f": []}, "g": "x"})");
    Json flat = flatten(tree);
    assert_text(dump_json(flat), R"({"a.b": 1, "a.c.0": true, "a.c.1.d": null, "a.e": {}, "a.f": [], "g": "x"})");
    g_assert_true(*crumple(flat) == tree);
    assert_text(dump_json(flatten(Json::object())), "{}");
    // dotted names in JSON mean the same as nested objects
    assert_text(dump_json(*crumple(flatten(*parse_json(R"({"file.driver": "a", "file": {"filename": "x"}})")))),
                R"({"file": {"driver": "a", "filename": "x"}})");
}

void test_merge() {
    Json into = *parse_json(R"({"a": {"b": "1", "c": "2"}, "l": ["x"], "s": "old"})");
    g_assert_true(merge_options(into, *parse_json(R"({"a": {"c": "3", "d": "4"}, "l": ["y"], "s": "new", "t": {}})"))
                      .has_value());
    assert_text(dump_json(into), R"({"a": {"b": "1", "c": "3", "d": "4"}, "l": ["x", "y"], "s": "new", "t": {}})");
    assert_text(merge_options(into, *parse_json(R"({"a": {"b": {}}})")).error().message,
                "Parameter 'a.b' used inconsistently");
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/keyval/values-and-escaped-commas", test_values);
    g_test_add_func("/keyval/dots-make-trees-and-lists", test_trees);
    g_test_add_func("/keyval/inconsistent-trees-are-refused", test_inconsistent);
    g_test_add_func("/keyval/bad-keys-are-named", test_bad_keys);
    g_test_add_func("/keyval/first-item-may-imply-its-key", test_implied_key);
    g_test_add_func("/keyval/flags-only-where-asked-for", test_flags);
    g_test_add_func("/keyval/json-keeps-its-types", test_json);
    g_test_add_func("/keyval/flatten-is-undone-by-crumple", test_flatten);
    g_test_add_func("/keyval/merge-overrides-scalars-and-joins-trees", test_merge);
    return g_test_run();
}
