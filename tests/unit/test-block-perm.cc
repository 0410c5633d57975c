#include "tests/unit/block_fixture.h"

using namespace ashlar;

namespace {

constexpr BlockPerm kRead = BlockPerm::ConsistentRead;
constexpr BlockPerm kWrite = BlockPerm::Write;
constexpr BlockPerm kReadAndWrite = kRead | kWrite;

std::string attach_error(BlockFixture& f, BlockDriverState& node, ChildPerm perms) {
    BlockBackend backend(*f.graph, "", perms);
    auto done = f.run(backend.co_attach(node));
    g_assert_false(done.has_value());
    g_assert_null(backend.root());
    return done.error().message;
}

void users_that_share_live_together() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk'}");
    auto writer = f.attach(node, {kReadAndWrite, BlockPerm::All});
    auto reader = f.attach(node, {kRead, BlockPerm::All & ~BlockPerm::Resize});
    g_assert_true(node.cumulative_perms() == (ChildPerm{kReadAndWrite, BlockPerm::All & ~BlockPerm::Resize}));
    g_assert_true(MockDriver::of(node).perms == node.cumulative_perms());
    f.detach(writer);
    g_assert_true(node.cumulative_perms().perm == kRead);
    f.detach(reader);
    g_assert_true(node.cumulative_perms() == (ChildPerm{BlockPerm::None, BlockPerm::All}));
}

void what_is_not_shared_is_refused() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk'}");
    BlockBackend* owner = BlockFixture::check(f.graph->add_backend("drive0", {kRead, kRead}));
    BlockFixture::check(f.run(owner->co_attach(node)));
    assert_text(attach_error(f, node, {kReadAndWrite, BlockPerm::All}),
                "Conflicts with use by block device 'drive0' as 'root', which does not allow 'write' on disk");
    assert_text(attach_error(f, node, {kReadAndWrite | BlockPerm::Resize, BlockPerm::All}),
                "Conflicts with use by block device 'drive0' as 'root', which does not allow 'write, resize' on disk");
    assert_text(attach_error(f, node, {BlockPerm::None, BlockPerm::None}),
                "Conflicts with use by a block device as 'root', which does not allow 'consistent read' on disk");
    g_assert_true(node.cumulative_perms() == (ChildPerm{kRead, kRead}));
    g_assert_cmpuint(node.parents().size(), ==, 1);
}

void a_read_only_node_is_not_written() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk', 'read-only': true}");
    assert_text(attach_error(f, node, {kReadAndWrite, BlockPerm::All}), "Block node is read-only");
    auto reader = f.attach(node, {kRead, BlockPerm::All});
    g_assert_false(reader->set_perms({kReadAndWrite, BlockPerm::All}).has_value());
    g_assert_true(reader->perms().perm == kRead);
    f.detach(reader);
}

void permissions_go_down_through_raw() {
    BlockFixture f;
    BlockDriverState& raw =
        f.add("{'driver': 'raw', 'node-name': 'disk', 'file': {'driver': 'mock', 'node-name': 'file'}}");
    BlockDriverState& file = *f.graph->find_node("file");
    g_assert_true(file.cumulative_perms().perm == BlockPerm::None);
    auto writer = f.attach(raw, {kReadAndWrite, kRead});
    g_assert_true(file.cumulative_perms() == (ChildPerm{kReadAndWrite, kRead}));
    assert_text(attach_error(f, file, {kWrite, BlockPerm::All}),
                "Conflicts with use by node 'disk' as 'file', which does not allow 'write' on file");
    BlockFixture::check(writer->set_perms({kRead, BlockPerm::All}));
    g_assert_true(file.cumulative_perms() == (ChildPerm{kRead, BlockPerm::All}));
    auto other = f.attach(file, {kWrite, BlockPerm::All});
    assert_text(writer->set_perms({kRead, kRead}).error().message,
                "Conflicts with use by node 'disk' as 'file', which does not allow 'write' on file");
    g_assert_true(file.cumulative_perms().shared == BlockPerm::All);  // rolled back
    f.detach(other);
    f.detach(writer);
}

void a_driver_that_refuses_undoes_everything() {
    BlockFixture f;
    BlockDriverState& one = f.add("{'driver': 'mock', 'node-name': 'one'}");
    BlockDriverState& raw = f.add("{'driver': 'raw', 'node-name': 'disk', 'file': 'one'}");
    MockDriver& mock = MockDriver::of(one);
    const int set = mock.set;
    mock.fail_check_perm = 1;
    assert_text(attach_error(f, raw, {kReadAndWrite, BlockPerm::All}), "mock refuses");
    g_assert_true(raw.cumulative_perms().perm == BlockPerm::None && one.cumulative_perms().perm == BlockPerm::None);
    g_assert_cmpint(mock.set, ==, set);
    g_assert_cmpint(mock.aborted, ==, 0);  // it has refused: there is nothing to abort
    auto writer = f.attach(raw, {kReadAndWrite, BlockPerm::All});
    g_assert_cmpint(mock.set, ==, set + 1);
    auto again = f.attach(raw, {kReadAndWrite, BlockPerm::All});
    g_assert_cmpint(mock.set, ==, set + 1);  // not asked about what stays the same
    f.detach(again);
    f.detach(writer);
}

void each_check_is_followed_by_set_or_abort() {
    BlockFixture f;
    BlockDriverState& one = f.add("{'driver': 'mock', 'node-name': 'one'}");
    BlockDriverState& two = f.add("{'driver': 'mock', 'node-name': 'two'}");
    auto a = f.attach(one), b = f.attach(two);
    MockDriver &first = MockDriver::of(one), &second = MockDriver::of(two);
    first.checked = first.set = first.aborted = 0;
    f.add("{'driver': 'raw', 'node-name': 'disk', 'file': 'one'}");
    // From `one` to `two`: one's check succeeds, two's does not.
    second.fail_check_perm = 1;
    auto reader = f.attach(*f.graph->find_node("disk"), {kRead, kReadAndWrite});
    first.checked = first.set = first.aborted = 0;
    auto done = f.run(f.graph->co_blockdev_reopen(
        std::vector<Json>(1, *parse_json_object("{'driver': 'raw', 'node-name': 'disk', 'file': 'two'}")),
        Typing::Strict));
    assert_text(done.error().message, "mock refuses");
    g_assert_cmpint(first.checked, ==, first.set + first.aborted);
    g_assert_true(&f.graph->find_node("disk")->primary_child()->node() == &one);
    f.detach(reader);
    f.del("disk");
    f.detach(a);
    f.detach(b);
}

void force_share_shares_everything() {
    BlockFixture f;
    BlockDriverState& raw = f.add(
        "{'driver': 'raw', 'node-name': 'disk', 'read-only': true, 'force-share': true, "
        "'file': {'driver': 'mock', 'node-name': 'file'}}");
    auto reader = f.attach(raw, {kRead, BlockPerm::None});
    g_assert_true(f.graph->find_node("file")->cumulative_perms() == (ChildPerm{kRead, BlockPerm::All}));
    f.detach(reader);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/block-perm/users-that-share-live-together", users_that_share_live_together);
    g_test_add_func("/block-perm/what-is-not-shared-is-refused", what_is_not_shared_is_refused);
    g_test_add_func("/block-perm/a-read-only-node-is-not-written", a_read_only_node_is_not_written);
    g_test_add_func("/block-perm/permissions-go-down-through-raw", permissions_go_down_through_raw);
    g_test_add_func("/block-perm/a-driver-that-refuses-undoes-everything", a_driver_that_refuses_undoes_everything);
    g_test_add_func("/block-perm/each-check-is-followed-by-set-or-abort", each_check_is_followed_by_set_or_abort);
    g_test_add_func("/block-perm/force-share-shares-everything", force_share_shares_everything);
    return g_test_run();
}
