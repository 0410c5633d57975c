// The framing of gdb's remote protocol ("GDB Remote Serial Protocol", Overview), and its hexadecimal digits. Pure.
#pragma once

#include "hw/hart_plan.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ashlar {

// What comes from gdb, a byte at a time.
class GdbPacketParser {
public:
    static constexpr size_t kMaxPacket = 4096;

    enum class Event : uint8_t {
        Nothing,
        Packet,     // packet() is whole
        Damaged,    // its sum is wrong, or it is too long: to be sent again
        Interrupt,  // Ctrl-c
        Resend,     // gdb has not got the last answer
    };
    Event take(uint8_t byte);
    const std::string& packet() const { return packet_; }

private:
    enum class State : uint8_t { Outside, Inside, Escaped, FirstDigit, SecondDigit } state_ = State::Outside;
    std::string packet_;
    uint8_t sum_ = 0, expected_ = 0;
};

// The actions of vCont, "ACTION[:THREAD][;...]", for harts that are the threads 1 to `harts`: the first one that names
// a hart, or all of them, is for it; what none names stands. nullopt: it is not so, or then nothing would go on.
std::optional<std::vector<HartPlan>> parse_gdb_actions(std::string_view text, unsigned harts);

std::string gdb_frame(std::string_view payload);

std::string to_hex(std::span<const uint8_t> bytes);
std::optional<std::vector<uint8_t>> from_hex(std::string_view text);
// Takes digits from the front of `text`, and the character `end` behind them unless it is 0; nullopt: it is not so.
std::optional<uint64_t> take_hex(std::string_view& text, char end = 0);

}  // namespace ashlar
