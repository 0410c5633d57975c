#include "hw/cpu/hart_state.h"

#include <bit>

namespace ashlar {

uint64_t HartState::pending() const {
    uint64_t all = mip | lines.load(std::memory_order_acquire);
    if (stimecmp_on())
        all = (all & ~interrupt::kSti) | (timer_due ? interrupt::kSti : 0);
    return all;
}

void HartState::look_at_timer() {
    timer_looked_at = retired;
    timer_due = stimecmp_on() && stimecmp <= clock.now();
}

void HartState::take(uint64_t cause, uint64_t value, bool is_interrupt) {
    reserved = watch_pending = false;
    const uint64_t delegated = is_interrupt ? mideleg : medeleg;
    const uint64_t code = cause | (is_interrupt ? 1ull << 63 : 0);
    const auto vector = [&](uint64_t base) { return (base & ~3ull) + (is_interrupt && base & 1 ? cause * 4 : 0); };
    if (privilege != Privilege::Machine && delegated >> cause & 1) {
        scause = code;
        sepc = pc;
        stval = value;
        pc = vector(stvec);
        const bool enabled = mstatus & mstatus::kSie;
        mstatus &= ~(mstatus::kSie | mstatus::kSpie | mstatus::kSpp);
        mstatus |= (enabled ? mstatus::kSpie : 0) | (privilege == Privilege::Supervisor ? mstatus::kSpp : 0);
        privilege = Privilege::Supervisor;
    } else {
        mcause = code;
        mepc = pc;
        mtval = value;
        pc = vector(mtvec);
        const bool enabled = mstatus & mstatus::kMie;
        mstatus &= ~(mstatus::kMie | mstatus::kMpie | mstatus::kMpp);
        mstatus |= (enabled ? mstatus::kMpie : 0) | static_cast<uint64_t>(privilege) << mstatus::kMppShift;
        privilege = Privilege::Machine;
    }
    update_context();
}

bool HartState::take_interrupt() {
    const uint64_t wanted = pending() & mie;
    if (!wanted)
        return false;
    uint64_t now = 0;
    if (privilege != Privilege::Machine || mstatus & mstatus::kMie)
        now = wanted & ~mideleg;
    if (!now && (privilege == Privilege::User || (privilege == Privilege::Supervisor && mstatus & mstatus::kSie)))
        now = wanted & mideleg;
    if (!now)
        return false;
    static constexpr uint64_t kByPriority[] = {interrupt::kMei, interrupt::kMsi, interrupt::kMti,
                                               interrupt::kSei, interrupt::kSsi, interrupt::kSti};
    for (uint64_t each : kByPriority)
        if (now & each) {
            take(static_cast<uint64_t>(std::countr_zero(each)), 0, true);
            return true;
        }
    return false;
}

bool HartState::return_from_machine() {
    if (privilege != Privilege::Machine)
        return false;
    privilege = static_cast<Privilege>((mstatus & mstatus::kMpp) >> mstatus::kMppShift);
    const bool enable = mstatus & mstatus::kMpie;
    mstatus = (mstatus & ~(mstatus::kMie | mstatus::kMpp)) | (enable ? mstatus::kMie : 0) | mstatus::kMpie;
    if (privilege != Privilege::Machine)
        mstatus &= ~mstatus::kMprv;
    pc = mepc;
    update_context();
    return true;
}

bool HartState::return_from_supervisor() {
    if (privilege == Privilege::User || (privilege == Privilege::Supervisor && mstatus & mstatus::kTsr))
        return false;
    privilege = mstatus & mstatus::kSpp ? Privilege::Supervisor : Privilege::User;
    const bool enable = mstatus & mstatus::kSpie;
    mstatus =
        (mstatus & ~(mstatus::kSie | mstatus::kSpp | mstatus::kMprv)) | (enable ? mstatus::kSie : 0) | mstatus::kSpie;
    pc = sepc;
    update_context();
    return true;
}

Privilege HartState::data_privilege() const {
    return mstatus & mstatus::kMprv ? static_cast<Privilege>((mstatus & mstatus::kMpp) >> mstatus::kMppShift)
                                    : privilege;
}

void HartState::update_context() {
    const Privilege data = data_privilege();
    const Context context = data == Privilege::Machine ? kMachine
                            : data == Privilege::User  ? kUser
                            : mstatus & mstatus::kSum  ? kSupervisorSum
                                                       : kSupervisor;
    tlb = &tlbs[context];
    fetch_tlb = &fetch_tlbs[privilege == Privilege::Machine ? 2 : static_cast<unsigned>(privilege)];
    handlers = &handlers_for(mstatus);
}

void HartState::power_on(uint64_t start) {
    x = {};
    f = {};
    fflags = frm = 0;
    pc = start;
    privilege = Privilege::Machine;
    waiting = stopped_at_breakpoint = watch_pending = leave = false;
    mstatus = mstatus::kUxl64 | mstatus::kSxl64;
    mtvec = mepc = mcause = mtval = mscratch = 0;
    stvec = sepc = scause = stval = sscratch = 0;
    medeleg = mideleg = mie = mip = satp = menvcfg = senvcfg = 0;
    stimecmp = std::numeric_limits<uint64_t>::max();
    timer_due = false;
    mcounteren = scounteren = mcountinhibit = 0;
    mcycle = minstret = -retired;
    pmp = Pmp(features.pmp);
    reserved = false;
    code.clear();
    flush_all();
    update_context();
}

}  // namespace ashlar
