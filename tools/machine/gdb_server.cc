#include "tools/machine/gdb_server.h"

#include "hw/hart.h"
#include "hw/machine.h"
#include "monitor/machine_control.h"

#include <fmt/core.h>

#include <cstring>

namespace ashlar {

namespace {

constexpr unsigned kPc = 32, kFirstFloat = 33, kFirstCsr = 65, kInGeneral = 65;
constexpr std::string_view kMistake = "E01", kNoMemory = "E14";

constexpr const char* kIntegerNames[] = {"zero", "ra", "sp", "gp", "tp",  "t0",  "t1", "t2", "fp", "s1", "a0",
                                         "a1",   "a2", "a3", "a4", "a5",  "a6",  "a7", "s2", "s3", "s4", "s5",
                                         "s6",   "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6", "pc"};
constexpr const char* kFloatNames[] = {"ft0", "ft1", "ft2", "ft3", "ft4",  "ft5",  "ft6", "ft7", "fs0",  "fs1", "fa0",
                                       "fa1", "fa2", "fa3", "fa4", "fa5",  "fa6",  "fa7", "fs2", "fs3",  "fs4", "fs5",
                                       "fs6", "fs7", "fs8", "fs9", "fs10", "fs11", "ft8", "ft9", "ft10", "ft11"};
struct NamedCsr {
    const char* name;
    unsigned number;
};
constexpr NamedCsr kFloatCsrs[] = {{"fflags", 0x001}, {"frm", 0x002}, {"fcsr", 0x003}};
constexpr NamedCsr kCsrs[] = {
    {"sstatus", 0x100},  {"sie", 0x104},     {"stvec", 0x105},      {"scounteren", 0x106}, {"senvcfg", 0x10a},
    {"sscratch", 0x140}, {"sepc", 0x141},    {"scause", 0x142},     {"stval", 0x143},      {"sip", 0x144},
    {"satp", 0x180},     {"mstatus", 0x300}, {"misa", 0x301},       {"medeleg", 0x302},    {"mideleg", 0x303},
    {"mie", 0x304},      {"mtvec", 0x305},   {"mcounteren", 0x306}, {"mscratch", 0x340},   {"mepc", 0x341},
    {"mcause", 0x342},   {"mtval", 0x343},   {"mip", 0x344},        {"mcycle", 0xb00},     {"minstret", 0xb02},
    {"cycle", 0xc00},    {"time", 0xc01},    {"instret", 0xc02},    {"mvendorid", 0xf11},  {"mhartid", 0xf14},
};

std::string csr_line(const NamedCsr& csr, unsigned bits) {
    return fmt::format("<reg name=\"{}\" bitsize=\"{}\" regnum=\"{}\"/>\n", csr.name, bits, kFirstCsr + csr.number);
}

std::string make_target_description() {
    std::string text =
        "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target version=\"1.0\">\n"
        "<architecture>riscv:rv64</architecture>\n<feature name=\"org.gnu.gdb.riscv.cpu\">\n";
    for (unsigned i = 0; i <= kPc; ++i)
        text += fmt::format("<reg name=\"{}\" bitsize=\"64\" type=\"{}\" regnum=\"{}\"/>\n", kIntegerNames[i],
                            i == kPc                               ? "code_ptr"
                            : i == 2 || i == 3 || i == 4 || i == 8 ? "data_ptr"
                                                                   : "int",
                            i);
    text +=
        "</feature>\n<feature name=\"org.gnu.gdb.riscv.fpu\">\n<union id=\"riscv_double\">\n"
        "<field name=\"float\" type=\"ieee_single\"/>\n<field name=\"double\" type=\"ieee_double\"/>\n</union>\n";
    for (unsigned i = 0; i < std::size(kFloatNames); ++i)
        text += fmt::format("<reg name=\"{}\" bitsize=\"64\" type=\"riscv_double\" regnum=\"{}\"/>\n", kFloatNames[i],
                            kFirstFloat + i);
    for (const NamedCsr& csr : kFloatCsrs)
        text += csr_line(csr, 32);
    text += "</feature>\n<feature name=\"org.gnu.gdb.riscv.csr\">\n";
    for (const NamedCsr& csr : kCsrs)
        text += csr_line(csr, 64);
    return text + "</feature>\n</target>\n";
}

// fflags, frm and fcsr have 32 bits for gdb.
size_t register_bytes(uint64_t number) {
    return number > kFirstCsr && number <= kFirstCsr + 3 ? 4 : 8;
}

}  // namespace

GdbServer::GdbServer(Machine& machine, MachineControl& control, CharacterBackend& backend)
    : machine_(machine), control_(control), backend_(backend) {
    backend_.connect(this);
}

GdbServer::~GdbServer() {
    backend_.connect(nullptr);
}

Task<void> GdbServer::co_close() {
    co_await scope_.join();
}

void GdbServer::receive(std::span<const uint8_t> bytes) {
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

void GdbServer::stopped(std::optional<unsigned> hart) {
    if (hart)
        hart_ = stepped_ = *hart;
    if (std::exchange(awaited_, false))
        reply(stop_reply());
}

std::string GdbServer::stop_reply() const {
    return fmt::format("T05thread:{:x};", hart_ + 1);
}

Task<void> GdbServer::co_interrupt() {
    (void)co_await control_.co_stop();  // stopped() replies
    busy_ = false;
    backend_.ready_to_receive();
}

Task<void> GdbServer::co_handle(std::string packet) {
    const std::string_view rest = std::string_view(packet).substr(packet.empty() ? 0 : 1);
    const char kind = packet.empty() ? 0 : packet[0];
    if (control_.run_state() == RunState::Running && !awaited_)
        (void)co_await control_.co_stop();
    switch (kind) {
        case '?':
            reply(stop_reply());
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
            reply(write_memory(rest));
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
        case 's':
            co_await co_resume(kind, rest);
            break;
        case 'v':
            co_await co_multi(rest);
            break;
        case 'D':
            co_await co_detach();
            break;
        case 'q':
            reply(query(packet));
            break;
        default:
            reply({});
    }
    busy_ = false;
    backend_.ready_to_receive();
}

// c[ADDRESS] and s[ADDRESS].
Task<void> GdbServer::co_resume(char how, std::string_view rest) {
    if (auto address = take_hex(rest))
        (void)machine_.hart(stepped_).write_register(kPc, *address);
    if (how == 's') {
        step(stepped_);
        co_return;
    }
    awaited_ = true;
    if (auto going = co_await control_.co_cont(); !going && std::exchange(awaited_, false))
        reply(kMistake);
}

void GdbServer::step(unsigned hart) {
    (void)machine_.step(hart);
    hart_ = hart;
    reply(stop_reply());
}

// vCont?, and vCont;ACTION[:THREAD]...: a step of one hart, or all go on.
Task<void> GdbServer::co_multi(std::string_view rest) {
    if (rest == "Cont?") {
        reply("vCont;c;C;s;S");
        co_return;
    }
    if (!rest.starts_with("Cont;")) {
        reply({});
        co_return;
    }
    rest.remove_prefix(5);
    const char action = rest.empty() ? 0 : rest[0];
    if (action == 's' || action == 'S') {
        const size_t colon = rest.substr(0, rest.find(';')).find(':');
        unsigned hart = hart_;
        if (colon != std::string_view::npos) {
            std::string_view text = rest.substr(colon + 1);
            const auto thread = take_hex(text);
            if (thread && *thread >= 1 && *thread <= machine_.hart_count())
                hart = static_cast<unsigned>(*thread - 1);
        }
        step(hart);
    } else if (action == 'c' || action == 'C') {
        co_await co_resume('c', {});
    } else {
        reply(kMistake);
    }
}

Task<void> GdbServer::co_detach() {
    remove_breakpoints();
    reply("OK");
    (void)co_await control_.co_cont();
}

void GdbServer::remove_breakpoints() {
    for (uint64_t address : breakpoints_)
        for (unsigned hart = 0; hart < machine_.hart_count(); ++hart)
            machine_.hart(hart).set_breakpoint(address, false);
    breakpoints_.clear();
}

std::string GdbServer::query(std::string_view packet) {
    constexpr std::string_view kFeatures = "qXfer:features:read:target.xml:";
    if (packet.starts_with("qSupported"))
        return fmt::format("PacketSize={:x};qXfer:features:read+;vContSupported+", GdbPacketParser::kMaxPacket);
    if (packet.starts_with(kFeatures)) {
        static const std::string description = make_target_description();
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
        const std::string text = fmt::format("hart {}", take_hex(packet).value_or(1) - 1);
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
    for (unsigned number = 0; number < kInGeneral; ++number) {
        uint64_t value = 0;
        (void)machine_.hart(hart_).read_register(number, value);
        text += to_hex({reinterpret_cast<const uint8_t*>(&value), sizeof value});
    }
    return text;
}

std::string GdbServer::write_registers(std::string_view text) {
    const auto bytes = from_hex(text);
    if (!bytes || bytes->size() % 8 || bytes->size() > kInGeneral * 8)
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
    if (!number || *number >= kFirstCsr + 4096 ||
        !machine_.hart(hart_).read_register(static_cast<unsigned>(*number), value))
        return std::string(kMistake);
    return to_hex({reinterpret_cast<const uint8_t*>(&value), register_bytes(*number)});
}

std::string GdbServer::write_register(std::string_view text) {
    const auto number = take_hex(text, '=');
    const auto bytes = from_hex(text);
    uint64_t value = 0;
    if (!number || *number >= kFirstCsr + 4096 || !bytes || bytes->size() > sizeof value)
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

std::string GdbServer::write_memory(std::string_view text) {
    const auto address = take_hex(text, ','), length = take_hex(text, ':');
    const auto bytes = from_hex(text);
    if (!address || !length || !bytes || bytes->size() != *length)
        return std::string(kMistake);
    if (!machine_.hart(hart_).write_memory(*address, *bytes))
        return std::string(kNoMemory);
    return "OK";
}

// TYPE,ADDRESS,KIND: software and hardware breakpoints are the same here; there are no watchpoints.
std::string GdbServer::change_breakpoint(std::string_view text, bool set) {
    const auto type = take_hex(text, ','), address = take_hex(text, ',');
    if (!type || *type > 1)
        return {};
    if (!address)
        return std::string(kMistake);
    for (unsigned hart = 0; hart < machine_.hart_count(); ++hart)
        machine_.hart(hart).set_breakpoint(*address, set);
    if (set)
        breakpoints_.insert(*address);
    else
        breakpoints_.erase(*address);
    return "OK";
}

}  // namespace ashlar
