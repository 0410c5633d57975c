#include "tools/machine/gdb_packets.h"

#include <fmt/core.h>

namespace ashlar {

namespace {

std::optional<uint8_t> digit(char c) {
    if (c >= '0' && c <= '9')
        return static_cast<uint8_t>(c - '0');
    if (c >= 'a' && c <= 'f')
        return static_cast<uint8_t>(c - 'a' + 10);
    if (c >= 'A' && c <= 'F')
        return static_cast<uint8_t>(c - 'A' + 10);
    return std::nullopt;
}

}  // namespace

GdbPacketParser::Event GdbPacketParser::take(uint8_t byte) {
    switch (state_) {
        case State::Outside:
            if (byte == 3)
                return Event::Interrupt;
            if (byte == '-')
                return Event::Resend;
            if (byte == '$') {
                packet_.clear();
                sum_ = 0;
                state_ = State::Inside;
            }
            return Event::Nothing;
        case State::Inside:
            if (byte == '#') {
                state_ = State::FirstDigit;
                return Event::Nothing;
            }
            sum_ += byte;
            if (byte == '}')
                state_ = State::Escaped;
            else
                packet_ += static_cast<char>(byte);
            break;
        case State::Escaped:
            sum_ += byte;
            packet_ += static_cast<char>(byte ^ 0x20);
            state_ = State::Inside;
            break;
        case State::FirstDigit:
        case State::SecondDigit: {
            const auto value = digit(static_cast<char>(byte));
            expected_ = static_cast<uint8_t>(expected_ << 4 | value.value_or(0));
            if (!value) {
                state_ = State::Outside;
                return Event::Damaged;
            }
            if (state_ == State::FirstDigit) {
                state_ = State::SecondDigit;
                return Event::Nothing;
            }
            state_ = State::Outside;
            return sum_ == expected_ ? Event::Packet : Event::Damaged;
        }
    }
    if (packet_.size() > kMaxPacket) {
        state_ = State::Outside;
        return Event::Damaged;
    }
    return Event::Nothing;
}

std::string gdb_frame(std::string_view payload) {
    std::string frame = "$";
    uint8_t sum = 0;
    const auto put = [&](char c) {
        frame += c;
        sum += static_cast<uint8_t>(c);
    };
    for (char c : payload) {
        if (c == '$' || c == '#' || c == '}' || c == '*') {
            put('}');
            c = static_cast<char>(c ^ 0x20);
        }
        put(c);
    }
    return frame + fmt::format("#{:02x}", sum);
}

std::string to_hex(std::span<const uint8_t> bytes) {
    std::string text;
    for (uint8_t byte : bytes)
        text += fmt::format("{:02x}", byte);
    return text;
}

std::optional<std::vector<uint8_t>> from_hex(std::string_view text) {
    if (text.size() % 2)
        return std::nullopt;
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i < text.size(); i += 2) {
        const auto high = digit(text[i]), low = digit(text[i + 1]);
        if (!high || !low)
            return std::nullopt;
        bytes.push_back(static_cast<uint8_t>(*high << 4 | *low));
    }
    return bytes;
}

std::optional<uint64_t> take_hex(std::string_view& text, char end) {
    uint64_t value = 0;
    size_t digits = 0;
    for (; digits < text.size() && digits < 16; ++digits) {
        const auto next = digit(text[digits]);
        if (!next)
            break;
        value = value << 4 | *next;
    }
    if (digits == 0)
        return std::nullopt;
    text.remove_prefix(digits);
    if (end == 0)
        return value;
    if (!text.starts_with(end))
        return std::nullopt;
    text.remove_prefix(1);
    return value;
}

}  // namespace ashlar
