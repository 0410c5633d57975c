#include "hw/cpu/csr_numbers.h"
#include "hw/cpu/hart_state.h"

namespace ashlar {

namespace {

constexpr uint64_t letter(char c) {
    return 1ull << (c - 'A');
}
constexpr uint64_t kMisa =
    2ull << 62 | letter('I') | letter('M') | letter('A') | letter('C') | letter('S') | letter('U');
constexpr uint64_t kMisaFloat = letter('F') | letter('D');

constexpr uint64_t kSstatusWritable =
    mstatus::kSie | mstatus::kSpie | mstatus::kSpp | mstatus::kFs | mstatus::kSum | mstatus::kMxr;
constexpr uint64_t kMstatusWritable = kSstatusWritable | mstatus::kMie | mstatus::kMpie | mstatus::kMpp |
                                      mstatus::kMprv | mstatus::kTvm | mstatus::kTw | mstatus::kTsr;
// All that can happen below M-mode.
constexpr uint64_t kMedelegWritable = 0xb3ff;

constexpr uint32_t kCycleBit = 1, kTimeBit = 2, kInstretBit = 4;

constexpr uint64_t kSatpMode = 15ull << 60;

uint64_t with_sd(uint64_t status) {
    return status | ((status & mstatus::kFs) == mstatus::kFs ? mstatus::kSd : 0);
}

}  // namespace

bool HartState::csr_allowed(unsigned number, bool write) const {
    if ((number >> 8 & 3) > static_cast<unsigned>(privilege) || (write && number >> 10 == 3))
        return false;
    switch (number) {
        case csr::kFflags:
        case csr::kFrm:
        case csr::kFcsr:
            return mstatus & mstatus::kFs;
        case csr::kSatp:
            return privilege == Privilege::Machine || !(mstatus & mstatus::kTvm);
        case csr::kStimecmp:
            return features.sstc && (privilege == Privilege::Machine || (stimecmp_on() && mcounteren & kTimeBit));
        default:
            break;
    }
    if (number >= csr::kPmpcfg0 && number <= csr::kPmpaddr15)
        return features.pmp;
    if (number >= csr::kCycle && number <= csr::kHpmcounter31) {
        const uint32_t bit = 1u << (number - csr::kCycle);
        return privilege == Privilege::Machine ||
               (mcounteren & bit && (privilege == Privilege::Supervisor || scounteren & bit));
    }
    return true;
}

bool HartState::read_csr(unsigned number, uint64_t& value) const {
    value = 0;
    switch (number) {
        case csr::kFflags:
            value = fflags;
            return true;
        case csr::kFrm:
            value = frm;
            return true;
        case csr::kFcsr:
            value = frm << 5 | fflags;
            return true;
        case csr::kSstatus:
            value = with_sd(mstatus & (kSstatusWritable | mstatus::kUxl64));
            return true;
        case csr::kSie:
            value = mie & mideleg;
            return true;
        case csr::kStvec:
            value = stvec;
            return true;
        case csr::kScounteren:
            value = scounteren;
            return true;
        case csr::kSenvcfg:
            value = senvcfg;
            return true;
        case csr::kSscratch:
            value = sscratch;
            return true;
        case csr::kSepc:
            value = sepc;
            return true;
        case csr::kScause:
            value = scause;
            return true;
        case csr::kStval:
            value = stval;
            return true;
        case csr::kSip:
            value = pending() & mideleg;
            return true;
        case csr::kStimecmp:
            value = stimecmp;
            return true;
        case csr::kSatp:
            value = satp;
            return true;
        case csr::kMstatus:
            value = with_sd(mstatus);
            return true;
        case csr::kMisa:
            value = kMisa | (features.floating_point ? kMisaFloat : 0);
            return true;
        case csr::kMedeleg:
            value = medeleg;
            return true;
        case csr::kMideleg:
            value = mideleg;
            return true;
        case csr::kMie:
            value = mie;
            return true;
        case csr::kMtvec:
            value = mtvec;
            return true;
        case csr::kMcounteren:
            value = mcounteren;
            return true;
        case csr::kMenvcfg:
            value = menvcfg;
            return true;
        case csr::kMcountinhibit:
            value = mcountinhibit;
            return true;
        case csr::kMscratch:
            value = mscratch;
            return true;
        case csr::kMepc:
            value = mepc;
            return true;
        case csr::kMcause:
            value = mcause;
            return true;
        case csr::kMtval:
            value = mtval;
            return true;
        case csr::kMip:
            value = pending();
            return true;
        case csr::kPmpcfg0:
        case csr::kPmpcfg2:
            value = pmp.config(number - csr::kPmpcfg0);
            return true;
        case csr::kMcycle:
        case csr::kCycle:
            value = mcycle + (mcountinhibit & kCycleBit ? 0 : retired_now());
            return true;
        case csr::kMinstret:
        case csr::kInstret:
            value = minstret + (mcountinhibit & kInstretBit ? 0 : retired_now());
            return true;
        case csr::kTime:
            value = clock.now();
            return true;
        case csr::kMhartid:
            value = id;
            return true;
        case csr::kMvendorid:
        case csr::kMarchid:
        case csr::kMimpid:
        case csr::kMconfigptr:
            return true;
        default:
            break;
    }
    if (number >= csr::kPmpaddr0 && number <= csr::kPmpaddr15) {
        value = pmp.address(number - csr::kPmpaddr0);
        return true;
    }
    // Counters of events that there are none of.
    return (number >= csr::kMhpmcounter3 && number <= csr::kMhpmcounter31) ||
           (number >= csr::kHpmcounter3 && number <= csr::kHpmcounter31) ||
           (number >= csr::kMhpmevent3 && number <= csr::kMhpmevent31);
}

void HartState::write_mstatus(uint64_t value, uint64_t mask) {
    if (mask & mstatus::kMpp && (value & mstatus::kMpp) >> mstatus::kMppShift == 2)
        mask &= ~mstatus::kMpp;
    if (!features.floating_point)
        mask &= ~mstatus::kFs;
    const uint64_t old = mstatus;
    mstatus = (mstatus & ~mask) | (value & mask);
    if ((old ^ mstatus) & mstatus::kMxr)
        flush_translations();
    update_context();
}

HartState::CsrResult HartState::write_csr(unsigned number, uint64_t value) {
    const auto make_fp_dirty = [&] {
        if (!features.floating_point)
            return CsrResult::Done;
        const bool was = (mstatus & mstatus::kFs) == mstatus::kFs;
        mstatus |= mstatus::kFs;
        update_context();
        return was ? CsrResult::Done : CsrResult::Leave;
    };
    switch (number) {
        case csr::kFflags:
            fflags = value & 31;
            return make_fp_dirty();
        case csr::kFrm:
            frm = value & 7;
            return make_fp_dirty();
        case csr::kFcsr:
            fflags = value & 31;
            frm = value >> 5 & 7;
            return make_fp_dirty();
        case csr::kSstatus:
            write_mstatus(value, kSstatusWritable);
            return CsrResult::Leave;
        case csr::kMstatus:
            write_mstatus(value, kMstatusWritable);
            return CsrResult::Leave;
        case csr::kSie:
            mie = (mie & ~mideleg) | (value & mideleg);
            return CsrResult::Leave;
        case csr::kMie:
            mie = value & interrupt::kAll;
            return CsrResult::Leave;
        case csr::kSip: {
            const uint64_t mask = mideleg & interrupt::kSsi;
            mip = (mip & ~mask) | (value & mask);
            return CsrResult::Leave;
        }
        case csr::kMip: {
            const uint64_t mask = stimecmp_on() ? interrupt::kSsi | interrupt::kSei : interrupt::kSupervisor;
            mip = (mip & ~mask) | (value & mask);
            return CsrResult::Leave;
        }
        case csr::kMideleg:
            mideleg = value & interrupt::kSupervisor;
            return CsrResult::Leave;
        case csr::kMedeleg:
            medeleg = value & kMedelegWritable;
            return CsrResult::Done;
        case csr::kStvec:
            stvec = value & ~2ull;
            return CsrResult::Done;
        case csr::kMtvec:
            mtvec = value & ~2ull;
            return CsrResult::Done;
        case csr::kScounteren:
            scounteren = static_cast<uint32_t>(value);
            return CsrResult::Done;
        case csr::kMcounteren:
            mcounteren = static_cast<uint32_t>(value);
            return CsrResult::Done;
        case csr::kMcountinhibit: {
            const uint32_t wanted = value & (kCycleBit | kInstretBit), changed = wanted ^ mcountinhibit;
            if (changed & kCycleBit)
                mcycle += wanted & kCycleBit ? retired_now() : -retired_now();
            if (changed & kInstretBit)
                minstret += wanted & kInstretBit ? retired_now() : -retired_now();
            mcountinhibit = wanted;
            return CsrResult::Done;
        }
        case csr::kMcycle:
            mcycle = value - (mcountinhibit & kCycleBit ? 0 : retired_now());
            return CsrResult::Done;
        case csr::kMinstret:
            minstret = value - (mcountinhibit & kInstretBit ? 0 : retired_now());
            return CsrResult::Done;
        case csr::kSenvcfg:
            senvcfg = value & kEnvcfgFiom;
            return CsrResult::Done;
        case csr::kMenvcfg:
            menvcfg = value & (kEnvcfgFiom | (features.sstc ? kMenvcfgStce : 0));
            look_at_timer();
            return CsrResult::Leave;
        case csr::kStimecmp:
            stimecmp = value;
            look_at_timer();
            return CsrResult::Leave;
        case csr::kSatp: {
            const uint64_t mode = (value & kSatpMode) >> 60;
            const uint64_t highest = features.paging == HartFeatures::Paging::Sv48 ? 9 : 8;
            if (features.paging == HartFeatures::Paging::None || (mode != 0 && mode != 8 && mode != highest))
                return CsrResult::Done;
            satp = value;
            flush_translations();
            return CsrResult::Leave;
        }
        case csr::kSscratch:
            sscratch = value;
            return CsrResult::Done;
        case csr::kMscratch:
            mscratch = value;
            return CsrResult::Done;
        case csr::kSepc:
            sepc = value & ~1ull;
            return CsrResult::Done;
        case csr::kMepc:
            mepc = value & ~1ull;
            return CsrResult::Done;
        case csr::kScause:
            scause = value;
            return CsrResult::Done;
        case csr::kMcause:
            mcause = value;
            return CsrResult::Done;
        case csr::kStval:
            stval = value;
            return CsrResult::Done;
        case csr::kMtval:
            mtval = value;
            return CsrResult::Done;
        case csr::kPmpcfg0:
        case csr::kPmpcfg2:
            pmp.set_config(number - csr::kPmpcfg0, value);
            flush_all();
            return CsrResult::Leave;
        default:
            break;
    }
    if (number >= csr::kPmpaddr0 && number <= csr::kPmpaddr15) {
        pmp.set_address(number - csr::kPmpaddr0, value);
        flush_all();
        return CsrResult::Leave;
    }
    return CsrResult::Done;
}

HartState::CsrResult HartState::access_csr(unsigned number, bool write, uint64_t keep, uint64_t set, uint64_t& old) {
    if (!csr_allowed(number, write) || !read_csr(number, old))
        return CsrResult::Illegal;
    if (!write)
        return CsrResult::Done;
    // What a device holds up in mip is not kept there when it lets go.
    const uint64_t base = number == csr::kMip ? mip : old;
    const CsrResult result = write_csr(number, (base & keep) | set);
    // This instruction is not counted: the one after it reads what it has written.
    if (number == csr::kMcycle && !(mcountinhibit & kCycleBit))
        --mcycle;
    if (number == csr::kMinstret && !(mcountinhibit & kInstretBit))
        --minstret;
    return result;
}

}  // namespace ashlar
