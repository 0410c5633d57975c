#include "tests/unit/assert_text.h"
#include "util/json.h"
#include "util/keyval.h"
#include "util/options.h"
#include "util/similar.h"

#include <glib.h>

using namespace ashlar;

namespace {

enum class Fruit { Apple, Pear };
constexpr auto enum_names(Fruit) {
    return std::to_array<EnumName<Fruit>>({{Fruit::Apple, "apple"}, {Fruit::Pear, "pear"}, {Fruit::Pear, "birne"}});
}

struct Limits {
    uint64_t iops_total = 0;
    std::optional<uint8_t> level;
    int16_t offset = 0;

    static const OptionSet<Limits>& options() {
        static const auto set = OptionSet<Limits>("limits")
                                    .optional("iops-total", &Limits::iops_total, "requests per second")
                                    .optional("level", &Limits::level, "how hard")
                                    .optional("offset", &Limits::offset, "from where");
        return set;
    }
};

struct Tree {
    std::string name;
    std::vector<Tree> children;

    static const OptionSet<Tree>& options() {
        static const auto set = OptionSet<Tree>("tree")
                                    .required("name", &Tree::name, "of the node")
                                    .optional("children", &Tree::children, "its children");
        return set;
    }
};

struct Basket {
    std::string id;
    bool open = true;
    int64_t count = 3;
    Size size;
    std::optional<Size> max_size;
    Fruit fruit = Fruit::Pear;
    double ratio = 0.5;
    Limits limits;
    std::vector<std::string> labels;
    std::vector<Limits> history;
    BlockdevRef file;
    BlockdevRefOrNull backing;
    JsonBox extra;

    static const OptionSet<Basket>& options() {
        static const auto set = OptionSet<Basket>("basket")
                                    .required("id", &Basket::id, "its name")
                                    .optional("open", &Basket::open, "whether it is open")
                                    .optional("count", &Basket::count, "how many")
                                    .alias("number")
                                    .optional("size", &Basket::size, "how large")
                                    .optional("max-size", &Basket::max_size, "how large at most")
                                    .optional("fruit", &Basket::fruit, "what is in it")
                                    .optional("ratio", &Basket::ratio, "how full")
                                    .optional("limits", &Basket::limits, "its limits")
                                    .optional("labels", &Basket::labels, "what is written on it")
                                    .optional("history", &Basket::history, "its former limits")
                                    .optional("file", &Basket::file, "the file")
                                    .optional("backing", &Basket::backing, "what is below")
                                    .optional("extra", &Basket::extra, "anything")
                                    .deprecated("it does nothing");
        return set;
    }
};

// A union: what else a piece of fruit may have depends on its kind.
struct ApplePart {
    int pips = 0;

    static const OptionSet<ApplePart>& options() {
        static const auto set = OptionSet<ApplePart>("apple").optional("pips", &ApplePart::pips, "in the core");
        return set;
    }
};

struct FruitUnion {
    Fruit kind = Fruit::Apple;
    std::string name;
    ApplePart apple;

    static const OptionSet<FruitUnion>& options() {
        static const auto set = OptionSet<FruitUnion>("fruit")
                                    .optional("name", &FruitUnion::name, "its name")
                                    .required("kind", &FruitUnion::kind, "its kind")
                                    .variant("apple", &FruitUnion::apple);
        return set;
    }
};

struct Everything {
    Limits limits;
    std::string driver;

    static const OptionSet<Everything>& options() {
        static const auto set = OptionSet<Everything>("everything")
                                    .required("driver", &Everything::driver, "the driver")
                                    .include(&Everything::limits);
        return set;
    }
};

Result<Basket> from_keyval(std::string_view text) {
    auto keyval = parse_keyval(text);
    if (!keyval)
        return std::unexpected(keyval.error());
    return Basket::options().parse(keyval->options, keyval->typing);
}

template <class T>
void assert_error(const Result<T>& result, const char* expected) {
    g_assert_false(result.has_value());
    assert_text(result.error().message, expected);
}

void assert_same(std::string_view text, std::string_view json) {
    auto a = from_keyval(text), b = from_keyval(json);
    if (!a || !b)
        g_error("%s", (a ? b : a).error().message.c_str());
    assert_text(dump_json(Basket::options().to_json(*a)), dump_json(Basket::options().to_json(*b)));
}

void test_both_syntaxes() {
    assert_same(
        "id=x,open=off,count=-5,size=1.5k,max-size=0x10,fruit=apple,ratio=0.25,limits.iops-total=7,labels.0=a,"
        "history.0.level=255,file=node0",
        R"({"id": "x", "open": false, "count": -5, "size": 1536, "max-size": 16, "fruit": "apple",
                    "ratio": 0.25, "limits": {"iops-total": 7}, "labels": ["a"], "history": [{"level": 255}],
                    "file": "node0"})");
    assert_same("id=x,fruit=birne", R"({"id": "x", "fruit": "pear"})");
    for (const char* on : {"on", "yes", "true", "y"})
        g_assert_true(from_keyval(fmt::format("id=x,open={}", on))->open);
    for (const char* off : {"off", "no", "false", "n"})
        g_assert_false(from_keyval(fmt::format("id=x,open={}", off))->open);
}

void test_defaults() {
    auto basket = from_keyval("id=x");
    g_assert_true(basket->open);
    g_assert_cmpint(basket->count, ==, 3);
    g_assert_true(basket->fruit == Fruit::Pear);
    g_assert_false(basket->max_size.has_value());
    g_assert_false(basket->file.is_given());
    assert_text(dump_json(Basket::options().to_json(*basket)),
                R"({"id": "x", "open": true, "count": 3, "size": 0, "fruit": "pear", "ratio": 0.5, )"
                R"("limits": {"iops-total": 0, "offset": 0}, "labels": [], "history": []})");
}

void test_wrong_values() {
    assert_error(from_keyval("open=on"), "Parameter 'id' is missing");
    assert_error(from_keyval("id=x,open=maybe"), "Parameter 'open' expects 'on' or 'off'");
    assert_error(from_keyval("id=x,count=many"), "Parameter 'count' expects integer");
    assert_error(from_keyval("id=x,count=99999999999999999999"),
                 "Parameter 'count' expects an integer from -9223372036854775808 to 9223372036854775807");
    assert_error(from_keyval("id=x,size=-1"), "Parameter 'size' expects a non-negative number below 2^64");
    assert_error(from_keyval("id=x,size=1KiB"), "Parameter 'size' expects a non-negative number below 2^64");
    assert_error(from_keyval("id=x,fruit=aple"),
                 "Parameter 'fruit' does not accept value 'aple' (did you mean 'apple'?)");
    assert_error(from_keyval("id=x,ratio=half"), "Parameter 'ratio' expects number");
    assert_error(from_keyval("id=x,limits=5"), "Invalid parameter type for 'limits', expected: object");
    assert_error(from_keyval("id=x,limits.level=256"), "Parameter 'limits.level' expects an integer from 0 to 255");
    assert_error(from_keyval("id=x,limits.offset=32768"),
                 "Parameter 'limits.offset' expects an integer from -32768 to 32767");
    assert_error(from_keyval("id=x,limits.offset=-32769"),
                 "Parameter 'limits.offset' expects an integer from -32768 to 32767");
    g_assert_cmpint(from_keyval("id=x,limits.offset=-32768")->limits.offset, ==, -32768);
    assert_error(from_keyval("id=x,limits.iops-total=-1"),
                 "Parameter 'limits.iops-total' expects an integer from 0 to 18446744073709551615");
    assert_error(from_keyval("id=x,history.0.level=y"), "Parameter 'history.0.level' expects integer");
    assert_error(from_keyval("id=x,labels=a"), "Invalid parameter type for 'labels', expected: array");
    assert_text(from_keyval("id=x,fruit=kiwi").error().hint, "It accepts apple, pear, birne.");
}

void test_strict_types() {
    assert_error(from_keyval(R"({"id": 5})"), "Invalid parameter type for 'id', expected: string");
    assert_error(from_keyval(R"({"id": "x", "open": "on"})"), "Invalid parameter type for 'open', expected: boolean");
    assert_error(from_keyval(R"({"id": "x", "count": "5"})"), "Invalid parameter type for 'count', expected: integer");
    assert_error(from_keyval(R"({"id": "x", "count": 1.0})"), "Invalid parameter type for 'count', expected: integer");
    assert_error(from_keyval(R"({"id": "x", "size": "1k"})"), "Invalid parameter type for 'size', expected: integer");
    assert_error(from_keyval(R"({"id": "x", "size": -1})"),
                 "Parameter 'size' expects a non-negative number below 2^64");
    assert_error(from_keyval(R"({"id": "x", "history": [{}, {"level": true}]})"),
                 "Invalid parameter type for 'history[1].level', expected: integer");
    assert_error(from_keyval(R"({"id": "x", "max-size": null})"),
                 "Invalid parameter type for 'max-size', expected: integer");
    g_assert_cmpint(Basket::options().parse(Json{{"id", "x"}, {"count", 4}}, Typing::Lenient)->count, ==, 4);
    assert_error(Basket::options().parse(Json(5), Typing::Strict), "Invalid parameter type for '', expected: object");
}

void test_unknown() {
    assert_error(from_keyval("id=x,cuont=1"), "Parameter 'cuont' is unexpected (did you mean 'count'?)");
    assert_error(from_keyval("id=x,zzz=1"), "Parameter 'zzz' is unexpected");
    assert_error(from_keyval("id=x,limits.iops=1"), "Parameter 'limits.iops' is unexpected");
    assert_error(from_keyval("id=x,limits.lvel=1"), "Parameter 'limits.lvel' is unexpected (did you mean 'level'?)");
}

void test_aliases() {
    g_assert_cmpint(from_keyval("id=x,number=9")->count, ==, 9);
    assert_error(from_keyval("id=x,number=9,count=9"),
                 "Parameters 'number' and 'count' are the same: only one can be given");
}

void test_deprecated() {
    if (g_test_subprocess()) {
        g_assert_true(from_keyval("id=x,extra=1").has_value());
        return;
    }
    g_test_trap_subprocess(nullptr, 0, G_TEST_SUBPROCESS_DEFAULT);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr("*warning: parameter 'extra' is deprecated: it does nothing\n");
}

void test_blockdev_ref() {
    auto by_name = from_keyval("id=x,file=node0");
    g_assert_true(by_name->file.is_reference());
    assert_text(by_name->file.reference(), "node0");

    auto by_options = from_keyval("id=x,file.driver=file,file.filename=f");
    g_assert_true(by_options->file.is_definition());
    g_assert_true(by_options->file.typing() == Typing::Lenient);
    assert_text(dump_json(by_options->file.definition()), R"({"driver": "file", "filename": "f"})");

    auto none = from_keyval(R"({"id": "x", "backing": null})");
    g_assert_true(none->backing.is_null());
    assert_error(from_keyval(R"({"id": "x", "file": null})"),
                 "Invalid parameter type for 'file', expected: node-name or object");
}

void test_take() {
    Json dict = parse_keyval("id=x,driver=raw,limits.level=1,offset=5")->options;
    auto basket = Basket::options().take(dict, Typing::Lenient);
    g_assert_true(basket.has_value());
    g_assert_true(basket->limits.level == 1);
    assert_text(dump_json(dict), R"({"driver": "raw", "offset": "5"})");
    assert_error(Basket::options().reject_rest(dict), "Parameter 'driver' is unexpected");
}

void test_include() {
    auto all = Everything::options().parse(parse_keyval("driver=raw,level=7,iops-total=9")->options, Typing::Lenient);
    g_assert_true(all->limits.level == 7);
    g_assert_cmpuint(all->limits.iops_total, ==, 9);
    assert_text(dump_json(Everything::options().to_json(*all)),
                R"({"driver": "raw", "iops-total": 9, "level": 7, "offset": 0})");
}

void test_union() {
    auto apple = FruitUnion::options().parse(*parse_json(R"({"pips": 5, "kind": "apple"})"), Typing::Strict);
    g_assert_cmpint(apple->apple.pips, ==, 5);
    assert_text(dump_json(FruitUnion::options().to_json(*apple)), R"({"name": "", "kind": "apple", "pips": 5})");
    assert_error(FruitUnion::options().parse(*parse_json(R"({"pips": 5, "kind": "pear"})"), Typing::Strict),
                 "Parameter 'pips' is unexpected");
    assert_error(FruitUnion::options().parse(*parse_json(R"({"pip": 5, "kind": "apple"})"), Typing::Strict),
                 "Parameter 'pip' is unexpected (did you mean 'pips'?)");
    assert_text(FruitUnion::options().tag()->name, "kind");
    g_assert_cmpuint(FruitUnion::options().variants().size(), ==, 1);
}

void test_recursive() {
    auto tree = Tree::options().parse(
        *parse_json(R"({"name": "a", "children": [{"name": "b", "children": [{"name": "c"}]}]})"), Typing::Strict);
    assert_text(tree->children[0].children[0].name, "c");
    const OptionType* children = Tree::options().find("children")->type;
    g_assert_true(&children->element->object() == &Tree::options());
    assert_error(Tree::options().parse(*parse_json(R"({"name": "a", "children": [{"name": "b", "children": [{}]}]})"),
                                       Typing::Strict),
                 "Parameter 'children[0].children[0].name' is missing");
}

void test_introspection() {
    const OptionSchema& schema = Basket::options();
    const OptionInfo* count = schema.find("number");
    assert_text(count->name, "count");
    g_assert_true(count->type->kind == OptionKind::Int && !count->required);
    g_assert_true(json_int64(*count->default_value) == 3);
    g_assert_true(schema.find("id")->required && !schema.find("id")->default_value.has_value());
    g_assert_cmpuint(schema.find("fruit")->type->values.size(), ==, 3);
    g_assert_true(schema.find("max-size")->type->kind == OptionKind::Size);
    g_assert_true(&schema.find("limits")->type->object() == &Limits::options());
    g_assert_true(schema.find("labels")->type->element->kind == OptionKind::String);
    g_assert_cmpuint(schema.options().size(), ==, 13);
    g_assert_null(schema.find("nothing"));
}

void test_help() {
    assert_text(Limits::options().help(),
                "limits options:\n"
                "  iops-total=<int>        - requests per second (default: 0)\n"
                "  level=<int>             - how hard\n"
                "  offset=<int>            - from where (default: 0)\n");
    std::string help = Basket::options().help();
    g_assert_nonnull(strstr(help.c_str(), "  open=<bool>             - whether it is open (default: on)\n"));
    g_assert_nonnull(strstr(help.c_str(), "  fruit=<apple|pear|birne> - what is in it (default: pear)\n"));
    g_assert_nonnull(strstr(help.c_str(), "  extra=<any>             - anything (deprecated: it does nothing)\n"));
}

void test_similar() {
    std::string_view names[] = {"format", "file", "read-only"};
    g_assert_true(similar_name("formt", names) == "format");
    g_assert_true(similar_name("fromat", names) == "format");
    g_assert_true(similar_name("readonly", names) == "read-only");
    g_assert_false(similar_name("zzzzz", names).has_value());
    g_assert_false(similar_name("x", names).has_value());
    g_assert_false(similar_name(std::string(1'000'000, 'f'), names).has_value());
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/options/keyval-and-json-mean-the-same", test_both_syntaxes);
    g_test_add_func("/options/defaults-are-the-initialisers", test_defaults);
    g_test_add_func("/options/wrong-values-are-named-by-path", test_wrong_values);
    g_test_add_func("/options/json-is-typed", test_strict_types);
    g_test_add_func("/options/unknown-keys-are-refused-with-a-suggestion", test_unknown);
    g_test_add_func("/options/an-alias-is-the-same-option", test_aliases);
    g_test_add_func("/options/deprecated-options-warn", test_deprecated);
    g_test_add_func("/options/a-node-is-a-name-or-a-definition", test_blockdev_ref);
    g_test_add_func("/options/take-leaves-the-rest", test_take);
    g_test_add_func("/options/included-options-are-members", test_include);
    g_test_add_func("/options/a-union-has-the-options-of-its-case", test_union);
    g_test_add_func("/options/declarations-may-be-recursive", test_recursive);
    g_test_add_func("/options/declarations-can-be-read", test_introspection);
    g_test_add_func("/options/help-lists-types-and-defaults", test_help);
    g_test_add_func("/options/similar-names-are-found", test_similar);
    return g_test_run();
}
