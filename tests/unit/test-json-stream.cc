#include "tests/unit/assert_text.h"
#include "util/json.h"
#include "util/json_stream.h"

#include <glib.h>

#include <string>
#include <vector>

using namespace ashlar;

namespace {

// Everything that the bytes give, errors as "!".
std::string drain(JsonStream& stream) {
    std::string all;
    while (auto item = stream.next())
        all += (item->has_value() ? dump_json(**item) : "!") + ";";
    return all;
}

std::string run(std::string_view bytes, JsonStream::Limits limits = {}) {
    JsonStream whole(limits);
    whole.feed(bytes);
    std::string expected = drain(whole);

    JsonStream pieces(limits);
    std::string got;
    for (char c : bytes) {
        pieces.feed({&c, 1});
        got += drain(pieces);
    }
    assert_text(got, expected);
    return expected;
}

void assert_run(std::string_view bytes, const char* expected) {
    assert_text(run(bytes), expected);
}

void test_pipelined() {
    assert_run("{\"a\": 1}{\"b\": [1, {}]}\r\n\n 12 true\"x\"[]-3 ", R"({"a": 1};{"b": [1, {}]};12;true;"x";[];-3;)");
    assert_run("", "");
    assert_run(" \t\r\n", "");
    assert_run("{\"a\": ", "");
    assert_run("12", "");
}

void test_strings_hide_brackets() {
    assert_run(R"({"a": "}]\"}", 'b': '"}\'{'}{})", R"({"a": "}]\"}", "b": "\"}'{"};{};)");
}

void test_errors_do_not_end_the_stream() {
    assert_run("{ bad }\n{\"ok\": 1}", R"(!;{"ok": 1};)");
    assert_run("{\"a\": 1,}[1]", "!;[1];");
    assert_run("@@ , : nonsense\n[1]", "!;[1];");
    assert_run("nonsense [1]", "!;[1];");
    assert_run("} } }\n[1]", "!;[1];");
    assert_run("{]}\n[1]", "!;[1];");
    assert_run("{\"never closed\n[1]", "!;[1];");
}

void test_resynchronise() {
    assert_run("{\"a\": [\xff{\"b\": 1}", R"(!;{"b": 1};)");
    assert_run("{\"a\": \"unfinished \xff{\"b\": 1}", R"(!;{"b": 1};)");
    assert_run("{\"a\": \"unfinished \x1b{\"b\": 1}", R"(!;{"b": 1};)");
    assert_run("{\"a\": \"\\\xff{\"b\": 1}", R"(!;{"b": 1};)");
    assert_run("@@@\xff{\"b\": 1}", R"(!;!;{"b": 1};)");
    assert_run(std::string_view("[1\0[2]", 6), "!;[2];");
}

void test_limits() {
    std::string deep(kJsonMaxNesting, '[');
    assert_run(deep + std::string(kJsonMaxNesting, ']') + "\n1 ",
               (std::string(kJsonMaxNesting, '[') + std::string(kJsonMaxNesting, ']') + ";1;").c_str());
    assert_text(run("[" + deep + "\n5 ").substr(0, 2), "!;");

    JsonStream::Limits small{.bytes = 16, .elements = 4};
    assert_text(run("\"0123456789abcd\"", small), "\"0123456789abcd\";");
    assert_text(run("\"0123456789abcde\"\n[1]", small), "!;[1];");
    assert_text(run("12345678901234567\n[1]", small), "!;[1];");
    assert_text(run("[1,2,3,4]", small), "[1, 2, 3, 4];");
    assert_text(run("[1,2,3,4,5]\n[1]", small), "!;[1];");
    assert_text(run("[1,2][1,2][1,2][1,2][1,2]", small), "[1, 2];[1, 2];[1, 2];[1, 2];[1, 2];");
}

// Whatever the bytes are: the same results however they are cut, and after a reset the next value is found.
void test_random() {
    const std::string_view alphabet = "{}[]\"'\\,:12tue-. \n\xff\x01\xc3\xa4";
    for (int round = 0; round < 3000; ++round) {
        std::string bytes;
        for (int n = g_test_rand_int_range(0, 60); n > 0; --n)
            bytes += alphabet[static_cast<size_t>(g_test_rand_int_range(0, static_cast<int>(alphabet.size())))];
        std::string result = run(bytes + "\xff{\"ok\": 1}");
        g_assert_true(result.ends_with("!;{\"ok\": 1};"));
    }
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/json-stream/values-follow-each-other-and-may-be-cut-anywhere", test_pipelined);
    g_test_add_func("/json-stream/brackets-in-strings-do-not-count", test_strings_hide_brackets);
    g_test_add_func("/json-stream/errors-do-not-end-the-stream", test_errors_do_not_end_the_stream);
    g_test_add_func("/json-stream/invalid-bytes-resynchronise", test_resynchronise);
    g_test_add_func("/json-stream/limits-hold", test_limits);
    g_test_add_func("/json-stream/random-bytes-cut-anywhere-give-the-same", test_random);
    return g_test_run();
}
