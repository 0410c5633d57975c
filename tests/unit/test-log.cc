#include "tests/unit/assert_text.h"
#include "util/log.h"
#include "util/trace.h"

#include <elf.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

using namespace ashlar;

namespace {

class TempDir {
public:
    TempDir() : path_(g_dir_make_tmp("ashlar-log-XXXXXX", nullptr)) {}
    ~TempDir() {
        GDir* dir = g_dir_open(path_, 0, nullptr);
        while (const char* name = g_dir_read_name(dir))
            unlink((std::string(path_) + "/" + name).c_str());
        g_dir_close(dir);
        rmdir(path_);
        g_free(path_);
    }
    std::string operator/(const char* name) const { return std::string(path_) + "/" + name; }

private:
    char* path_;
};

std::string contents(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

std::string enabled() {
    std::string names;
    for (size_t i = 0; i < kTraceEvents; ++i)
        if (trace_enabled(static_cast<TraceEvent>(i)))
            names += std::string(trace_name(static_cast<TraceEvent>(i))) + " ";
    return names;
}

void test_items() {
    TempDir dir;
    g_assert_true(log_to_file(dir / "log").has_value());
    log(LogItem::GuestErrors, "not {}", "wanted");
    g_assert_true(log_enable("guest_errors").has_value());
    log(LogItem::GuestErrors, "peer sent {}", 5);
    assert_text(contents(dir / "log"), "peer sent 5\n");
    g_log_items = 0;
    g_assert_true(log_enable("all").has_value());
    g_assert_true(log_wants(LogItem::GuestErrors));
    g_log_items = 0;
    assert_text(log_enable("guest_erors").error().message,
                "Invalid log item 'guest_erors' (did you mean 'guest_errors'?)");
    g_assert_true(log_enable("guest_errors,trace:qmp_event").has_value());
    assert_text(enabled(), "qmp_event ");
    trace_set("-*");
    g_assert_nonnull(strstr(log_help().c_str(), "guest_errors    log when"));
}

void test_file() {
    TempDir dir;
    g_assert_true(log_to_file(dir / "log-%d").has_value());
    log_line("one");
    g_assert_true(log_to_file(dir / "second").has_value());
    log_line("lost to log rotation");
    g_assert_cmpint(truncate((dir / "second").c_str(), 0), ==, 0);
    log_line("two");
    assert_text(contents(dir / fmt::format("log-{}", getpid()).c_str()), "one\n");
    assert_text(contents(dir / "second"), "two\n");
    g_assert_cmpint(log_to_file(dir / "missing/log").error().code, ==, ENOENT);
}

void test_threads() {
    TempDir dir;
    g_assert_true(log_to_file(dir / "log").has_value());
    {
        std::vector<std::jthread> threads;
        for (char c : {'a', 'b', 'c', 'd'})
            threads.emplace_back([c] {
                for (int i = 0; i < 500; ++i)
                    log_line(std::string(200, c));
            });
    }
    std::ifstream file(dir / "log");
    int lines = 0;
    for (std::string line; std::getline(file, line); ++lines)
        assert_text(line, std::string(200, line[0]));
    g_assert_cmpint(lines, ==, 2000);
}

void test_trace_lines() {
    TempDir dir;
    g_assert_true(log_to_file(dir / "log").has_value());
    int64_t before = g_get_real_time();
    trace_qmp_reply(nullptr, "not-enabled", false);
    g_assert_true(trace_configure("qmp_reply").has_value());
    trace_qmp_reply(nullptr, "quit", true);
    trace_qmp_event("not-enabled");
    trace_set("-*");
    trace_qmp_reply(nullptr, "not-enabled", true);

    std::string log = contents(dir / "log");
    int pid, end = 0;
    long seconds, micros;
    g_assert_cmpint(sscanf(log.c_str(), "%d@%ld.%6ld:%n", &pid, &seconds, &micros, &end), ==, 3);
    g_assert_cmpint(pid, ==, getpid());
    int64_t then = seconds * 1'000'000 + micros;
    g_assert_true(before <= then && then <= g_get_real_time());
    assert_text(log.substr(static_cast<size_t>(end)), "qmp_reply client 0x0 quit ok true\n");
}

void test_patterns() {
    g_assert_cmpuint(trace_set("qmp_*"), ==, 3);
    assert_text(enabled(), "qmp_command qmp_reply qmp_event ");
    g_assert_cmpuint(trace_set("-qmp_?e*"), ==, 1);
    assert_text(enabled(), "qmp_command qmp_event ");
    g_assert_cmpuint(trace_set("no_such_event"), ==, 0);
    trace_set("-*");
    assert_text(enabled(), "");
    g_assert_true(trace_configure("enable=qmp_event").has_value());
    assert_text(enabled(), "qmp_event ");
    trace_set("-*");
}

void test_events_file() {
    TempDir dir;
    std::ofstream(dir / "events") << "# comment\n\n  qmp_*  \n-qmp_reply\n";
    g_assert_true(trace_configure("events=" + dir / "events" + ",file=" + dir / "log").has_value());
    assert_text(enabled(), "qmp_command qmp_event ");
    trace_qmp_event("STOP");
    g_assert_true(contents(dir / "log").ends_with(":qmp_event STOP\n"));
    trace_set("-*");
    g_assert_cmpint(trace_configure("events=" + dir / "missing").error().code, ==, ENOENT);
    assert_text(trace_configure("enable=x,evnts=y").error().message,
                "Parameter 'evnts' is unexpected (did you mean 'events'?)");
}

void test_unknown_event() {
    if (g_test_subprocess()) {
        g_assert_true(trace_configure("qmp_repli").has_value());
        g_assert_true(trace_configure("nothing_*").has_value());
        return;
    }
    g_test_trap_subprocess(nullptr, 0, G_TEST_SUBPROCESS_DEFAULT);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr("ashlar: warning: trace event 'qmp_repli' does not exist (did you mean 'qmp_reply'?)\n");
}

void test_help() {
    std::string help = trace_help();
    g_assert_true(help.starts_with("aio_context\n"));
    g_assert_cmpint(std::count(help.begin(), help.end(), '\n'), ==, static_cast<int>(kTraceEvents));
}

std::string section_of_this_program(std::string_view name) {
    std::string program = contents("/proc/self/exe");
    auto at = [&]<class T>(size_t offset, T value) {
        memcpy(&value, program.data() + offset, sizeof(value));
        return value;
    };
    auto header = at(0, Elf64_Ehdr{});
    auto section = [&](size_t i) { return at(header.e_shoff + i * sizeof(Elf64_Shdr), Elf64_Shdr{}); };
    size_t names = section(header.e_shstrndx).sh_offset;
    for (size_t i = 0; i < header.e_shnum; ++i)
        if (name == program.data() + names + section(i).sh_name)
            return program.substr(section(i).sh_offset, section(i).sh_size);
    return {};
}

// A probe is a note: provider, name, operands, each with a NUL behind it.
void test_probes() {
    std::string notes = section_of_this_program(".note.stapsdt");
    size_t probe = notes.find(std::string_view("ashlar\0qmp_reply\0", 17));
    g_assert_true(probe != std::string::npos);
    std::string_view operands = notes.data() + probe + 17;
    g_assert_cmpint(std::count(operands.begin(), operands.end(), '@'), ==, 3);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/log/only-items-asked-for-are-logged", test_items);
    g_test_add_func("/log/goes-to-the-file-set-last", test_file);
    g_test_add_func("/log/lines-of-threads-do-not-mix", test_threads);
    g_test_add_func("/trace/enabled-events-are-timestamped-lines", test_trace_lines);
    g_test_add_func("/trace/patterns-enable-and-disable", test_patterns);
    g_test_add_func("/trace/patterns-come-from-a-file", test_events_file);
    g_test_add_func("/trace/a-name-that-no-event-has-is-a-warning", test_unknown_event);
    g_test_add_func("/trace/help-lists-every-event", test_help);
    g_test_add_func("/trace/events-are-usdt-probes", test_probes);
    return g_test_run();
}
