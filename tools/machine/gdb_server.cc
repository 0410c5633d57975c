#include "tools/machine/gdb_server.h"

#include "hw/hart.h"
#include "hw/machine.h"
#include "monitor/machine_control.h"
#include "tools/machine/gdb_registers.h"

#include <fmt/core.h>

#include <cstring>

namespace ashlar {

namespace {

constexpr std::string_view kMistake = "E01", kNoMemory = "E14", kTooMany = "E28";
// As gdb numbers signals.
constexpr unsigned kInterrupted = 2, kTrapped = 5;

}  // namespace

GdbServer::GdbServer(Machine& machine, MachineControl& control, CharacterBackend& backend, std::function<void()> kill)
    : machine_(machine), control_(control), backend_(backend), kill_(std::move(kill)) {
    backend_.connect(this);
}

GdbServer::~GdbServer() {
    backend_.connect(nullptr);
}

Task<void> GdbServer::co_close() {
    co_await scope_.join();
}

void GdbServer::receive(std::span<const uint8_t> bytes) {
    // It has the answer to its last packet: the program may end now without being missed.
    const Then then = std::exchange(then_, Then::Nothing);
    if (then == Then::GoOn)
        scope_.spawn(co_leave());
    else if (then == Then::End)
        kill_();
    for (uint8_t byte : bytes) {
        switch (parser_.take(byte)) {
            case GdbPacketParser::Event::Nothing:
                break;
            case GdbPacketParser::Event::Resend:
                output_ += last_;
                flush();
                break;
            case GdbPacketParser::Event::Damaged:
                output_ += '-';
                flush();
                break;
            case GdbPacketParser::Event::Interrupt:
                busy_ = true;
                scope_.spawn(co_interrupt());
                break;
            case GdbPacketParser::Event::Packet:
                output_ += '+';
                flush();
                busy_ = true;
                scope_.spawn(co_handle(parser_.packet()));
                break;
        }
    }
}

void GdbServer::reply(std::string_view payload) {
    last_ = gdb_frame(payload);
    output_ += last_;
    flush();
}

void GdbServer::flush() {
    output_.erase(0, backend_.write({reinterpret_cast<const uint8_t*>(output_.data()), output_.size()}));
}

void GdbServer::ready_to_send() {
    flush();
    if (room())
        backend_.ready_to_receive();
}

void GdbServer::finished() {
    busy_ = false;
    backend_.ready_to_receive();
}

void GdbServer::stopped(std::optional<unsigned> hart) {
    if (hart)
        hart_ = stepped_ = *hart;
    if (!std::exchange(awaited_, false))
        return;
    std::string text = stop_reply(hart ? kTrapped : kInterrupted);
    if (const auto& hit = machine_.hart(hart_).watch_hit(); hart && hit)
        text += fmt::format("{}:{:x};",
                            hit->what == Hart::Watch::Write  ? "watch"
                            : hit->what == Hart::Watch::Read ? "rwatch"
                                                             : "awatch",
                            hit->first);
    reply(text);
}

void GdbServer::exited(int status) {
    if (std::exchange(awaited_, false))
        reply(fmt::format("W{:02x}", status & 0xff));
}

std::string GdbServer::stop_reply(unsigned signal) const {
    return fmt::format("T{:02x}thread:{:x};", signal, hart_ + 1);
}

Task<void> GdbServer::co_interrupt() {
    (void)co_await control_.co_stop();  // stopped() replies
    finished();
}

Task<void> GdbServer::co_handle(std::string packet) {
    const std::string_view rest = std::string_view(packet).substr(packet.empty() ? 0 : 1);
    const char kind = packet.empty() ? 0 : packet[0];
    // Who awaits that it stops says nothing until then: this is somebody else, to whom the stop is no answer.
    awaited_ = false;
    if (control_.run_state() == RunState::Running)
        (void)co_await control_.co_stop();
    switch (kind) {
        case '?':  // of a new gdb; what the one before has left behind is nobody's
            remove_breakpoints();
            reply(stop_reply(kTrapped));
            break;
        case 'g':
            reply(read_registers());
            break;
        case 'G':
            reply(write_registers(rest));
            break;
        case 'p':
            reply(read_register(rest));
            break;
        case 'P':
            reply(write_register(rest));
            break;
        case 'm':
            reply(read_memory(rest));
            break;
        case 'M':
        case 'X':
            reply(write_memory(rest, kind == 'M'));
            break;
        case 'Z':
        case 'z':
            reply(change_breakpoint(rest, kind == 'Z'));
            break;
        case 'H':
            reply(choose_thread(rest));
            break;
        case 'T': {
            std::string_view text = rest;
            const auto thread = take_hex(text);
            reply(thread && *thread >= 1 && *thread <= machine_.hart_count() ? "OK" : kMistake);
            break;
        }
        case 'c':
        case 'C':
        case 's':
        case 'S':
            co_await co_resume(kind, rest);
            break;
        case 'v':
            co_await co_multi(rest);
            break;
        case 'D':
            co_await co_detach();
            break;
        case 'k':
            kill_();
            break;
        case 'q':
            reply(query(packet));
            break;
        default:
            reply({});
    }
    finished();
}

// c[ADDRESS], s[ADDRESS], CSIGNAL[;ADDRESS], SSIGNAL[;ADDRESS]. The other harts run meanwhile.
Task<void> GdbServer::co_resume(char how, std::string_view rest) {
    if (how == 'C' || how == 'S')
        (void)take_hex(rest, ';');
    if (auto address = take_hex(rest))
        (void)machine_.hart(stepped_).write_register(kGdbPc, *address);
    std::vector<HartPlan> plan(machine_.hart_count(), HartPlan::Run);
    if (how == 's' || how == 'S')
        plan[stepped_] = HartPlan::Step;
    co_await co_go_on(std::move(plan));
}

// vCont?, and vCont;ACTION[:THREAD]...
Task<void> GdbServer::co_multi(std::string_view rest) {
    if (rest == "Cont?") {
        reply("vCont;c;C;s;S");
    } else if (rest.starts_with("Kill")) {
        reply("OK");
        then_ = Then::End;
    } else if (!rest.starts_with("Cont;")) {
        reply({});
    } else if (auto plan = parse_gdb_actions(rest.substr(5), machine_.hart_count())) {
        co_await co_go_on(std::move(*plan));
    } else {
        reply(kMistake);
    }
}

// stopped() replies.
Task<void> GdbServer::co_go_on(std::vector<HartPlan> plan) {
    machine_.plan(std::move(plan));
    awaited_ = true;
    if (auto going = co_await control_.co_cont(); !going) {
        machine_.plan({});
        if (std::exchange(awaited_, false))
            reply(kMistake);
    }
}

Task<void> GdbServer::co_detach() {
    remove_breakpoints();
    reply("OK");
    then_ = Then::GoOn;
    co_return;
}

Task<void> GdbServer::co_leave() {
    (void)co_await control_.co_cont();
}

void GdbServer::remove_breakpoints() {
    for (unsigned hart = 0; hart < machine_.hart_count(); ++hart) {
        for (uint64_t address : breakpoints_)
            machine_.hart(hart).set_breakpoint(address, false);
        for (const Hart::Watched& watched : watchpoints_)
            machine_.hart(hart).set_watchpoint(watched, false);
    }
    breakpoints_.clear();
    watchpoints_.clear();
}

std::string GdbServer::query(std::string_view packet) {
    constexpr std::string_view kFeatures = "qXfer:features:read:target.xml:";
    if (packet.starts_with("qSupported"))
        return fmt::format("PacketSize={:x};qXfer:features:read+;vContSupported+", GdbPacketParser::kMaxPacket);
    if (packet.starts_with(kFeatures)) {
        const std::string& description = gdb_target_description();
        packet.remove_prefix(kFeatures.size());
        const auto offset = take_hex(packet, ','), length = take_hex(packet);
        if (!offset || !length || *offset > description.size())
            return std::string(kMistake);
        const std::string part = description.substr(*offset, std::min<uint64_t>(*length, kMaxMemory));
        return (*offset + part.size() == description.size() ? "l" : "m") + part;
    }
    if (packet == "qfThreadInfo") {
        std::string text = "m";
        for (unsigned hart = 0; hart < machine_.hart_count(); ++hart)
            text += fmt::format("{}{:x}", hart ? "," : "", hart + 1);
        return text;
    }
    if (packet == "qsThreadInfo")
        return "l";
    if (packet == "qC")
        return fmt::format("QC{:x}", hart_ + 1);
    if (packet.starts_with("qAttached"))
        return "1";
    if (packet.starts_with("qThreadExtraInfo,")) {
        packet.remove_prefix(17);
        const auto thread = take_hex(packet);
        if (!thread || *thread == 0 || *thread > machine_.hart_count())
            return std::string(kMistake);
        const std::string text = fmt::format("hart {}", *thread - 1);
        return to_hex({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
    }
    return {};
}

std::string GdbServer::choose_thread(std::string_view text) {
    const char what = text.empty() ? 0 : text[0];
    if (!text.empty())
        text.remove_prefix(1);
    if (text == "-1" || text == "0")
        return "OK";
    const auto thread = take_hex(text);
    if (!thread || *thread == 0 || *thread > machine_.hart_count())
        return std::string(kMistake);
    (what == 'c' ? stepped_ : hart_) = static_cast<unsigned>(*thread - 1);
    return "OK";
}

std::string GdbServer::read_registers() {
    std::string text;
    for (unsigned number = 0; number < kGdbGeneral; ++number) {
        uint64_t value = 0;
        (void)machine_.hart(hart_).read_register(number, value);
        text += to_hex({reinterpret_cast<const uint8_t*>(&value), sizeof value});
    }
    return text;
}

std::string GdbServer::write_registers(std::string_view text) {
    const auto bytes = from_hex(text);
    if (!bytes || bytes->size() % 8 || bytes->size() > kGdbGeneral * 8)
        return std::string(kMistake);
    for (unsigned number = 0; number < bytes->size() / 8; ++number) {
        uint64_t value;
        memcpy(&value, bytes->data() + number * 8, sizeof value);
        (void)machine_.hart(hart_).write_register(number, value);
    }
    return "OK";
}

std::string GdbServer::read_register(std::string_view text) {
    const auto number = take_hex(text);
    uint64_t value;
    if (!number || *number >= kGdbRegisters ||
        !machine_.hart(hart_).read_register(static_cast<unsigned>(*number), value))
        return std::string(kMistake);
    return to_hex({reinterpret_cast<const uint8_t*>(&value), gdb_register_bytes(static_cast<unsigned>(*number))});
}

std::string GdbServer::write_register(std::string_view text) {
    const auto number = take_hex(text, '=');
    const auto bytes = from_hex(text);
    uint64_t value = 0;
    if (!number || *number >= kGdbRegisters || !bytes || bytes->empty() || bytes->size() > sizeof value)
        return std::string(kMistake);
    memcpy(&value, bytes->data(), bytes->size());
    return machine_.hart(hart_).write_register(static_cast<unsigned>(*number), value) ? "OK" : std::string(kMistake);
}

std::string GdbServer::read_memory(std::string_view text) {
    const auto address = take_hex(text, ','), length = take_hex(text);
    if (!address || !length || *length > kMaxMemory)
        return std::string(kMistake);
    std::vector<uint8_t> bytes(*length);
    return machine_.hart(hart_).read_memory(*address, bytes) ? to_hex(bytes) : std::string(kNoMemory);
}

// M: in hexadecimal digits; X: as they are.
std::string GdbServer::write_memory(std::string_view text, bool in_hex) {
    const auto address = take_hex(text, ','), length = take_hex(text, ':');
    const auto bytes = in_hex ? from_hex(text) : std::vector<uint8_t>(text.begin(), text.end());
    if (!address || !length || !bytes || bytes->size() != *length)
        return std::string(kMistake);
    if (!machine_.hart(hart_).write_memory(*address, *bytes))
        return std::string(kNoMemory);
    return "OK";
}

// TYPE,ADDRESS,KIND: software and hardware breakpoints are the same here; of watchpoints KIND is the length.
std::string GdbServer::change_breakpoint(std::string_view text, bool set) {
    const auto type = take_hex(text, ','), address = take_hex(text, ','), length = take_hex(text);
    if (!type || *type > 4)
        return {};
    if (!address || !length)
        return std::string(kMistake);
    if (*type >= 2) {
        constexpr Hart::Watch kWatches[] = {Hart::Watch::Write, Hart::Watch::Read, Hart::Watch::Access};
        const uint64_t last = *address + (*length - 1);
        if (*length == 0 || last < *address)
            return std::string(kMistake);
        return change_watchpoint({*address, last, kWatches[*type - 2]}, set);
    }
    if (set && breakpoints_.size() >= kMaxBreakpoints)
        return std::string(kTooMany);
    for (unsigned hart = 0; hart < machine_.hart_count(); ++hart)
        machine_.hart(hart).set_breakpoint(*address, set);
    if (set)
        breakpoints_.insert(*address);
    else
        breakpoints_.erase(*address);
    return "OK";
}

std::string GdbServer::change_watchpoint(Hart::Watched watched, bool set) {
    if (set && watchpoints_.size() >= kMaxWatchpoints)
        return std::string(kTooMany);
    for (unsigned hart = 0; hart < machine_.hart_count(); ++hart)
        machine_.hart(hart).set_watchpoint(watched, set);
    std::erase(watchpoints_, watched);
    if (set)
        watchpoints_.push_back(watched);
    return "OK";
}

}  // namespace ashlar
