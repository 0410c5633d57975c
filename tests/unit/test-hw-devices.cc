#include "hw/aclint.h"
#include "hw/goldfish_rtc.h"
#include "hw/plic.h"
#include "hw/test_finisher.h"
#include "hw/uart.h"

#include <glib.h>

#include <string>
#include <string_view>
#include <vector>

using namespace ashlar;

namespace {

struct Wires : InterruptSink {
    bool level[64] = {};
    void set_level(unsigned input, bool value) override { level[input] = value; }
};

// --- finisher

void test_a_finished_guest_has_a_status() {
    std::vector<int> said;
    TestFinisher finisher({[&](int status) { said.push_back(status); }, [&] { said.push_back(-1); }});
    finisher.write(0, 4, 0x5555);
    finisher.write(0, 4, 0x3333 | 7 << 16);
    finisher.write(0, 4, 0x7777);
    finisher.write(0, 4, 0x1234);
    finisher.write(4, 4, 0x5555);
    g_assert_true((said == std::vector<int>{0, 7, -1}));
}

// --- ACLINT

struct AclintTest {
    MachineClock clock;
    Wires wires;
    Aclint aclint{clock, {{{wires, 0}, {wires, 1}}, {{wires, 2}, {wires, 3}}}};
};

void test_a_software_interrupt_goes_to_its_hart() {
    AclintTest t;
    t.aclint.write(4, 4, 0xffffffff);
    g_assert_true(t.wires.level[2]);
    g_assert_false(t.wires.level[0]);
    g_assert_cmpuint(t.aclint.read(4, 4), ==, 1);
    t.aclint.write(4, 4, 0);
    g_assert_false(t.wires.level[2]);
    t.aclint.write(8, 4, 1);  // of a hart that is not there
    g_assert_cmpuint(t.aclint.read(8, 4), ==, 0);
}

void test_a_timer_interrupts_when_its_time_has_come() {
    AclintTest t;
    g_assert_cmpuint(t.aclint.next_deadline(), ==, TimedDevice::kNever);
    t.aclint.write(0x4008, 8, 1000);
    g_assert_false(t.wires.level[3]);
    g_assert_cmpuint(t.aclint.next_deadline(), ==, 1000);
    t.clock.set(999);
    t.aclint.check_time();
    g_assert_false(t.wires.level[3]);
    t.clock.set(1000);
    t.aclint.check_time();
    g_assert_true(t.wires.level[3]);
    g_assert_false(t.wires.level[1]);
    g_assert_cmpuint(t.aclint.next_deadline(), ==, TimedDevice::kNever);
    t.aclint.write(0x400c, 4, 1);  // the high half
    g_assert_false(t.wires.level[3]);
    g_assert_cmphex(t.aclint.read(0x4008, 8), ==, 0x1'0000'03e8);
    t.aclint.write(0x4008, 8, 0);
    g_assert_true(t.wires.level[3]);
    t.aclint.reset();
    g_assert_false(t.wires.level[3]);
}

void test_mtime_is_the_clock_and_can_be_set() {
    AclintTest t;
    t.aclint.write(0x4000, 8, 0x2'0000'0000);
    t.clock.set(0x1'2345'6789);
    g_assert_cmphex(t.aclint.read(0xbff8, 8), ==, 0x1'2345'6789);
    g_assert_cmphex(t.aclint.read(0xbff8, 4), ==, 0x2345'6789);
    g_assert_cmphex(t.aclint.read(0xbffc, 4), ==, 1);
    t.aclint.write(0xbffc, 4, 2);
    g_assert_cmphex(t.clock.now(), ==, 0x2'2345'6789);
    g_assert_true(t.wires.level[1]);
}

// --- PLIC

struct PlicTest {
    Wires wires;
    Plic plic{{{wires, 0}, {wires, 1}, {wires, 2}, {wires, 3}}};

    void priority(unsigned source, uint32_t value) { plic.write(4 * source, 4, value); }
    void enable(unsigned context, unsigned source) {
        const uint64_t at = 0x2000 + 0x80 * context + source / 32 * 4;
        plic.write(at, 4, plic.read(at, 4) | uint64_t{1} << source % 32);
    }
    uint32_t claim(unsigned context) { return static_cast<uint32_t>(plic.read(0x200004 + 0x1000 * context, 4)); }
    void complete(unsigned context, uint32_t source) { plic.write(0x200004 + 0x1000 * context, 4, source); }
    void threshold(unsigned context, uint32_t value) { plic.write(0x200000 + 0x1000 * context, 4, value); }
};

void test_an_interrupt_is_claimed_once_and_comes_again_if_its_level_stays() {
    PlicTest t;
    t.priority(10, 1);
    t.enable(1, 10);
    t.plic.set_level(10, true);
    g_assert_true(t.wires.level[1]);
    g_assert_false(t.wires.level[0]);
    g_assert_cmpuint(t.plic.read(0x1000, 4), ==, 1 << 10);
    g_assert_cmpuint(t.claim(1), ==, 10);
    g_assert_false(t.wires.level[1]);
    g_assert_cmpuint(t.claim(1), ==, 0);
    t.complete(1, 10);
    g_assert_true(t.wires.level[1]);
    g_assert_cmpuint(t.claim(1), ==, 10);
    t.plic.set_level(10, false);
    t.complete(1, 10);
    g_assert_false(t.wires.level[1]);
}

void test_a_request_stays_until_it_is_claimed() {
    PlicTest t;
    t.priority(10, 1);
    t.plic.set_level(10, true);
    t.plic.set_level(10, false);
    g_assert_cmpuint(t.plic.read(0x1000, 4), ==, 1 << 10);
    t.enable(1, 10);
    g_assert_true(t.wires.level[1]);
    g_assert_cmpuint(t.claim(1), ==, 10);
    // The gateway lets no other one pass before the completion, and does not count them.
    for (int i = 0; i < 3; ++i) {
        t.plic.set_level(10, true);
        t.plic.set_level(10, false);
    }
    g_assert_cmpuint(t.claim(1), ==, 0);
    t.complete(1, 10);
    g_assert_cmpuint(t.claim(1), ==, 0);
    t.plic.set_level(10, true);
    g_assert_cmpuint(t.claim(1), ==, 10);
    // A reset forgets what was under way, and asks the levels.
    t.plic.reset();
    g_assert_cmpuint(t.plic.read(0x1000, 4), ==, 1 << 10);
    t.plic.set_level(10, false);
    t.plic.reset();
    g_assert_cmpuint(t.plic.read(0x1000, 4), ==, 0);
}

void test_the_highest_priority_above_the_threshold_is_first() {
    PlicTest t;
    for (unsigned source : {3u, 40u, 96u}) {
        t.priority(source, source == 40 ? 5 : 2);
        t.enable(2, source);
        t.plic.set_level(source, true);
    }
    t.threshold(2, 5);
    g_assert_false(t.wires.level[2]);
    t.threshold(2, 4);
    g_assert_true(t.wires.level[2]);
    g_assert_cmpuint(t.claim(2), ==, 40);
    g_assert_false(t.wires.level[2]);
    g_assert_cmpuint(t.claim(2), ==, 3);  // of equals the lowest
    g_assert_cmpuint(t.claim(2), ==, 96);
    g_assert_cmpuint(t.claim(2), ==, 0);
}

void test_priority_zero_never_interrupts() {
    PlicTest t;
    t.enable(0, 5);
    t.plic.set_level(5, true);
    g_assert_false(t.wires.level[0]);
    g_assert_cmpuint(t.claim(0), ==, 0);
    t.priority(5, 15);
    g_assert_cmpuint(t.plic.read(20, 4), ==, 7);
    g_assert_true(t.wires.level[0]);
}

void test_a_completion_of_what_is_not_enabled_is_ignored() {
    PlicTest t;
    t.priority(7, 1);
    t.enable(0, 7);
    t.plic.set_level(7, true);
    g_assert_cmpuint(t.claim(0), ==, 7);
    t.complete(1, 7);
    t.complete(0, 97);
    t.complete(0, 0xffffffff);
    g_assert_false(t.wires.level[0]);
    t.complete(0, 7);
    g_assert_true(t.wires.level[0]);
}

void test_registers_of_sources_and_contexts_that_are_not_there_do_nothing() {
    PlicTest t;
    GRand* random = g_rand_new_with_seed(1);
    for (int i = 0; i < 20'000; ++i) {
        const uint64_t offset = static_cast<uint64_t>(g_rand_int_range(random, 0, Plic::kBytes / 4)) * 4;
        t.plic.write(offset, 4, g_rand_int(random));
        t.plic.read(offset, 4);
    }
    for (uint64_t offset = 0x2000; offset < 0x2000 + 0x80 * 16; offset += 4)
        t.plic.write(offset, 4, 0xffffffff);
    g_assert_cmphex(t.plic.read(0x2000, 4), ==, 0xfffffffe);
    g_assert_cmphex(t.plic.read(0x200c, 4), ==, 1);
    g_assert_cmphex(t.plic.read(0x2010, 4), ==, 0);
    g_assert_cmphex(t.plic.read(0x2000 + 0x80 * 4, 4), ==, 0);
    t.plic.reset();
    g_assert_cmphex(t.plic.read(0x2000, 4), ==, 0);
    g_rand_free(random);
}

// --- RTC

void test_the_rtc_tells_the_time_and_rings() {
    MachineClock clock;
    Wires wires;
    GoldfishRtc rtc(clock, {wires, 0});
    const uint64_t low = rtc.read(0, 4), high = rtc.read(4, 4);
    const auto seconds = static_cast<int64_t>((high << 32 | low) / 1'000'000'000);
    g_assert_cmpint(std::abs(seconds - g_get_real_time() / 1'000'000), <, 100);
    rtc.write(0x10, 4, 1);
    g_assert_cmpuint(rtc.next_deadline(), ==, TimedDevice::kNever);
    rtc.write(0x0c, 4, high + 1);
    rtc.write(0x08, 4, low);
    g_assert_cmpuint(rtc.read(0x18, 4), ==, 1);
    g_assert_cmpuint(rtc.next_deadline(), >, 0);
    g_assert_false(wires.level[0]);
    rtc.write(4, 4, high + 2);  // now it is later
    rtc.write(0, 4, low);
    g_assert_true(wires.level[0]);
    g_assert_cmpuint(rtc.read(0x18, 4), ==, 0);
    rtc.write(0x1c, 4, 0);
    g_assert_false(wires.level[0]);
    rtc.write(0x08, 4, 0);  // an alarm in the past
    g_assert_true(wires.level[0]);
}

// --- UART

enum { kData = 0, kIer = 1, kIir = 2, kFcr = 2, kLcr = 3, kMcr = 4, kLsr = 5, kMsr = 6, kScr = 7 };

struct UartTest {
    Wires wires;
    CharPort port;
    Uart uart{port, {wires, 0}};

    uint8_t get(uint64_t offset) { return static_cast<uint8_t>(uart.read(offset, 1)); }
    void set(uint64_t offset, uint8_t value) { uart.write(offset, 1, value); }
    size_t type(std::string_view text) {
        return port.put_input({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
    }
    std::string printed() {
        std::string text(CharPort::kOutput, '\0');
        text.resize(port.take_output({reinterpret_cast<uint8_t*>(text.data()), text.size()}));
        return text;
    }
};

void test_what_is_sent_is_printed_and_said_to_be_gone() {
    UartTest t;
    g_assert_cmphex(t.get(kLsr), ==, 0x60);
    for (char c : std::string_view("hello"))
        t.set(kData, static_cast<uint8_t>(c));
    g_assert_true(t.printed() == "hello");
    g_assert_cmphex(t.get(kIir), ==, 0x01);
    t.set(kIer, 2);
    g_assert_true(t.wires.level[0]);
    g_assert_cmphex(t.get(kIir), ==, 0x02);
    g_assert_cmphex(t.get(kIir), ==, 0x01);  // reading it was the answer
    g_assert_false(t.wires.level[0]);
    t.set(kData, '!');
    g_assert_true(t.wires.level[0]);
}

void test_received_characters_interrupt_by_level_and_by_time() {
    UartTest t;
    t.set(kFcr, 0x81);  // trigger at 8
    t.set(kIer, 1);
    t.type("abc");
    g_assert_true(t.wires.level[0]);
    g_assert_cmphex(t.get(kIir), ==, 0xcc);
    t.type("defgh");
    g_assert_cmphex(t.get(kIir), ==, 0xc4);
    g_assert_cmphex(t.get(kLsr), ==, 0x61);
    for (char c : std::string_view("abcdefgh"))
        g_assert_cmpint(t.get(kData), ==, c);
    g_assert_false(t.wires.level[0]);
    g_assert_cmphex(t.get(kLsr), ==, 0x60);
    g_assert_cmphex(t.get(kIir), ==, 0xc1);
}

void test_no_input_is_lost_however_slow_the_guest_is() {
    for (uint8_t fifo : {0, 1}) {
        UartTest t;
        t.set(kFcr, fifo);
        std::string sent, got;
        for (int i = 0; i < 1000; ++i)
            sent += static_cast<char>('a' + i * 7 % 26);
        size_t typed = 0;
        for (int turn = 0; got.size() < sent.size(); ++turn) {
            g_assert_cmpint(turn, <, 10'000);
            typed += t.type(std::string_view(sent).substr(typed));
            g_assert_cmphex(t.get(kLsr) & 1, ==, 1);
            for (int i = 0; i < 5 && t.get(kLsr) & 1; ++i)
                got += static_cast<char>(t.get(kData));
        }
        g_assert_true(got == sent);
        g_assert_cmphex(t.get(kLsr) & 1, ==, 0);
    }
}

void test_the_transmitter_is_full_while_nobody_takes_output() {
    UartTest t;
    t.set(kFcr, 1);
    std::string sent;
    while (t.get(kLsr) & 0x20) {
        g_assert_cmpuint(sent.size(), <, 100'000);
        for (int i = 0; i < 16; ++i) {
            sent += static_cast<char>('a' + sent.size() * 11 % 26);
            t.set(kData, static_cast<uint8_t>(sent.back()));
        }
    }
    t.set(kIer, 2);
    t.get(kIir);
    g_assert_false(t.wires.level[0]);
    std::string got = t.printed();
    g_assert_true(t.wires.level[0]);
    g_assert_cmphex(t.get(kLsr), ==, 0x60);
    got += t.printed();
    g_assert_true(got == sent);
}

void test_loopback_is_what_drivers_probe_with() {
    UartTest t;
    t.set(kMcr, 0x1a);  // loopback, RTS, OUT2
    g_assert_cmphex(t.get(kMsr) & 0xf0, ==, 0x90);
    t.set(kData, 'x');
    g_assert_true(t.printed() == "");
    g_assert_cmphex(t.get(kLsr), ==, 0x61);
    g_assert_cmpint(t.get(kData), ==, 'x');
    t.type("typed");
    g_assert_cmphex(t.get(kLsr), ==, 0x60);
    t.set(kMcr, 0x08);
    g_assert_cmphex(t.get(kMsr) & 0xf0, ==, 0xb0);
    g_assert_cmpint(t.get(kData), ==, 't');
}

void test_the_other_registers_keep_what_is_written() {
    UartTest t;
    t.set(kScr, 0x5a);
    g_assert_cmphex(t.get(kScr), ==, 0x5a);
    t.set(kIer, 0xff);
    g_assert_cmphex(t.get(kIer), ==, 0x0f);
    t.set(kLcr, 0x83);
    t.set(kData, 0x34);
    t.set(kIer, 0x12);
    g_assert_cmphex(t.get(kData), ==, 0x34);
    g_assert_cmphex(t.get(kIer), ==, 0x12);
    t.set(kLcr, 0x03);
    g_assert_cmphex(t.get(kIer), ==, 0x0f);
    g_assert_true(t.printed() == "");
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/finisher/a-finished-guest-has-a-status", test_a_finished_guest_has_a_status);
    g_test_add_func("/aclint/a-software-interrupt-goes-to-its-hart", test_a_software_interrupt_goes_to_its_hart);
    g_test_add_func("/aclint/a-timer-interrupts-when-its-time-has-come",
                    test_a_timer_interrupts_when_its_time_has_come);
    g_test_add_func("/aclint/mtime-is-the-clock-and-can-be-set", test_mtime_is_the_clock_and_can_be_set);
    g_test_add_func("/plic/an-interrupt-is-claimed-once-and-comes-again-if-its-level-stays",
                    test_an_interrupt_is_claimed_once_and_comes_again_if_its_level_stays);
    g_test_add_func("/plic/a-request-stays-until-it-is-claimed", test_a_request_stays_until_it_is_claimed);
    g_test_add_func("/plic/the-highest-priority-above-the-threshold-is-first",
                    test_the_highest_priority_above_the_threshold_is_first);
    g_test_add_func("/plic/priority-zero-never-interrupts", test_priority_zero_never_interrupts);
    g_test_add_func("/plic/a-completion-of-what-is-not-enabled-is-ignored",
                    test_a_completion_of_what_is_not_enabled_is_ignored);
    g_test_add_func("/plic/registers-of-sources-and-contexts-that-are-not-there-do-nothing",
                    test_registers_of_sources_and_contexts_that_are_not_there_do_nothing);
    g_test_add_func("/rtc/the-rtc-tells-the-time-and-rings", test_the_rtc_tells_the_time_and_rings);
    g_test_add_func("/uart/what-is-sent-is-printed-and-said-to-be-gone",
                    test_what_is_sent_is_printed_and_said_to_be_gone);
    g_test_add_func("/uart/received-characters-interrupt-by-level-and-by-time",
                    test_received_characters_interrupt_by_level_and_by_time);
    g_test_add_func("/uart/no-input-is-lost-however-slow-the-guest-is",
                    test_no_input_is_lost_however_slow_the_guest_is);
    g_test_add_func("/uart/the-transmitter-is-full-while-nobody-takes-output",
                    test_the_transmitter_is_full_while_nobody_takes_output);
    g_test_add_func("/uart/loopback-is-what-drivers-probe-with", test_loopback_is_what_drivers_probe_with);
    g_test_add_func("/uart/the-other-registers-keep-what-is-written", test_the_other_registers_keep_what_is_written);
    return g_test_run();
}
