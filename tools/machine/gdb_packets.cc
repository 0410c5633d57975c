#include "tools/machine/gdb_packets.h"

#include <fmt/core.h>

#include <algorithm>

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
            if (byte == '$') {  // of the next one: this one has no end
                packet_.clear();
                sum_ = 0;
            } else if (byte == '}')
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

std::optional<std::vector<HartPlan>> parse_gdb_actions(std::string_view text, unsigned harts) {
    std::vector<std::optional<HartPlan>> found(harts);
    for (bool more = true; more;) {
        const size_t end = std::min(text.find(';'), text.size());
        std::string_view action = text.substr(0, end);
        more = end < text.size();
        text.remove_prefix(end + more);
        HartPlan plan;
        if (action.starts_with('s') || action.starts_with('S'))
            plan = HartPlan::Step;
        else if (action.starts_with('c') || action.starts_with('C'))
            plan = HartPlan::Run;
        else
            return std::nullopt;
        const bool with_signal = action[0] < 'a';
        action.remove_prefix(1);
        // A signal is for a program under an operating system.
        if (with_signal && !take_hex(action))
            return std::nullopt;
        uint64_t first = 1, last = harts;
        if (action.starts_with(':') && action != ":-1") {
            action.remove_prefix(1);
            const auto thread = take_hex(action);
            if (!thread || *thread == 0 || *thread > harts || !action.empty())
                return std::nullopt;
            first = last = *thread;
        } else if (!action.empty() && action != ":-1") {
            return std::nullopt;
        }
        for (uint64_t thread = first; thread <= last; ++thread)
            if (!found[thread - 1])
                found[thread - 1] = plan;
    }
    std::vector<HartPlan> plans;
    bool any = false;
    for (const auto& plan : found) {
        any |= plan.has_value();
        plans.push_back(plan.value_or(HartPlan::Stand));
    }
    return any ? std::optional(plans) : std::nullopt;
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
