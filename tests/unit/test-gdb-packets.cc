#include "tools/machine/gdb_packets.h"

#include "tests/unit/assert_str.h"

#include <glib.h>

using namespace ashlar;

namespace {

using Event = GdbPacketParser::Event;

std::vector<Event> feed(GdbPacketParser& parser, std::string_view bytes) {
    std::vector<Event> events;
    for (char byte : bytes)
        if (Event event = parser.take(static_cast<uint8_t>(byte)); event != Event::Nothing)
            events.push_back(event);
    return events;
}

void expect(std::string_view bytes, std::vector<Event> events, std::string_view packet = {}) {
    GdbPacketParser parser;
    g_assert_true(feed(parser, bytes) == events);
    if (!events.empty() && events.back() == Event::Packet)
        g_assert_true(parser.packet() == packet);
}

void a_packet_has_its_sum() {
    expect("$g#67", {Event::Packet}, "g");
    expect("$#00", {Event::Packet}, "");
    expect("+$m0,4#fd", {Event::Packet}, "m0,4");
    expect("$m0,4#FD", {Event::Packet}, "m0,4");
    expect("$g#68", {Event::Damaged});
    expect("$g#6x", {Event::Damaged});
    expect("$g#x", {Event::Damaged});
    expect("$g#6", {});
    expect("g#67\n", {});
}

void whatever_bytes_there_are_come_through() {
    std::string all;
    for (int byte = 0; byte < 256; ++byte)
        all += static_cast<char>(byte);
    for (int round = 0; round < 3; ++round) {
        const std::string frame = gdb_frame(all);
        expect(frame, {Event::Packet}, all);
        g_assert_cmpuint(frame.find('$', 1), ==, std::string::npos);
        all += all;
    }
    assert_str(gdb_frame("a}b"),
               "$a}\x5d"
               "b#9d");
}

void an_interrupt_counts_only_between_packets() {
    expect("\x03", {Event::Interrupt});
    expect("$g\x03#6a", {Event::Packet}, "g\x03");
    expect("$g#67\x03$g#67", {Event::Packet, Event::Interrupt, Event::Packet}, "g");
    expect("-", {Event::Resend});
    expect("$-#2d", {Event::Packet}, "-");
}

void a_packet_that_begins_anew_is_another_one() {
    expect("$G0000$g#67", {Event::Packet}, "g");
    expect("$G0000$G0000$g#67", {Event::Packet}, "g");
}

void a_packet_has_a_greatest_length() {
    const std::string longest(GdbPacketParser::kMaxPacket, 'x');
    expect(gdb_frame(longest), {Event::Packet}, longest);
    GdbPacketParser parser;
    // What follows the part that was too much is between packets, and without end costs nothing.
    g_assert_true(feed(parser, "$" + longest + "x") == std::vector{Event::Damaged});
    g_assert_true(feed(parser, longest + longest).empty());
    g_assert_cmpuint(parser.packet().size(), <=, GdbPacketParser::kMaxPacket + 1);
    g_assert_true(feed(parser, "#00$g#67") == std::vector{Event::Packet});
}

void digits_are_bounded() {
    std::string_view text = "1f,";
    g_assert_cmphex(take_hex(text, ',').value(), ==, 0x1f);
    g_assert_true(text.empty());
    text = "ffffffffffffffff0";
    g_assert_cmphex(take_hex(text).value(), ==, UINT64_MAX);
    g_assert_true(text == "0");
    for (std::string_view wrong : {"", ",", "g", "12;", "12"}) {
        text = wrong;
        g_assert_false(take_hex(text, ',').has_value());
    }
    g_assert_true(from_hex("00fFaB") == std::vector<uint8_t>({0, 0xff, 0xab}));
    g_assert_true(from_hex("") == std::vector<uint8_t>());
    g_assert_false(from_hex("0").has_value());
    g_assert_false(from_hex("0g").has_value());
    assert_str(to_hex(std::vector<uint8_t>({0, 0xff, 0x1a})), "00ff1a");
}

void the_first_action_that_names_a_hart_is_its_own() {
    constexpr auto kRun = HartPlan::Run, kStep = HartPlan::Step, kStand = HartPlan::Stand;
    using Plan = std::vector<HartPlan>;
    g_assert_true(parse_gdb_actions("c", 2) == Plan({kRun, kRun}));
    g_assert_true(parse_gdb_actions("c:-1", 2) == Plan({kRun, kRun}));
    g_assert_true(parse_gdb_actions("s:2;c", 3) == Plan({kRun, kStep, kRun}));
    g_assert_true(parse_gdb_actions("s:2;c:-1", 2) == Plan({kRun, kStep}));
    g_assert_true(parse_gdb_actions("s:2", 2) == Plan({kStand, kStep}));
    g_assert_true(parse_gdb_actions("s:1;s:2;c:1", 3) == Plan({kStep, kStep, kStand}));
    g_assert_true(parse_gdb_actions("C05:1;S0b:2", 2) == Plan({kRun, kStep}));
    for (std::string_view wrong : {"", ";", "c;", "x", "c:0", "c:3", "c:", "s:1x", "cx", "C", "C:1", "Cg;c", "s:p1.1",
                                   "c:ffffffffffffffff", "r1,2:1", "t:1"})
        g_assert_false(parse_gdb_actions(wrong, 2).has_value());
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/gdb-packets/a-packet-has-its-sum", a_packet_has_its_sum);
    g_test_add_func("/gdb-packets/whatever-bytes-there-are-come-through", whatever_bytes_there_are_come_through);
    g_test_add_func("/gdb-packets/an-interrupt-counts-only-between-packets", an_interrupt_counts_only_between_packets);
    g_test_add_func("/gdb-packets/a-packet-that-begins-anew-is-another-one", a_packet_that_begins_anew_is_another_one);
    g_test_add_func("/gdb-packets/a-packet-has-a-greatest-length", a_packet_has_a_greatest_length);
    g_test_add_func("/gdb-packets/digits-are-bounded", digits_are_bounded);
    g_test_add_func("/gdb-packets/the-first-action-that-names-a-hart-is-its-own",
                    the_first_action_that_names_a_hart_is_its_own);
    return g_test_run();
}
