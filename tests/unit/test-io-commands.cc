#include "tests/unit/assert_text.h"
#include "tools/io/arguments.h"
#include "tools/io/command.h"
#include "tools/io/output.h"

#include <glib.h>

#include <set>

using namespace ashlar;

namespace {

std::string joined(std::string_view line) {
    std::string out;
    for (const std::string& word : split_io_line(line))
        out += "[" + word + "]";
    return out;
}

void test_words() {
    assert_text(joined("read 0 512"), "[read][0][512]");
    assert_text(joined("  read   0 512 "), "[read][0][512]");
    assert_text(joined(""), "");
    assert_text(joined("   "), "");
    assert_text(joined("a"), "[a]");
}

void test_quotes() {
    assert_text(joined("write -s \"my file\" 0"), "[write][-s][\"my][file\"][0]");
    assert_text(joined("a 'b c' d\\ e"), "[a]['b][c'][d\\][e]");
    assert_text(joined("a\tb c"), "[a\tb][c]");
}

void test_options() {
    const IoCommand& read = *find_io_command("read");
    IoArguments first(read, split_io_line("read -v 0 -P 5 512"));
    g_assert_cmpint(first.next_option("vP:"), ==, 'v');
    g_assert_cmpint(first.next_option("vP:"), ==, 'P');
    assert_text(first.option_argument(), "5");
    g_assert_cmpint(first.next_option("vP:"), ==, 0);
    g_assert_cmpuint(first.rest().size(), ==, 2);
    assert_text(first.rest()[0], "0");
    assert_text(first.rest()[1], "512");
    // The second does not go on where the first has stopped.
    IoArguments second(read, split_io_line("read -v -- -1 1"));
    g_assert_cmpint(second.count(), ==, 4);
    g_assert_cmpint(second.next_option("v"), ==, 'v');
    g_assert_cmpint(second.next_option("v"), ==, 0);
    assert_text(second.rest()[0], "-1");
}

void test_quantities() {
    assert_text(format_quantity(0), "0 bytes");
    assert_text(format_quantity(512), "512 bytes");
    assert_text(format_quantity(285.741799), "285.741799 bytes");
    assert_text(format_quantity(1024), "1 KiB");
    assert_text(format_quantity(1536), "1.500 KiB");
    assert_text(format_quantity(1023.5 * 1024), "1023.500 KiB");
    assert_text(format_quantity(1114112), "1.062 MiB");
    assert_text(format_quantity(9.2e18), "7.980 EiB");
}

void test_durations() {
    constexpr int64_t kMs = 1'000'000;
    assert_text(format_duration(0, false), "00.00 sec");
    assert_text(format_duration(15 * kMs, false), "00.01 sec");
    assert_text(format_duration(59'999 * kMs, false), "59.99 sec");
    assert_text(format_duration(61'060 * kMs, false), "0:01:01.06");
    assert_text(format_duration(12'883'280 * kMs, false), "3:34:43.28");
    assert_text(format_duration(1'500 * kMs, true), "0:00:01.50");
}

void test_statistics() {
    IoStatistics s{.verb = "read", .offset = 512, .bytes = 4096, .start_ns = 0, .end_ns = 1'000'000'000};
    assert_text(format_statistics(s),
                "read 4096/4096 bytes at offset 512\n4 KiB, 1 ops; 01.00 sec (4 KiB/sec and 1.0000 ops/sec)\n");
    s.machine_readable = true;
    assert_text(format_statistics(s), "4096,1,0:00:01.00,4096.000,1.000\n");
}

void test_dump() {
    constexpr char kText[] = "Hello, world! 123\x01";
    assert_text(format_dump(std::as_bytes(std::span(kText, sizeof(kText) - 1)), 0x200),
                "00000200:  48 65 6c 6c 6f 2c 20 77 6f 72 6c 64 21 20 31 32  Hello..world..12\n"
                "00000210:  33 01  3.\n");
}

void test_table() {
    std::set<std::string_view> names;
    for (const IoCommand* command : io_commands()) {
        g_assert_true(names.insert(command->name).second);
        if (!command->alias.empty())
            g_assert_true(names.insert(command->alias).second);
        g_assert_nonnull(reinterpret_cast<void*>(command->run));
        g_assert_true(command->max_arguments == kAnyNumber || command->max_arguments >= command->min_arguments);
        g_assert_true(find_io_command(command->name) == command);
    }
    g_assert_null(find_io_command("rea"));
    g_assert_null(find_io_command(""));
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/io-commands/spaces-separate-words", test_words);
    g_test_add_func("/io-commands/quotes-tabs-and-backslashes-are-characters-like-others", test_quotes);
    g_test_add_func("/io-commands/options-may-stand-anywhere-and-each-command-begins-anew", test_options);
    g_test_add_func("/io-commands/quantities-have-three-digits-or-none", test_quantities);
    g_test_add_func("/io-commands/durations-have-hours-from-a-minute-on", test_durations);
    g_test_add_func("/io-commands/statistics-for-people-and-for-machines", test_statistics);
    g_test_add_func("/io-commands/a-dump-shows-letters-and-digits", test_dump);
    g_test_add_func("/io-commands/every-name-leads-to-one-command", test_table);
    return g_test_run();
}
