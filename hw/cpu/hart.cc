#include "hw/hart.h"

#include "hw/cpu/hart_state.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace ashlar {

namespace {

// Between two looks at interrupts, the clock and kicks: some microseconds.
constexpr uint64_t kChunk = 4096;

constexpr unsigned kPcNumber = 32, kFloatNumber = 33, kCsrNumber = 65, kPrivilegeNumber = kCsrNumber + 4096;

}  // namespace

Hart::Hart(Bus& bus, MachineClock& clock, unsigned id, const HartFeatures& features)
    : state_(std::make_unique<HartState>(bus, clock, id, features)) {
    state_->power_on(0);
}

Hart::~Hart() = default;

unsigned Hart::id() const {
    return state_->id;
}

void Hart::reset(uint64_t pc) {
    state_->power_on(pc);
}

Hart::Stop Hart::run(uint64_t instructions) {
    HartState& s = *state_;
    s.watch_hit.reset();
    s.look_at_timer();
    while (instructions > 0) {
        if (s.kicked.load(std::memory_order_relaxed) && s.kicked.exchange(false))
            return Stop::Kicked;
        if (s.retired - s.timer_looked_at >= kChunk)
            s.look_at_timer();
        if (s.waiting) {
            if (!has_work())
                return Stop::Wfi;
            s.waiting = false;
        }
        if (s.take_interrupt()) {
            --instructions;
            continue;
        }
        uint64_t ran;
        if (const auto stop = s.run_chunk(std::min(instructions, kChunk), instructions == 1, ran))
            return *stop;
        // A trap takes its turn, too.
        instructions -= std::clamp<uint64_t>(ran, 1, instructions);
    }
    return Stop::Budget;
}

Hart::Stop Hart::step() {
    HartState& s = *state_;
    s.watch_hit.reset();
    s.waiting = false;
    s.look_at_timer();
    uint64_t ran;
    return s.run_chunk(1, true, ran).value_or(Stop::Budget);
}

std::optional<Hart::Stop> HartState::run_chunk(uint64_t instructions, bool single, uint64_t& ran) {
    left = chunk = static_cast<int64_t>(instructions);
    leave = false;
    if (const Slot* slot = single ? locate_single() : locate())
        dispatch(*this, slot);
    else if (!stopped_at_breakpoint)
        take(fault);
    ran = static_cast<uint64_t>(chunk - left);
    retired += ran;
    left = chunk = 0;
    if (std::exchange(stopped_at_breakpoint, false))
        return Hart::Stop::Breakpoint;
    if (std::exchange(watch_pending, false))
        return Hart::Stop::Watchpoint;
    return std::nullopt;
}

void Hart::lose_reservation() {
    state_->reserved = false;
}

void Hart::kick() {
    state_->kicked = true;
}

void Hart::set_level(unsigned input, bool level) {
    const uint64_t bit = 1ull << input;
    if (!level) {
        state_->lines.fetch_and(~bit, std::memory_order_release);
        return;
    }
    const uint64_t old = state_->lines.fetch_or(bit, std::memory_order_release);
    if (!(old & bit) && state_->waker)
        state_->waker();
}

void Hart::set_waker(std::function<void()> waker) {
    state_->waker = std::move(waker);
}

bool Hart::has_work() const {
    HartState& s = *state_;
    s.look_at_timer();
    return s.pending() & s.mie;
}

uint64_t Hart::next_timer() const {
    return state_->stimecmp_on() ? state_->stimecmp : std::numeric_limits<uint64_t>::max();
}

bool Hart::read_register(unsigned number, uint64_t& value) const {
    const HartState& s = *state_;
    if (number < kPcNumber)
        value = s.x[number];
    else if (number == kPcNumber)
        value = s.pc;
    else if (number < kCsrNumber)
        value = s.f[number - kFloatNumber];
    else if (number == kPrivilegeNumber)
        value = static_cast<uint64_t>(s.privilege);
    else
        return number < kPrivilegeNumber && s.read_csr(number - kCsrNumber, value);
    return true;
}

bool Hart::write_register(unsigned number, uint64_t value) {
    HartState& s = *state_;
    if (number == 0)
        return true;
    if (number < kPcNumber)
        s.x[number] = value;
    else if (number == kPcNumber) {
        s.pc = value & ~1ull;
        s.waiting = false;
    } else if (number < kCsrNumber)
        s.f[number - kFloatNumber] = value;
    else if (number == kPrivilegeNumber) {
        if (value > 3 || value == 2)
            return false;
        s.privilege = static_cast<Privilege>(value);
        s.update_context();
    } else {
        uint64_t old;
        const bool read_only = (number - kCsrNumber) >> 10 == 3;
        if (number > kPrivilegeNumber || read_only || !s.read_csr(number - kCsrNumber, old))
            return false;
        s.write_csr(number - kCsrNumber, value);
    }
    return true;
}

bool Hart::read_memory(uint64_t address, std::span<uint8_t> bytes) {
    HartState& s = *state_;
    while (!bytes.empty()) {
        const size_t now = std::min<size_t>(bytes.size(), kPageBytes - (address & kPageOffset));
        uint64_t physical;
        const uint8_t* memory = s.look_up(address, physical) ? s.bus.memory(physical, now) : nullptr;
        if (!memory)
            return false;
        memcpy(bytes.data(), memory, now);
        address += now;
        bytes = bytes.subspan(now);
    }
    return true;
}

bool Hart::write_memory(uint64_t address, std::span<const uint8_t> bytes) {
    HartState& s = *state_;
    s.code.suspect();
    s.flush_all();
    while (!bytes.empty()) {
        const size_t now = std::min<size_t>(bytes.size(), kPageBytes - (address & kPageOffset));
        uint64_t physical;
        uint8_t* memory = s.look_up(address, physical) ? s.bus.ram().at(physical, now) : nullptr;
        if (!memory)
            return false;
        memcpy(memory, bytes.data(), now);
        address += now;
        bytes = bytes.subspan(now);
    }
    return true;
}

void Hart::set_breakpoint(uint64_t address, bool set) {
    if (set)
        state_->breakpoints.insert(address);
    else
        state_->breakpoints.erase(address);
    state_->flush_all();
}

void Hart::set_watchpoint(const Watched& watched, bool set) {
    HartState& s = *state_;
    std::erase(s.watchpoints, watched);
    if (set)
        s.watchpoints.push_back(watched);
    s.flush_all();
}

const std::optional<Hart::Watched>& Hart::watch_hit() const {
    return state_->watch_hit;
}

uint64_t Hart::instructions() const {
    return state_->retired;
}

}  // namespace ashlar
