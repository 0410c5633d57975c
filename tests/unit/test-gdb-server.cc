#include "tests/unit/assert_str.h"
#include "tests/unit/gdb_machine.h"
#include "tests/unit/riscv_asm.h"
#include "tools/machine/gdb_registers.h"

#include <fmt/core.h>
#include <glib.h>

#include <regex>

using namespace ashlar;
using namespace ashlar::riscv;

namespace {

constexpr uint64_t kData = kGdbRam + 0x1000;

std::string little_endian(uint64_t value, size_t bytes = 8) {
    return to_hex({reinterpret_cast<const uint8_t*>(&value), bytes});
}

struct Fixture : GdbMachine {
    explicit Fixture(unsigned harts = 1) : GdbMachine(harts) {}

    void says(std::string_view packet, std::string_view reply) {
        const std::string got = ask(packet);
        if (got != reply)
            g_error("%s: %s, not %s", std::string(packet).c_str(), got.c_str(), std::string(reply).c_str());
    }
    uint64_t reg(unsigned number) {
        uint64_t value = 0;
        const auto bytes = from_hex(ask(fmt::format("p{:x}", number)));
        g_assert_true(bytes.has_value() && !bytes->empty());
        memcpy(&value, bytes->data(), bytes->size());
        return value;
    }
    void set_reg(unsigned number, uint64_t value) { says(fmt::format("P{:x}={}", number, little_endian(value)), "OK"); }
    void choose(unsigned thread) { says(fmt::format("Hg{}", thread), "OK"); }
};

void registers_are_what_was_written() {
    Fixture f;
    for (unsigned number : {1u, 31u, 33u, 64u, 65u + 0x340u, 65u + 0x140u}) {
        f.set_reg(number, 0x1234567890abcdef + number);
        g_assert_cmphex(f.reg(number), ==, 0x1234567890abcdef + number);
    }
    f.set_reg(32, kGdbRam);
    g_assert_cmphex(f.reg(32), ==, kGdbRam);
    f.says("P44=a5000000", "OK");  // fcsr has 32 bits
    f.says("p44", "a5000000");
    f.says("p42", "05000000");
    f.says("p43", "05000000");
    g_assert_cmpuint(f.reg(65 + 4096), ==, 3);  // the privilege
    f.set_reg(65 + 4096, 1);
    f.says(fmt::format("P{:x}={}", 65 + 4096, little_endian(2)), "E01");
    // What is read-only, or is not there.
    f.says(fmt::format("P{:x}={}", 65 + 0xf14, little_endian(2)), "E01");
    for (const char* wrong : {"p1042", "pffffffffffffffff", "p", "px", "p840", "P1", "P1=", "P1=0",
                              "P1=001122334455667788", "P1042=00", "P=00", "G0", "G00"})
        f.says(wrong, "E01");
}

void the_general_registers_go_together() {
    Fixture f;
    std::string all = f.ask("g");
    g_assert_cmpuint(all.size(), ==, kGdbGeneral * 16);
    for (unsigned number = 1; number < kGdbGeneral; ++number)
        all.replace(number * 16, 16, little_endian(number * 0x1000));
    f.says("G" + all, "OK");
    f.says("g", all);
    f.says("G" + all + std::string(16, '0'), "E01");
}

// Every register that the description names can be read, and has the size that it says.
void the_description_is_true() {
    Fixture f;
    std::string text;
    for (bool more = true; more;) {
        const std::string part = f.ask(fmt::format("qXfer:features:read:target.xml:{:x},3ff", text.size()));
        g_assert_true(part.starts_with('m') || part.starts_with('l'));
        more = part[0] == 'm';
        text += part.substr(1);
    }
    g_assert_true(text == gdb_target_description());
    const std::regex pattern("<reg name=\"(\\w+)\" bitsize=\"(\\d+)\"[^>]* regnum=\"(\\d+)\"");
    unsigned count = 0;
    for (std::sregex_iterator i(text.begin(), text.end(), pattern), end; i != end; ++i, ++count)
        g_assert_cmpuint(f.ask(fmt::format("p{:x}", std::stoi((*i)[3]))).size() * 4, ==, std::stoul((*i)[2]));
    g_assert_cmpuint(count, >, 200);
    f.says(fmt::format("qXfer:features:read:target.xml:{:x},10", text.size()), "l");
    f.says(fmt::format("qXfer:features:read:target.xml:{:x},10", text.size() + 1), "E01");
    f.says("qXfer:features:read:target.xml:0,ffffffffffffffff", "m" + text.substr(0, 2040));
    f.says("qXfer:features:read:target.xml:", "E01");
    f.says("qXfer:features:read:other.xml:0,10", "");
}

void memory_is_bounded() {
    Fixture f;
    f.says(fmt::format("M{:x},3:0102ff", kData), "OK");
    f.says(fmt::format("m{:x},4", kData), "0102ff00");
    f.says(fmt::format("X{:x},3:{}", kData, std::string_view("#}$")), "OK");
    f.says(fmt::format("m{:x},3", kData), "237d24");
    f.says(fmt::format("X{:x},0:", kData), "OK");
    f.says(fmt::format("m{:x},0", kData), "");
    f.says("m1000,4", little_endian(0x00000297, 4));  // the reset ROM: auipc t0, 0
    for (const char* nothing : {"m0,1", "mfff,2", "mffffffffffffffff,2", "m80400000,1", "m803fffff,2", "m10000000,1",
                                "M1000,1:00", "M80400000,1:00", "Mffffffffffffffff,2:0000"})
        f.says(nothing, "E14");
    for (const char* wrong : {"m", "m1000", "m1000,", "m,4", "m80000000,7f9", "m80000000,ffffffffffffffff",
                              "M80000000,1", "M80000000,1:", "M80000000,2:00", "M80000000,1:0", "M80000000,1:0g",
                              "X80000000,2:a", "X80000000,ffffffffffffffff:a", "M80000000:00"})
        f.says(wrong, "E01");
}

void a_step_is_one_instruction() {
    Fixture f;
    f.put(kGdbRam, {li(t0, 1), li(t1, 2), wfi, li(t2, 3)});
    f.set_reg(32, kGdbRam);
    for (const char* step : {"s", "vCont;s", "vCont;s:1;c"})
        f.says(step, "T05thread:1;");
    g_assert_cmpuint(f.reg(t1), ==, 2);
    g_assert_cmphex(f.reg(32), ==, kGdbRam + 12);
    f.says("s", "T05thread:1;");  // the hart that waits does not
    g_assert_cmpuint(f.reg(t2), ==, 3);
    f.says(fmt::format("s{:x}", kGdbRam + 4), "T05thread:1;");
    g_assert_cmphex(f.reg(32), ==, kGdbRam + 8);
}

void an_interrupt_does_not_come_between_steps() {
    Fixture f;
    f.put(kGdbRam, {li(t0, 1), jal(zero, 0)});
    f.set_reg(32, kGdbRam);
    f.set_reg(65 + 0x305, kData);
    f.set_reg(65 + 0x304, 2);  // mie, mip: the supervisor's software interrupt
    f.set_reg(65 + 0x344, 2);
    f.set_reg(65 + 0x300, 8);  // mstatus.MIE
    f.says("s", "T05thread:1;");
    g_assert_cmphex(f.reg(32), ==, kGdbRam + 4);
    f.put(kData, {jal(zero, 0)});
    f.says(fmt::format("Z0,{:x},4", kData), "OK");
    f.says("c", "T05thread:1;");
    g_assert_cmphex(f.reg(32), ==, kData);
}

void a_stepped_reservation_lasts() {
    Fixture f;
    f.put(kGdbRam, {amo_w(2, a0, sp, 0), addi(a0, a0, 1), amo_w(3, a1, sp, a0)});
    f.set_reg(32, kGdbRam);
    f.set_reg(sp, kData);
    f.set_reg(a1, 7);
    for (int i = 0; i < 3; ++i)
        f.says("s", "T05thread:1;");
    g_assert_cmpuint(f.reg(a1), ==, 0);
    f.says(fmt::format("m{:x},4", kData), "01000000");
}

void a_trap_breaks_a_reservation() {
    Fixture f;
    f.put(kGdbRam, {amo_w(2, a0, sp, 0), ecall, amo_w(3, a1, sp, a0)});
    f.put(kGdbRam + 0x100, {mret});
    f.set_reg(32, kGdbRam);
    f.set_reg(65 + 0x305, kGdbRam + 0x100);
    f.set_reg(sp, kData);
    f.says("s", "T05thread:1;");
    f.says("s", "T05thread:1;");
    g_assert_cmphex(f.reg(32), ==, kGdbRam + 0x100);
    f.set_reg(65 + 0x341, kGdbRam + 8);
    f.set_reg(65 + 0x300, 0x1800);
    f.says("s", "T05thread:1;");
    f.says("s", "T05thread:1;");
    g_assert_cmpuint(f.reg(a1), ==, 1);
}

void others_run_or_stand_during_a_step() {
    Fixture f(2);
    f.put(kGdbRam, {addi(t0, t0, 1), jal(zero, -4)});
    for (unsigned thread : {1, 2}) {
        f.choose(thread);
        f.set_reg(32, kGdbRam);
    }
    f.says("vCont;s:2", "T05thread:2;");
    f.choose(1);
    g_assert_cmpuint(f.reg(t0), ==, 0);
    f.choose(2);
    g_assert_cmpuint(f.reg(t0), ==, 1);
    f.says("vCont;s:2;c", "T05thread:2;");
    g_assert_cmphex(f.reg(32), ==, kGdbRam);
    f.choose(1);
    g_assert_cmpuint(f.reg(t0), >, 100);
    const uint64_t before = f.reg(t0);
    f.go("vCont;c:2");
    f.feed("\x03");
    assert_str(f.receive(), "T02thread:1;");
    g_assert_cmpuint(f.reg(t0), ==, before);
}

void another_hart_breaks_a_reservation() {
    Fixture f(2);
    f.put(kGdbRam, {amo_w(2, a0, sp, 0), amo_w(3, a1, sp, a0), addi(t0, t0, 1), jal(zero, -4)});
    f.set_reg(32, kGdbRam);
    f.set_reg(sp, kData);
    f.choose(2);
    f.set_reg(32, kGdbRam + 8);
    f.says("vCont;s:1", "T05thread:1;");
    f.says("vCont;s:2", "T05thread:2;");
    f.says("vCont;s:1", "T05thread:1;");
    g_assert_cmpuint(f.reg(a1), ==, 1);
}

void breakpoints_stop_before_the_instruction() {
    Fixture f;
    f.put(kGdbRam, {li(t0, 1), li(t0, 2), jal(zero, -8)});
    f.set_reg(32, kGdbRam);
    for (const char* type : {"0", "1"}) {
        f.says(fmt::format("Z{},{:x},4", type, kGdbRam + 4), "OK");
        f.says("c", "T05thread:1;");
        g_assert_cmphex(f.reg(32), ==, kGdbRam + 4);
        g_assert_cmpuint(f.reg(t0), ==, 1);
        f.says(fmt::format("z{},{:x},4", type, kGdbRam + 4), "OK");
        f.says("s", "T05thread:1;");
        g_assert_cmpuint(f.reg(t0), ==, 2);
    }
}

void watchpoints_stop_behind_the_access() {
    struct Case {
        unsigned type;
        uint64_t address, bytes;
        unsigned stops_at;  // the instructions that were done, of those below
    };
    for (const Case& each :
         {Case{2, kData, 8, 1}, Case{3, kData, 8, 2}, Case{4, kData, 8, 1}, Case{2, kData + 8, 4, 3},
          Case{2, kData + 3, 1, 1}, Case{3, kData + 16, 4, 4}, Case{2, kData + 16, 4, 5}, Case{4, kData + 0xfff, 2, 6},
          Case{2, kData + 0x1001, 1, 6}, Case{3, kData + 24, 1, 7}, Case{2, kData + 24, 1, 7}}) {
        Fixture f;
        f.put(kGdbRam, {sd(a0, sp, 0), ld(t0, sp, 0), sw(a0, sp, 8), amo_w(2, t0, s0, 0), amo_w(3, t1, s0, a0),
                        sd(a0, s1, 0), amo_w(0, t2, s2, a0), jal(zero, 0)});
        f.set_reg(32, kGdbRam);
        f.set_reg(sp, kData);
        f.set_reg(s0, kData + 16);
        f.set_reg(s1, kData + 0xffc);
        f.set_reg(s2, kData + 24);
        f.set_reg(a0, 0x1122334455667788);
        const char* name = each.type == 2 ? "watch" : each.type == 3 ? "rwatch" : "awatch";
        const std::string what = fmt::format("{},{:x},{:x}", each.type, each.address, each.bytes);
        f.says("Z" + what, "OK");
        f.says("c", fmt::format("T05thread:1;{}:{:x};", name, each.address));
        g_assert_cmphex(f.reg(32), ==, kGdbRam + 4 * each.stops_at);
        f.says("z" + what, "OK");
        f.says(fmt::format("Z0,{:x},4", kGdbRam + 28), "OK");
        f.says("c", "T05thread:1;");  // no more
        g_assert_cmphex(f.reg(32), ==, kGdbRam + 28);
        f.says(fmt::format("m{:x},8", kData), little_endian(0x1122334455667788));
        f.says(fmt::format("m{:x},8", kData + 0xffc), little_endian(0x1122334455667788));
    }
}

void breakpoints_are_so_many() {
    Fixture f;
    unsigned count = 0;
    while (f.ask(fmt::format("Z0,{:x},4", kData + 4 * count)) == "OK")
        ++count;
    g_assert_cmpuint(count, ==, 1024);
    count = 0;
    while (f.ask(fmt::format("Z2,{:x},4", kData + 4 * count)) == "OK")
        ++count;
    g_assert_cmpuint(count, ==, 64);
    f.says(fmt::format("z2,{:x},4", kData), "OK");
    f.says(fmt::format("Z2,{:x},4", kData), "OK");
    for (const char* wrong : {"Z2,0,0", "Z2,ffffffffffffffff,2", "Z3,2,ffffffffffffffff", "Z0,,4", "Z0,0", "Z0"})
        g_assert_true(f.ask(wrong) == "E01" || f.ask(wrong) == "");
    f.says("Z5,0,4", "");
}

void a_new_gdb_begins_with_nothing() {
    Fixture f;
    f.put(kGdbRam, {sw(a0, sp, 0), jal(zero, -4)});
    f.set_reg(32, kGdbRam);
    f.set_reg(sp, kData);
    f.says(fmt::format("Z0,{:x},4", kGdbRam), "OK");
    f.says(fmt::format("Z2,{:x},4", kData), "OK");
    f.says("?", "T05thread:1;");
    f.go("c");
    f.feed("\x03");
    assert_str(f.receive(), "T02thread:1;");
}

void a_packet_stops_a_machine_that_runs() {
    Fixture f;
    f.put(kGdbRam, {addi(t0, t0, 1), jal(zero, -4)});
    f.set_reg(32, kGdbRam);
    f.go("c");
    g_assert_true(f.state == RunState::Running);
    // Its answer, and no other one.
    f.says("qC", "QC1");
    g_assert_true(f.state == RunState::Paused);
    g_assert_true(f.output.empty());
}

void who_does_not_read_is_not_listened_to() {
    Fixture f;
    f.says("?", "T05thread:1;");
    f.takes_output = false;
    f.device->receive({reinterpret_cast<const uint8_t*>("-"), 1});
    g_assert_cmpuint(f.device->room(), ==, 0);
    f.takes_output = true;
    f.device->ready_to_send();
    g_assert_cmpuint(f.device->room(), ==, 1);
    assert_str(f.receive(), "T05thread:1;");
    f.feed("$g#00");
    assert_str(f.output, "-");
}

void it_is_told_when_nothing_goes_on() {
    Fixture f;
    f.refuses = true;
    f.says("c", "E01");
    f.says("vCont;s:1", "E01");
    f.says("vCont;s:2", "E01");
    f.refuses = false;
    f.put(kGdbRam, {jal(zero, 0)});
    f.set_reg(32, kGdbRam);
    f.go("c");
    f.server->exited(3);
    assert_str(f.receive(), "W03");
}

void detaching_lets_it_go_and_killing_ends_it() {
    Fixture f;
    f.put(kGdbRam, {jal(zero, 0)});
    f.set_reg(32, kGdbRam);
    f.says(fmt::format("Z0,{:x},4", kGdbRam), "OK");
    f.says("D", "OK");
    f.settle();
    g_assert_true(f.state != RunState::Running);
    f.feed("+");
    g_assert_true(f.state == RunState::Running);
    f.says("vKill;1", "OK");
    f.settle();
    g_assert_false(f.killed);
    f.feed("+");
    g_assert_true(f.killed);
    f.killed = false;
    f.go("k");
    g_assert_true(f.killed);
}

void threads_are_harts() {
    Fixture f(2);
    f.says("qfThreadInfo", "m1,2");
    f.says("qsThreadInfo", "l");
    f.says("qThreadExtraInfo,2", to_hex({reinterpret_cast<const uint8_t*>("hart 1"), 6}));
    for (const char* wrong : {"qThreadExtraInfo,0", "qThreadExtraInfo,3", "qThreadExtraInfo,", "T0", "T3", "T", "Hg3",
                              "Hg", "H", "Hgffffffffffffffff"})
        f.says(wrong, "E01");
    f.says("T2", "OK");
    f.choose(2);
    g_assert_cmpuint(f.reg(65 + 0xf14), ==, 1);
    f.says("qC", "QC2");
    for (const char* unknown : {"", "!", "vMustReplyEmpty", "qSymbol::", "QStartNoAckMode", "Rff"})
        f.says(unknown, "");
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/gdb-server/registers-are-what-was-written", registers_are_what_was_written);
    g_test_add_func("/gdb-server/the-general-registers-go-together", the_general_registers_go_together);
    g_test_add_func("/gdb-server/the-description-is-true", the_description_is_true);
    g_test_add_func("/gdb-server/memory-is-bounded", memory_is_bounded);
    g_test_add_func("/gdb-server/a-step-is-one-instruction", a_step_is_one_instruction);
    g_test_add_func("/gdb-server/an-interrupt-does-not-come-between-steps", an_interrupt_does_not_come_between_steps);
    g_test_add_func("/gdb-server/a-stepped-reservation-lasts", a_stepped_reservation_lasts);
    g_test_add_func("/gdb-server/a-trap-breaks-a-reservation", a_trap_breaks_a_reservation);
    g_test_add_func("/gdb-server/another-hart-breaks-a-reservation", another_hart_breaks_a_reservation);
    g_test_add_func("/gdb-server/others-run-or-stand-during-a-step", others_run_or_stand_during_a_step);
    g_test_add_func("/gdb-server/breakpoints-stop-before-the-instruction", breakpoints_stop_before_the_instruction);
    g_test_add_func("/gdb-server/watchpoints-stop-behind-the-access", watchpoints_stop_behind_the_access);
    g_test_add_func("/gdb-server/breakpoints-are-so-many", breakpoints_are_so_many);
    g_test_add_func("/gdb-server/a-new-gdb-begins-with-nothing", a_new_gdb_begins_with_nothing);
    g_test_add_func("/gdb-server/a-packet-stops-a-machine-that-runs", a_packet_stops_a_machine_that_runs);
    g_test_add_func("/gdb-server/who-does-not-read-is-not-listened-to", who_does_not_read_is_not_listened_to);
    g_test_add_func("/gdb-server/it-is-told-when-nothing-goes-on", it_is_told_when_nothing_goes_on);
    g_test_add_func("/gdb-server/detaching-lets-it-go-and-killing-ends-it", detaching_lets_it_go_and_killing_ends_it);
    g_test_add_func("/gdb-server/threads-are-harts", threads_are_harts);
    return g_test_run();
}
