#include "tests/unit/assert_text.h"
#include "util/json.h"

#include <glib.h>

using namespace ashlar;

namespace {

void assert_round_trip(std::string_view text, const char* expected) {
    auto value = parse_json(text);
    if (!value)
        g_error("%s", value.error().message.c_str());
    assert_text(dump_json(*value), expected);
}

void assert_error(std::string_view text, const char* expected) {
    auto value = parse_json(text);
    g_assert_false(value.has_value());
    if (value.error().message.find(expected) == std::string::npos)
        g_error("'%s' lacks '%s'", value.error().message.c_str(), expected);
    g_assert_true(g_utf8_validate(value.error().message.data(), -1, nullptr));
}

void test_layout() {
    assert_round_trip(" {\"b\":1,\"a\":[ ],\"c\":{}, \"d\":[1,null,true]}\n",
                      R"({"b": 1, "a": [], "c": {}, "d": [1, null, true]})");
    auto value = parse_json(R"({"name": "x", "list": [1, {"y": []}], "none": {}})");
    assert_text(dump_json_pretty(*value),
                "{\n"
                "    \"name\": \"x\",\n"
                "    \"list\": [\n"
                "        1,\n"
                "        {\n"
                "            \"y\": []\n"
                "        }\n"
                "    ],\n"
                "    \"none\": {}\n"
                "}");
}

void test_numbers() {
    assert_round_trip("[0, -1, 9223372036854775808, 18446744073709551615, -9223372036854775808]",
                      "[0, -1, 9223372036854775808, 18446744073709551615, -9223372036854775808]");
    assert_round_trip("0.5", "0.5");
    assert_error("1e999", "at offset 4: number out of range");
    g_assert_true(json_int64(*parse_json("5")) == 5);
    g_assert_true(json_int64(*parse_json("-5")) == -5);
    g_assert_true(json_uint64(*parse_json("18446744073709551615")) == UINT64_MAX);
    g_assert_true(json_uint64(Json(7)) == 7u);
    g_assert_false(json_int64(*parse_json("9223372036854775808")).has_value());
    g_assert_false(json_uint64(*parse_json("-1")).has_value());
    g_assert_false(json_int64(*parse_json("1.0")).has_value());
}

void test_strings() {
    assert_round_trip(R"("\u00e4\ud83d\ude00\n\"")", R"("\u00e4\ud83d\ude00\n\"")");
    assert_round_trip("\"\xc3\xa4\"", R"("\u00e4")");
    assert_error("\"\xff\"", "at offset 1: ");
    assert_error("\"\xc3\"", "at offset 2: ");
    assert_error("\"\xed\xa0\x80\"", "UTF-8");
    assert_error(R"("\ud800")", "surrogate");
    assert_error(R"({"a": "x\u0000y"})", "\\u0000");
    assert_error(R"({"a\u0000": 1})", "\\u0000");
}

void test_single_quotes() {
    assert_round_trip("{'a': 'it\\'s', 'b': 'say \"hi\"', \"c\": \"it's\"}",
                      R"({"a": "it's", "b": "say \"hi\"", "c": "it's"})");
    assert_error("['\"\"\"\"', x]", "at offset 9: ");
    assert_error("'abc", "JSON parse error");
    assert_error("'abc\\", "JSON parse error");
}

void test_errors_say_where() {
    assert_error("", "JSON parse error at offset 0: ");
    assert_error("{\"a\": 1,}", "at offset 8: ");
    assert_error("[1 2]", "at offset 3: ");
    assert_error("{} {}", "at offset 3: ");
    assert_error("{\"a\": 1, \"b\": 2, \"a\": 3}", "duplicate key 'a'");
}

void test_nesting() {
    std::string deepest = std::string(1024, '[') + std::string(1024, ']');
    g_assert_true(parse_json(deepest).has_value());
    assert_error("[" + deepest + "]", "nesting exceeds the limit of 1024 levels");
    assert_error(std::string(10'000'000, '['), "nesting exceeds");
}

void test_large_object() {
    std::string text = "{";
    for (int i = 0; i < 300'000; ++i)
        text += fmt::format("\"k{}\": {}, ", i, i);
    auto value = parse_json(text + "\"last\": 1}");
    g_assert_true(value.has_value());
    g_assert_cmpuint(value->size(), ==, 300'001);
    assert_error(text + "\"k7\": 1}", "duplicate key 'k7'");
}

void test_accessors() {
    auto value = parse_json(R"({"s": "text", "b": true})");
    assert_text(*json_string(*json_find(*value, "s")), "text");
    g_assert_true(json_bool(*json_find(*value, "b")) == true);
    g_assert_null(json_find(*value, "missing"));
    g_assert_null(json_find(Json(5), "s"));
    g_assert_null(json_string(Json(5)));
    g_assert_false(json_bool(Json(1)).has_value());
    assert_text(parse_json_object("[1]").error().message, "Expected a JSON object, not array");
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/json/output-is-laid-out-as-qemu-does", test_layout);
    g_test_add_func("/json/64-bit-integers-are-exact", test_numbers);
    g_test_add_func("/json/strings-are-utf8-without-nul", test_strings);
    g_test_add_func("/json/single-quotes-are-accepted", test_single_quotes);
    g_test_add_func("/json/errors-say-where", test_errors_say_where);
    g_test_add_func("/json/nesting-is-bounded", test_nesting);
    g_test_add_func("/json/large-objects-parse-in-linear-time", test_large_object);
    g_test_add_func("/json/accessors-do-not-throw", test_accessors);
    return g_test_run();
}
