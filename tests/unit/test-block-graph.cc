#include "tests/unit/block_fixture.h"

using namespace ashlar;

namespace {

void a_tree_is_opened_by_its_options() {
    BlockFixture f;
    BlockDriverState& raw = f.add(
        "{'driver': 'raw', 'node-name': 'fmt', 'offset': 512, 'file': {'driver': 'null-co', "
        "'node-name': 'proto', 'size': 4096}}");
    assert_text(raw.node_name(), "fmt");
    assert_text(raw.primary_child()->node().node_name(), "proto");
    assert_text(raw.primary_child()->name(), "file");
    g_assert_cmpint(raw.length(), ==, 3584);
    g_assert_true(f.graph->find_node("proto") == &raw.primary_child()->node());
    assert_text(raw.filename(),
                R"(json:{"driver": "raw", "offset": 512, "file": {"driver": "null-co", "size": 4096}})");
    f.del("fmt");
    g_assert_null(f.graph->find_node("proto"));
}

void a_child_may_be_a_node_that_exists() {
    BlockFixture f;
    BlockDriverState& proto = f.add("{'driver': 'null-co', 'node-name': 'proto'}");
    BlockDriverState& raw = f.add("{'driver': 'raw', 'node-name': 'fmt', 'file': 'proto'}");
    g_assert_true(&raw.primary_child()->node() == &proto);
    assert_text(f.run(f.graph->co_blockdev_del("proto")).error().message, "Block device proto is in use");
    f.del("fmt");
    g_assert_true(f.graph->find_node("proto") == &proto);  // the monitor's, still
    f.del("proto");
}

void nodes_without_a_name_get_one() {
    BlockFixture f;
    BlockDriverState& raw = f.add("{'driver': 'raw', 'node-name': 'fmt', 'file': {'driver': 'null-co'}}");
    BlockDriverState& below = raw.primary_child()->node();
    g_assert_true(below.node_name().starts_with("#block") && below.has_auto_name());
    g_assert_true(f.graph->find_node(below.node_name()) == &below);
}

void names_are_checked() {
    BlockFixture f;
    f.add("{'driver': 'null-co', 'node-name': 'a'}");
    BlockFixture::check(f.graph->add_backend("dev", {}));
    assert_text(f.add_error("{'driver': 'null-co', 'node-name': 'a'}"), "Duplicate nodes with node-name='a'");
    assert_text(f.add_error("{'driver': 'null-co', 'node-name': '1a'}"), "Invalid node-name: '1a'");
    assert_text(f.add_error("{'driver': 'null-co', 'node-name': ''}"), "Invalid node-name: ''");
    assert_text(f.add_error("{'driver': 'null-co', 'node-name': '#block000'}"), "Invalid node-name: '#block000'");
    assert_text(f.add_error("{'driver': 'null-co', 'node-name': 'a2345678901234567890123456789012'}"),
                "Invalid node-name: 'a2345678901234567890123456789012'");
    assert_text(f.add_error("{'driver': 'null-co', 'node-name': 'dev'}"),
                "node-name=dev is conflicting with a device id");
    assert_text(f.add_error("{'driver': 'null-co'}"), "'node-name' must be specified for the root node");
    assert_text(f.graph->add_backend("a", {}).error().message, "Device name 'a' conflicts with an existing node name");
    assert_text(f.graph->add_backend("dev", {}).error().message, "Device with id 'dev' already exists");
    assert_text(f.graph->find_device_or_node("x").error().message, "Cannot find device='x' nor node-name='x'");
    assert_text(f.graph->find_device_or_node("dev").error().message, "Device 'dev' has no medium");
    assert_text(f.run(f.graph->co_blockdev_del("x")).error().message, "Failed to find node with node-name='x'");
}

void options_are_checked() {
    BlockFixture f;
    assert_text(f.add_error("{'node-name': 'a'}"), "Parameter 'driver' is missing");
    assert_text(f.add_error("{'driver': 'rwa', 'node-name': 'a'}"), "Unknown driver 'rwa' (did you mean 'raw'?)");
    assert_text(f.add_error("{'driver': 'null-co', 'node-name': 'a', 'sise': 1}"),
                "Parameter 'sise' is unexpected (did you mean 'size'?)");
    assert_text(f.add_error("{'driver': 'null-co', 'node-name': 'a', 'size': '1'}"),
                "Invalid parameter type for 'size', expected: integer");
    assert_text(f.add_error("{'driver': 'raw', 'node-name': 'a'}"), "Parameter 'file' is missing");
    assert_text(f.add_error("{'driver': 'raw', 'node-name': 'a', 'file': 'b'}"),
                "Cannot find device='b' nor node-name='b'");
    assert_text(f.add_error("{'driver': 'raw', 'node-name': 'a', 'file': {'filename': 'x'}}"),
                "Parameter 'driver' is missing");
    assert_text(f.add_error("{'driver': 'null-co', 'node-name': 'a', 'force-share': true}"),
                "force-share=on can only be used with read-only images");
    assert_text(f.add_error("{'driver': 'null-co', 'node-name': 'a', 'detect-zeroes': 'unmap'}"),
                "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
    assert_text(f.add_error("{'driver': 'raw', 'node-name': 'a', 'offset': 1024, 'size': 1024, 'file': {'driver': "
                            "'null-co', 'size': 1536}}"),
                "The sum of offset (1024) and size (1024) has to be smaller or equal to the  actual size of the "
                "containing file (1536)");
    g_assert_cmpuint(f.graph->nodes().size(), ==, 0);  // whatever was opened on the way is closed
}

void flags_are_inherited() {
    BlockFixture f;
    BlockDriverState& raw = f.add(
        "{'driver': 'raw', 'node-name': 'a', 'read-only': true, 'cache': {'direct': true, 'no-flush': true}, "
        "'detect-zeroes': 'on', 'file': {'driver': 'null-co', 'cache': {'direct': false}}}");
    const NodeFlags& below = raw.primary_child()->node().flags();
    g_assert_true(raw.flags().direct && raw.flags().read_only);
    g_assert_true(below.read_only && below.no_flush && !below.direct);
    g_assert_true(below.detect_zeroes == DetectZeroes::Off && below.discard == Discard::Unmap);
    g_assert_true(raw.flags().discard == Discard::Ignore);
}

void legacy_names_are_understood() {
    BlockFixture f;
    auto open = [&](Json options) { return f.run(f.graph->co_open(std::move(options), Typing::Lenient)); };
    auto close = [&](BlockDriverState* node) { BlockFixture::check(f.run(f.graph->co_unref(*node))); };

    BlockDriverState* node = *open({{"driver", "raw"}, {"filename", "null-co://"}});
    assert_text(node->type().name, "raw");
    assert_text(node->primary_child()->node().type().name, "null-co");
    assert_text(node->filename(), "null-co://");
    close(node);

    node = *open({{"filename", "json:{\"driver\": \"raw\", \"file.driver\": \"null-co\", \"file.size\": \"4k\"}"},
                  {"read-only", "on"}});
    g_assert_cmpint(node->length(), ==, 4096);
    g_assert_true(node->is_read_only());
    close(node);

    node = *open({{"driver", "null-aio"}, {"size", "1M"}});
    g_assert_cmpint(node->length(), ==, 1 << 20);
    close(node);

    auto error = [&](Json options) { return open(std::move(options)).error().message; };
    assert_text(error({{"filename", "foo:bar"}}), "Unknown protocol 'foo'");
    assert_text(error({{"filename", "json:{"}}).substr(0, 32), "Could not parse the JSON options");
    assert_text(error(Json::object()), "A block device must be specified for \"file\"");
    assert_text(error({{"file", Json::object()}}), "Must specify either driver or file");
    assert_text(error({{"filename", "null-co://x"}}), "null-co://x: the only file name of this driver is 'null-co://'");
    g_assert_cmpuint(f.graph->nodes().size(), ==, 0);
}

void closing_flushes_and_reports_errors() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk'}");
    MockDriver::of(node).fail_flush_with = -EIO;
    assert_text(f.run(f.graph->co_blockdev_del("disk")).error().message, "mock: cannot flush: Input/output error");
    g_assert_null(f.graph->find_node("disk"));
    f.add("{'driver': 'mock', 'node-name': 'disk'}");  // the name is free
}

void detaching_flushes_what_could_be_written() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk'}");
    auto reader = f.attach(node, BlockFixture::kReadOnly);
    f.detach(reader);
    g_assert_cmpuint(MockDriver::of(node).flushes, ==, 0);
    auto writer = f.attach(node);
    MockDriver::of(node).fail_flush_with = -ENOSPC;
    auto result = f.run(writer->co_detach());
    assert_text(result.error().message, "mock: cannot flush: No space left on device");
    g_assert_null(writer->root());
    MockDriver::of(node).fail_flush_with = 0;
}

void a_backend_keeps_its_node() {
    BlockFixture f;
    BlockDriverState* node =
        BlockFixture::check(f.run(f.graph->co_open({{"driver", "null-co"}, {"node-name", "n"}}, Typing::Strict)));
    auto backend = f.attach(*node);
    BlockFixture::check(f.run(f.graph->co_unref(*node)));
    g_assert_true(f.graph->find_node("n") == node);
    f.detach(backend);
    g_assert_null(f.graph->find_node("n"));
}

// --- resizing ---

void resizing_is_announced_to_all_above() {
    BlockFixture f;
    BlockDriverState& raw = f.add(
        "{'driver': 'raw', 'node-name': 'disk', 'file': {'driver': 'mock', 'node-name': 'file', "
        "'size': 4096}}");
    BlockPerm perms = BlockFixture::kReadWrite.perm | BlockPerm::Resize;
    auto backend = f.attach(raw, {perms, BlockPerm::All});
    auto other = f.attach(raw, BlockFixture::kReadOnly);
    int calls = 0;
    other->set_resize_hook([&] { calls++; });
    g_assert_true(backend->truncate(8192, true, PreallocMode::Off).has_value());
    while (calls == 0)
        f.context->poll(true);
    g_assert_cmpint(other->length(), ==, 8192);
    g_assert_true(backend->truncate(8192, true, PreallocMode::Off).has_value());  // no change
    g_assert_cmpint(backend->truncate(-1, true, PreallocMode::Off).error().code, ==, EINVAL);
    g_assert_cmpint(backend->truncate(INT64_MAX, true, PreallocMode::Off).error().code, ==, EFBIG);
    f.detach(backend);
    f.detach(other);
    g_assert_cmpint(calls, ==, 1);
}

// --- reopening ---

std::string reopen_error(BlockFixture& f, std::string_view options) {
    auto done = f.run(f.graph->co_blockdev_reopen({*parse_json_object(options)}, Typing::Strict));
    g_assert_false(done.has_value());
    return done.error().message;
}

void reopen(BlockFixture& f, std::string_view options) {
    BlockFixture::check(f.run(f.graph->co_blockdev_reopen({*parse_json_object(options)}, Typing::Strict)));
}

void reopening_changes_options_and_flags() {
    BlockFixture f;
    BlockDriverState& raw = f.add(
        "{'driver': 'raw', 'node-name': 'disk', 'file': {'driver': 'null-co', 'size': 8192, "
        "'node-name': 'file', 'read-zeroes': true}}");
    auto backend = f.attach(raw, BlockFixture::kReadOnly);
    reopen(f, "{'driver': 'raw', 'node-name': 'disk', 'read-only': true, 'offset': 512, 'size': 1024}");
    g_assert_cmpint(backend->length(), ==, 1024);
    g_assert_true(raw.is_read_only());
    g_assert_true(raw.primary_child()->node().is_read_only());  // inherited
    reopen(f, "{'driver': 'raw', 'node-name': 'disk'}");
    g_assert_cmpint(backend->length(), ==, 8192);
    g_assert_false(raw.primary_child()->node().is_read_only());
    assert_text(raw.filename().substr(0, 61), R"(json:{"driver": "raw", "file": {"driver": "null-co", "size": )");
    f.detach(backend);
}

void reopening_replaces_a_child() {
    BlockFixture f;
    BlockDriverState& raw = f.add("{'driver': 'raw', 'node-name': 'disk', 'file': {'driver': 'mock', 'size': 4096}}");
    BlockDriverState& other = f.add("{'driver': 'mock', 'node-name': 'other', 'size': 8192}");
    auto backend = f.attach(raw);
    std::string old = raw.primary_child()->node().node_name();
    reopen(f, "{'driver': 'raw', 'node-name': 'disk', 'file': 'other'}");
    g_assert_true(&raw.primary_child()->node() == &other);
    g_assert_null(f.graph->find_node(old));  // nobody holds it any more
    g_assert_cmpint(backend->length(), ==, 8192);
    char data[512] = {};
    g_assert_cmpint(backend->pwrite(0, 512, data), ==, 0);
    g_assert_cmpuint(MockDriver::of(other).writes, ==, 1);
    g_assert_true(has(other.cumulative_perms().perm, BlockPerm::Write));
    f.detach(backend);
    f.del("disk");
    f.del("other");
}

void reopening_is_refused_as_a_whole() {
    BlockFixture f;
    BlockDriverState& a = f.add("{'driver': 'mock', 'node-name': 'a'}");
    BlockDriverState& b = f.add("{'driver': 'mock', 'node-name': 'b'}");
    auto writer = f.attach(b);
    auto both = [&](const char* first, const char* second) {
        return f.run(
            f.graph->co_blockdev_reopen({*parse_json_object(first), *parse_json_object(second)}, Typing::Strict));
    };
    auto done = both("{'driver': 'mock', 'node-name': 'a', 'read-only': true}",
                     "{'driver': 'mock', 'node-name': 'b', 'read-only': true}");
    assert_text(done.error().message, "Block node is read-only");
    g_assert_false(a.is_read_only() || b.is_read_only());
    g_assert_cmpint(MockDriver::of(a).reopen_aborted, ==, 1);
    g_assert_cmpint(MockDriver::of(b).reopen_aborted, ==, 1);
    g_assert_cmpint(MockDriver::of(a).committed, ==, 0);

    MockDriver::of(b).fail_prepare = true;
    done = both("{'driver': 'mock', 'node-name': 'a', 'read-only': true}", "{'driver': 'mock', 'node-name': 'b'}");
    assert_text(done.error().message, "mock cannot be reopened");
    g_assert_cmpint(MockDriver::of(a).reopen_aborted, ==, 2);
    g_assert_cmpint(MockDriver::of(b).reopen_aborted, ==, 1);  // it did not prepare
    g_assert_cmpuint(MockDriver::of(a).drains, ==, 0);

    f.add("{'driver': 'raw', 'node-name': 'over', 'file': 'a'}");
    assert_text(reopen_error(f, "{'driver': 'raw', 'node-name': 'nobody'}"),
                "Failed to find node with node-name='nobody'");
    assert_text(reopen_error(f, "{'driver': 'raw'}"), "node-name not specified");
    assert_text(reopen_error(f, "{'driver': 'raw', 'node-name': 'a'}"), "Cannot change the option 'driver'");
    assert_text(reopen_error(f, "{'driver': 'raw', 'node-name': 'over', 'file': 'over'}"),
                "Making 'over' a file child of 'over' would create a cycle");
    assert_text(reopen_error(f, "{'driver': 'raw', 'node-name': 'over', 'file': {'driver': 'mock'}}"),
                "Cannot change the options of child 'file' together with node 'over'");
    assert_text(reopen_error(f, "{'driver': 'raw', 'node-name': 'over', 'ofset': 5}"),
                "Parameter 'ofset' is unexpected (did you mean 'offset'?)");
    f.detach(writer);
    f.del("over");
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/block-graph/a-tree-is-opened-by-its-options", a_tree_is_opened_by_its_options);
    g_test_add_func("/block-graph/a-child-may-be-a-node-that-exists", a_child_may_be_a_node_that_exists);
    g_test_add_func("/block-graph/nodes-without-a-name-get-one", nodes_without_a_name_get_one);
    g_test_add_func("/block-graph/names-are-checked", names_are_checked);
    g_test_add_func("/block-graph/options-are-checked", options_are_checked);
    g_test_add_func("/block-graph/flags-are-inherited", flags_are_inherited);
    g_test_add_func("/block-graph/legacy-names-are-understood", legacy_names_are_understood);
    g_test_add_func("/block-graph/closing-flushes-and-reports-errors", closing_flushes_and_reports_errors);
    g_test_add_func("/block-graph/detaching-flushes-what-could-be-written", detaching_flushes_what_could_be_written);
    g_test_add_func("/block-graph/a-backend-keeps-its-node", a_backend_keeps_its_node);
    g_test_add_func("/block-graph/resizing-is-announced-to-all-above", resizing_is_announced_to_all_above);
    g_test_add_func("/block-graph/reopening-changes-options-and-flags", reopening_changes_options_and_flags);
    g_test_add_func("/block-graph/reopening-replaces-a-child", reopening_replaces_a_child);
    g_test_add_func("/block-graph/reopening-is-refused-as-a-whole", reopening_is_refused_as_a_whole);
    return g_test_run();
}
