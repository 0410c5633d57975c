#include "block/blkdebug.h"
#include "block/blkdebug/config.h"
#include "block/blkdebug/options.h"
#include "tests/unit/assert_text.h"
#include "tests/unit/block_fixture.h"
#include "tests/unit/temp_dir.h"
#include "util/json.h"
#include "util/keyval.h"
#include "util/sync_wait.h"
#include "util/task_scope.h"

#include <glib.h>

#include <cstring>
#include <fstream>

using namespace ashlar;

namespace {

using Event = BlkdebugEvent;
using Io = BlkdebugIoType;

struct Fixture {
    std::unique_ptr<AioContext> context = std::move(*AioContext::create());
    Blkdebug rules;

    void event(Event event) { sync_wait(*context, rules.co_event(event)); }
    int check(Io type, int64_t offset = 0, int64_t bytes = 512) {
        return sync_wait(*context, rules.co_check(type, offset, bytes));
    }
};

// --- errors ---

void test_event_activates() {
    Fixture f;
    f.rules.add(BlkdebugInjectError{.event = Event::ReadAio});
    f.rules.add(BlkdebugInjectError{.event = Event::WriteAio, .error = ENOSPC});
    g_assert_cmpint(f.check(Io::Read), ==, 0);
    f.event(Event::ReadAio);
    g_assert_cmpint(f.check(Io::Read), ==, -EIO);
    g_assert_cmpint(f.check(Io::Flush, 0, 0), ==, -EIO);  // any kind, as long as the rule is active
    f.event(Event::WriteAio);                             // the rules of the later event take their place
    g_assert_cmpint(f.check(Io::Read), ==, -ENOSPC);
    f.event(Event::Pwritev);  // one without rules changes nothing
    g_assert_cmpint(f.check(Io::Read), ==, -ENOSPC);
}

void test_once() {
    Fixture f;
    f.rules.add(BlkdebugInjectError{.event = Event::ReadAio, .once = true});
    f.rules.add(BlkdebugInjectError{.event = Event::ReadAio, .error = ENOSPC});
    f.event(Event::ReadAio);
    g_assert_cmpint(f.check(Io::Read), ==, -EIO);
    g_assert_cmpint(f.check(Io::Read), ==, -ENOSPC);
    f.event(Event::ReadAio);
    g_assert_cmpint(f.check(Io::Read), ==, -ENOSPC);
}

void test_sector() {
    Fixture f;
    f.rules.add(BlkdebugInjectError{.event = Event::None, .sector = 2});
    f.event(Event::None);
    g_assert_cmpint(f.check(Io::Read, 0, 1024), ==, 0);
    g_assert_cmpint(f.check(Io::Read, 1023, 2), ==, -EIO);
    g_assert_cmpint(f.check(Io::Write, 1024, 512), ==, -EIO);
    g_assert_cmpint(f.check(Io::Write, 1535, 1), ==, -EIO);
    g_assert_cmpint(f.check(Io::Write, 1536, 512), ==, 0);
    g_assert_cmpint(f.check(Io::Flush, 0, 0), ==, 0);
}

void test_iotype() {
    Fixture f;
    f.rules.add(BlkdebugInjectError{.event = Event::None, .iotype = Io::Discard});
    f.rules.add(BlkdebugInjectError{.event = Event::ReadAio});
    f.event(Event::None);
    g_assert_cmpint(f.check(Io::Read), ==, 0);
    g_assert_cmpint(f.check(Io::Discard), ==, -EIO);
    f.event(Event::ReadAio);  // a rule for all types but one
    g_assert_cmpint(f.check(Io::BlockStatus), ==, 0);
    g_assert_cmpint(f.check(Io::WriteZeroes), ==, -EIO);
}

void test_state() {
    Fixture f;
    f.rules.add(BlkdebugSetState{.event = Event::ReadAio, .state = 1, .new_state = 2});
    f.rules.add(BlkdebugSetState{.event = Event::ReadAio, .state = 2, .new_state = 3});
    f.rules.add(BlkdebugInjectError{.event = Event::ReadAio, .state = 2});
    f.event(Event::ReadAio);  // 1 to 2: each event sees the state that it found
    g_assert_cmpint(f.check(Io::Read), ==, 0);
    f.event(Event::ReadAio);
    g_assert_cmpint(f.check(Io::Read), ==, -EIO);
}

Task<void> check_into(Blkdebug& rules, int& ret) {
    ret = co_await rules.co_check(Io::Read, 0, 512);
}

void test_immediately() {
    for (bool immediately : {false, true}) {
        Fixture f;
        f.rules.add(BlkdebugInjectError{.event = Event::None, .immediately = immediately});
        f.event(Event::None);
        int ret = 1;
        TaskScope scope;
        scope.spawn(check_into(f.rules, ret));
        g_assert_cmpint(ret, ==, immediately ? -EIO : 1);
        sync_wait(*f.context, scope.join());
        g_assert_cmpint(ret, ==, -EIO);
    }
}

// --- breakpoints ---

Task<void> emit(Blkdebug& rules, Event event, int& finished) {
    co_await rules.co_event(event);
    finished++;
}

void test_breakpoint() {
    Fixture f;
    int finished = 0;
    TaskScope scope;
    f.rules.add_breakpoint(Event::WriteAio, "A");
    scope.spawn(emit(f.rules, Event::ReadAio, finished));
    g_assert_cmpint(finished, ==, 1);
    scope.spawn(emit(f.rules, Event::WriteAio, finished));
    g_assert_cmpint(finished, ==, 1);
    g_assert_true(f.rules.is_suspended("A"));
    scope.spawn(emit(f.rules, Event::WriteAio, finished));  // a breakpoint is for one request
    g_assert_cmpint(finished, ==, 2);
    g_assert_false(f.rules.resume("B"));
    g_assert_true(f.rules.resume("A"));
    g_assert_false(f.rules.is_suspended("A"));
    g_assert_false(f.rules.resume("A"));
    sync_wait(*f.context, scope.join());
    g_assert_cmpint(finished, ==, 3);
}

void test_two_breakpoints() {
    Fixture f;
    int finished = 0;
    TaskScope scope;
    f.rules.add_breakpoint(Event::Pwritev, "A");
    f.rules.add_breakpoint(Event::Pwritev, "B");
    scope.spawn(emit(f.rules, Event::Pwritev, finished));
    g_assert_true(f.rules.resume("A"));
    while (f.context->poll(false)) {
    }
    g_assert_cmpint(finished, ==, 0);
    g_assert_true(f.rules.resume("B"));
    sync_wait(*f.context, scope.join());
}

void test_remove_breakpoint() {
    Fixture f;
    int finished = 0;
    TaskScope scope;
    f.rules.add_breakpoint(Event::Pwritev, "A");
    g_assert_true(f.rules.remove_breakpoint("A"));
    g_assert_false(f.rules.remove_breakpoint("A"));
    scope.spawn(emit(f.rules, Event::Pwritev, finished));
    g_assert_cmpint(finished, ==, 1);
    f.rules.add_breakpoint(Event::Pwritev, "A");
    scope.spawn(emit(f.rules, Event::Pwritev, finished));
    g_assert_true(f.rules.remove_breakpoint("A"));
    sync_wait(*f.context, scope.join());
}

void test_drain() {
    Fixture f;
    int finished = 0;
    TaskScope scope;
    f.rules.add_breakpoint(Event::Pwritev, "A");
    f.rules.add_breakpoint(Event::ReadAio, "B");
    scope.spawn(emit(f.rules, Event::Pwritev, finished));
    f.rules.drain_begin();
    scope.spawn(emit(f.rules, Event::ReadAio, finished));
    g_assert_cmpint(finished, ==, 1);
    sync_wait(*f.context, scope.join());
    g_assert_cmpint(finished, ==, 2);
    f.rules.drain_end();
    scope.spawn(emit(f.rules, Event::ReadAio, finished));
    g_assert_true(f.rules.is_suspended("B"));  // its breakpoint was not used up
    g_assert_true(f.rules.resume("B"));
    sync_wait(*f.context, scope.join());
}

// --- configuration ---

void test_config() {
    auto rules = parse_blkdebug_config(
        "# rules\r\n"
        "[inject-error]\r\n"
        "  event = \"read_aio\"   # which\n"
        "errno = \"28\"\n"
        "once=\"on\"\n"
        "\n"
        "[set-state \"name\"]\n"
        "event = \"write_aio\"\n"
        "new_state = \"2\"");
    g_assert_true(rules.has_value());
    assert_text(dump_json(*rules), R"({"inject-error": [{"event": "read_aio", "errno": "28", "once": "on"}], )"
                                   R"("set-state": [{"event": "write_aio", "new_state": "2"}]})");
    auto parsed = BlkdebugRules::options().parse(*rules, Typing::Lenient);
    g_assert_true(parsed.has_value());
    g_assert_true(parsed->inject_error[0].event == Event::ReadAio);
    g_assert_cmpint(parsed->inject_error[0].error, ==, 28);
    g_assert_true(parsed->inject_error[0].once);
    g_assert_cmpint(parsed->set_state[0].new_state, ==, 2);
}

void test_config_errors() {
    struct {
        const char *text, *message;
    } cases[] = {
        {"[foo]\n", "1: There is no option group 'foo' (it can be inject-error or set-state)"},
        {"\n[inject-error\n", "2: '[inject-error' lacks its ']'"},
        {"event = \"x\"\n", "1: no group defined"},
        {"[set-state]\nevent\n", "2: parse error: expected: key = \"value\""},
        {"[set-state]\nevent = x\n", "2: parse error: expected: key = \"value\""},
        {"[set-state]\nevent = \"x\n", "2: parse error: expected: key = \"value\""},
        {"[set-state]\nevent = \"x\" y\n", "2: parse error: expected: key = \"value\""},
        {"[set-state]\nevent = \"x\"\nevent = \"y\"\n", "3: 'event' is given twice"},
    };
    for (const auto& c : cases) {
        auto rules = parse_blkdebug_config(c.text);
        g_assert_false(rules.has_value());
        assert_text(rules.error().message, c.message);
    }
}

Result<> check_limits(const char* text, uint32_t below = 1) {
    auto keyval = parse_keyval(std::string("image=node,") + text);
    auto options = BlkdebugOptions::options().parse(keyval->options, keyval->typing);
    g_assert_true(options.has_value());
    return options->check_limits(below);
}

void test_limits() {
    for (const char* good : {"align=4k", "align=512,max-transfer=1536", "opt-write-zero=1000,max-write-zero=3000",
                             "opt-discard=1000,max-discard=1000", "align=0"})
        g_assert_true(check_limits(good).has_value());
    struct {
        const char *text, *message;
    } cases[] = {
        {"align=3", "Cannot meet constraints with align 3"},
        {"align=4294967296", "Cannot meet constraints with align 4294967296"},
        {"align=8192,max-transfer=4096", "Cannot meet constraints with max-transfer 4096"},
        {"align=512,opt-write-zero=1000", "Cannot meet constraints with opt-write-zero 1000"},
        {"opt-write-zero=1024,max-write-zero=1536", "Cannot meet constraints with max-write-zero 1536"},
        {"align=512,opt-discard=1000", "Cannot meet constraints with opt-discard 1000"},
        {"align=512,max-discard=100", "Cannot meet constraints with max-discard 100"},
    };
    for (const auto& c : cases) {
        auto checked = check_limits(c.text);
        g_assert_false(checked.has_value());
        assert_text(checked.error().message, c.message);
    }
    g_assert_false(check_limits("max-transfer=512", 4096).has_value());
}

// --- in the graph ---

struct Disk : BlockFixture {
    std::unique_ptr<BlockBackend> backend;
    Blkdebug* rules;

    explicit Disk(std::string_view options, std::string_view image =
                                                "'driver': 'null-co', 'size': 1048576, "
                                                "'read-zeroes': true") {
        backend =
            attach(add(fmt::format("{{'driver': 'raw', 'node-name': 'disk', 'discard': 'unmap', "
                                   "'file': {{'driver': 'blkdebug', 'discard': 'unmap', "
                                   "'image': {{{}, 'discard': 'unmap'}}{}}}}}",
                                   image, options)));
        rules = find_blkdebug(*backend->root());
        g_assert_nonnull(rules);
    }
    ~Disk() { detach(backend); }
    int read(int64_t offset, int64_t bytes) {
        std::string data(static_cast<size_t>(bytes), '?');
        return backend->pread(offset, bytes, data.data());
    }
    int write(int64_t offset, int64_t bytes) {
        std::string data(static_cast<size_t>(bytes), 'x');
        return backend->pwrite(offset, bytes, data.data());
    }
};

void test_graph_errors() {
    Disk disk(
        ", 'inject-error': [{'event': 'read_aio', 'once': true, 'iotype': 'read'}, "
        "{'event': 'write_aio', 'errno': 28, 'sector': 4, 'iotype': 'write', 'once': true}, "
        "{'event': 'flush_to_disk', 'errno': 30, 'once': true}, "
        "{'event': 'pwritev_zero', 'errno': 16, 'iotype': 'write-zeroes', 'once': true}]");
    g_assert_cmpint(disk.write(4096, 512), ==, 0);
    g_assert_cmpint(disk.read(0, 512), ==, -EIO);
    g_assert_cmpint(disk.read(0, 512), ==, 0);
    g_assert_cmpint(disk.write(0, 512), ==, 0);
    g_assert_cmpint(disk.write(2048, 512), ==, -ENOSPC);
    g_assert_cmpint(disk.write(2048, 512), ==, 0);
    g_assert_cmpint(disk.backend->flush(), ==, -EROFS);
    g_assert_cmpint(disk.backend->flush(), ==, 0);
    g_assert_cmpint(disk.backend->pwrite_zeroes(0, 4096), ==, -EBUSY);
    g_assert_cmpint(disk.backend->pwrite_zeroes(0, 4096), ==, 0);
}

void test_graph_other_errors() {
    Disk disk(
        ", 'inject-error': [{'event': 'none', 'iotype': 'discard', 'errno': 5}, "
        "{'event': 'none', 'iotype': 'block-status', 'errno': 6}]");
    g_assert_cmpint(disk.read(0, 512), ==, 0);
    g_assert_cmpint(disk.backend->pdiscard(0, 4096), ==, -EIO);
    auto status = disk.run(disk.backend->co_block_status_above(0, 4096));
    g_assert_cmpint(status.ret, ==, -ENXIO);
}

void test_graph_fua() {
    Disk disk(
        ", 'inject-error': [{'event': 'flush_to_disk', 'iotype': 'flush', 'once': true}, "
        "{'event': 'flush_to_disk', 'iotype': 'flush', 'once': true}]");
    char data[512] = {};
    g_assert_cmpint(disk.backend->pwrite(0, 512, data), ==, 0);
    g_assert_cmpint(disk.backend->pwrite(0, 512, data, RequestFlags::Fua), ==, -EIO);
    g_assert_cmpint(disk.backend->pwrite_zeroes(0, 512, RequestFlags::Fua), ==, -EIO);
}

struct Counted : Completion {
    int done = 0;
    Counted() {
        fn = [](Completion& self) { static_cast<Counted&>(self).done++; };
    }
};

void test_graph_suspend() {
    Disk disk("");
    char data[512] = {};
    iovec element{data, sizeof data};
    Counted first, second;
    disk.rules->add_breakpoint(Event::WriteAio, "A");
    disk.backend->aio_pwritev(0, 512, IoVector(element), {}, first);
    disk.backend->aio_pwritev(512, 512, IoVector(element), {}, second);
    while (second.done == 0)
        disk.context->poll(true);
    g_assert_cmpint(first.done, ==, 0);
    g_assert_true(disk.rules->is_suspended("A"));
    disk.rules->resume("A");
    while (first.done == 0)
        disk.context->poll(true);
    g_assert_cmpint(first.ret, ==, 0);
}

void test_graph_drain() {
    Disk disk("");
    char data[512] = {};
    iovec element{data, sizeof data};
    Counted request;
    disk.rules->add_breakpoint(Event::Pwritev, "A");
    disk.backend->aio_pwritev(0, 512, IoVector(element), {}, request);
    while (!disk.rules->is_suspended("A"))
        disk.context->poll(true);
    auto drained = disk.run(disk.graph->co_drain(*disk.backend->root()));
    g_assert_cmpint(request.done, ==, 1);
}

// An alignment that the image does not have: unaligned writes read first, and read what is around them.
void test_graph_alignment() {
    TempDir dir;
    std::string path = dir.file("disk.img");
    std::ofstream(path) << std::string(65536, 'o');
    Disk disk(", 'align': 4096, 'max-transfer': 8192", "'driver': 'file', 'filename': '" + path + "'");
    g_assert_cmpuint(disk.backend->limits().max_transfer, ==, 8192);
    g_assert_cmpint(disk.write(4000, 20000), ==, 0);
    std::ifstream file(path);
    std::string content(65536, '?');
    file.read(content.data(), 65536);
    g_assert_true(content == std::string(4000, 'o') + std::string(20000, 'x') + std::string(65536 - 24000, 'o'));

    Counted request;
    iovec element{content.data(), 100};
    disk.rules->add_breakpoint(Event::PwritevRmwTail, "tail");
    disk.rules->add_breakpoint(Event::PwritevRmwHead, "head");
    disk.backend->aio_pwritev(4000, 100, IoVector(element), {}, request);  // over two blocks
    while (!disk.rules->is_suspended("head"))
        disk.context->poll(true);
    g_assert_false(disk.rules->is_suspended("tail"));
    disk.rules->resume("head");
    while (!disk.rules->is_suspended("tail"))
        disk.context->poll(true);
    disk.rules->resume("tail");
    while (request.done == 0)
        disk.context->poll(true);
    g_assert_cmpint(request.ret, ==, 0);
}

void test_filename() {
    TempDir dir;
    std::string config = dir.file("rules"), image = dir.file("disk.img");
    std::ofstream(config) << "[inject-error]\nevent = \"read_aio\"\nerrno = \"28\"\nonce = \"on\"\n";
    std::ofstream(image) << std::string(512, 'x');
    BlockFixture f;
    std::string name = "blkdebug:" + config + ":" + image;
    BlockDriverState& node = *f.check(
        f.run(f.graph->co_open(Json{{"driver", "raw"}, {"filename", name}, {"node-name", "disk"}}, Typing::Lenient)));
    assert_text(node.filename(), name);
    {
        auto backend = f.attach(node);
        char byte;
        g_assert_cmpint(backend->pread(0, 1, &byte), ==, -ENOSPC);
        g_assert_cmpint(backend->pread(0, 1, &byte), ==, 0);
        g_assert_cmpint(byte, ==, 'x');
        f.detach(backend);
    }
    f.check(f.run(f.graph->co_unref(node)));

    auto error_of = [&](std::string filename) {
        auto opened = f.run(f.graph->co_open(Json{{"driver", "raw"}, {"filename", filename}}, Typing::Lenient));
        g_assert_false(opened.has_value());
        return opened.error().message;
    };
    g_assert_nonnull(strstr(error_of("blkdebug:" + image).c_str(), "requires both config file and image path"));
    g_assert_nonnull(
        strstr(error_of("blkdebug:" + dir.file("none") + ":" + image).c_str(), "Could not read blkdebug config file"));
    std::ofstream(config) << "[inject-error]\nevent = \"read\"\n";
    g_assert_nonnull(strstr(error_of(name).c_str(), "does not accept value 'read'"));
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/blkdebug/event-activates-its-errors", test_event_activates);
    g_test_add_func("/blkdebug/once-is-once", test_once);
    g_test_add_func("/blkdebug/sector-is-touched", test_sector);
    g_test_add_func("/blkdebug/iotype-selects", test_iotype);
    g_test_add_func("/blkdebug/state-selects", test_state);
    g_test_add_func("/blkdebug/immediately-is-before-the-loop-turns", test_immediately);
    g_test_add_func("/blkdebug/breakpoint-suspends-one-request", test_breakpoint);
    g_test_add_func("/blkdebug/all-breakpoints-are-to-be-resumed", test_two_breakpoints);
    g_test_add_func("/blkdebug/removed-breakpoint-resumes", test_remove_breakpoint);
    g_test_add_func("/blkdebug/drain-resumes", test_drain);
    g_test_add_func("/blkdebug/config/sections-are-rules", test_config);
    g_test_add_func("/blkdebug/config/errors-name-the-line", test_config_errors);
    g_test_add_func("/blkdebug/limits-fit-each-other", test_limits);
    g_test_add_func("/blkdebug/graph/requests-fail", test_graph_errors);
    g_test_add_func("/blkdebug/graph/discards-and-status-fail", test_graph_other_errors);
    g_test_add_func("/blkdebug/graph/durable-writes-fail-with-the-flush", test_graph_fua);
    g_test_add_func("/blkdebug/graph/request-is-suspended", test_graph_suspend);
    g_test_add_func("/blkdebug/graph/drain-does-not-wait-for-breakpoints", test_graph_drain);
    g_test_add_func("/blkdebug/graph/limits-apply", test_graph_alignment);
    g_test_add_func("/blkdebug/graph/file-name", test_filename);
    return g_test_run();
}
