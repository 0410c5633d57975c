// What a gdb may send, in front of a small machine. The first byte says whether there are two harts, and whether the
// rest is the bytes as they come, or packets that need their frames, one a line. A byte 0xff lets the machine run for a
// moment, 0xfe interrupts it. Whatever comes, answers are packets, and the harts stand while packets are answered.
#include "tests/unit/gdb_machine.h"
#include "tests/unit/riscv_asm.h"

using namespace ashlar;
using namespace ashlar::riscv;

namespace {

struct Fixture : GdbMachine {
    explicit Fixture(unsigned harts) : GdbMachine(harts, AioContext::EngineKind::Epoll) {}
};

void check_framing(std::string_view payload) {
    GdbPacketParser parser;
    auto last = GdbPacketParser::Event::Nothing;
    for (char byte : gdb_frame(payload))
        last = parser.take(static_cast<uint8_t>(byte));
    assert(payload.size() > GdbPacketParser::kMaxPacket || last == GdbPacketParser::Event::Packet);
    assert(payload.size() > GdbPacketParser::kMaxPacket || parser.packet() == payload);
    if (const auto plan = parse_gdb_actions(payload, 3))
        assert(plan->size() == 3);
}

void check_output(std::string_view output) {
    GdbPacketParser parser;
    for (char byte : output) {
        const auto event = parser.take(static_cast<uint8_t>(byte));
        if (event != GdbPacketParser::Event::Nothing && event != GdbPacketParser::Event::Packet &&
            event != GdbPacketParser::Event::Resend)
            abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static Fixture one(1), two(2);
    if (size == 0)
        return 0;
    Fixture& f = data[0] & 1 ? two : one;
    const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
    check_framing(input);
    const bool is_raw = data[0] & 2;

    // The same beginning each time, as far as that matters.
    f.put(kGdbRam,
          {sd(t0, sp, 0), ld(t1, sp, 0), amo_w(2, a0, sp, 0), amo_w(3, a1, sp, a0), addi(t0, t0, 1), jal(zero, -20)});
    f.go("?");
    for (unsigned hart = 0; hart < f.machine->hart_count(); ++hart) {
        f.machine->hart(hart).reset(kGdbRam);
        (void)f.machine->hart(hart).write_register(sp, kGdbRam + 0x1000);
    }
    f.output.clear();
    std::string packet;
    for (char byte : input) {
        if (static_cast<uint8_t>(byte) == 0xff) {
            f.settle();
            f.context->poll(false);
        } else if (static_cast<uint8_t>(byte) == 0xfe) {
            f.feed("\x03");
        } else if (is_raw) {
            f.feed({&byte, 1});
        } else if (byte == '\n') {
            f.send(std::exchange(packet, {}));
        } else {
            packet += byte;
        }
    }
    f.go("?");  // it stops
    check_output(f.output);
    f.close_gdb();
    f.connect_gdb();
    return 0;
}
