#include "tests/unit/hart_fixture.h"

#include <tuple>
#include <utility>

using namespace ashlar;
using namespace ashlar::riscv;

namespace {

constexpr uint64_t kUser = 0, kSupervisor = 1, kMachine = 3;
constexpr unsigned kFcsr = 0x003, kSstatus = 0x100, kSie = 0x104, kStvec = 0x105, kScounteren = 0x106, kSenvcfg = 0x10a,
                   kSepc = 0x141, kScause = 0x142, kStval = 0x143, kSip = 0x144, kStimecmp = 0x14d, kSatp = 0x180,
                   kMstatus = 0x300, kMisa = 0x301, kMedeleg = 0x302, kMideleg = 0x303, kMie = 0x304, kMtvec = 0x305,
                   kMcounteren = 0x306, kMenvcfg = 0x30a, kMcountinhibit = 0x320, kMscratch = 0x340, kMepc = 0x341,
                   kMcause = 0x342, kMip = 0x344, kPmpcfg0 = 0x3a0, kPmpcfg2 = 0x3a2, kPmpaddr0 = 0x3b0,
                   kMcycle = 0xb00, kMinstret = 0xb02, kCycle = 0xc00, kInstret = 0xc02;
constexpr uint64_t kAll = ~0ull, kIllegal = 2, kInterrupt = 1ull << 63;

// Of mstatus.
constexpr uint64_t kSIe = 1 << 1, kMIe = 1 << 3, kSPie = 1 << 5, kMPie = 1 << 7, kSpp = 1 << 8, kMpp = 3 << 11,
                   kFs = 3 << 13, kMprv = 1 << 17, kSum = 1 << 18, kMxr = 1 << 19, kTvm = 1 << 20, kTw = 1 << 21,
                   kTsr = 1 << 22, kUxl64 = 2ull << 32, kSxl64 = 2ull << 34, kSd = 1ull << 63;
constexpr uint64_t kStce = 1ull << 63, kFiom = 1;

constexpr uint64_t kSupervisorHandler = kRamBase + 0x7000, kProgram = kRamBase + 0x10000;

// What docs/machine.md promises, by the tables of volume II, chapter 2, for RV64.
bool exists(unsigned number) {
    const auto in = [&](unsigned first, unsigned last) { return number >= first && number <= last; };
    return in(0x001, 0x003) || number == kSstatus || in(0x104, 0x106) || number == kSenvcfg || in(0x140, 0x144) ||
           number == kStimecmp || number == kSatp || in(0x300, 0x306) || number == kMenvcfg || number == 0x320 ||
           in(0x323, 0x33f) || in(0x340, 0x344) || number == kPmpcfg0 || number == kPmpcfg2 || in(0x3b0, 0x3bf) ||
           number == kMcycle || in(0xb02, 0xb1f) || in(0xc00, 0xc1f) || in(0xf11, 0xf15);
}
bool is_read_only(unsigned number) {
    return number >> 10 == 3;
}
uint64_t lowest_privilege(unsigned number) {
    return number >> 8 & 3;
}

constexpr uint32_t csrrc(uint32_t rd, uint32_t number, uint32_t rs1) {
    return i_type(static_cast<int32_t>(number), rs1, 3, rd, 0x73);
}
constexpr uint32_t csrrwi(uint32_t rd, uint32_t number, uint32_t value) {
    return i_type(static_cast<int32_t>(number), value, 5, rd, 0x73);
}
constexpr uint32_t csrrsi(uint32_t rd, uint32_t number, uint32_t value) {
    return i_type(static_cast<int32_t>(number), value, 6, rd, 0x73);
}
constexpr uint32_t csrrci(uint32_t rd, uint32_t number, uint32_t value) {
    return i_type(static_cast<int32_t>(number), value, 7, rd, 0x73);
}

struct Machine : HartFixture {
    Machine() { begin({}); }
    void begin(std::initializer_list<uint32_t> program) {
        start(program);
        put(kSupervisorHandler, {jal(zero, 0)});
        open_pmp();
        set_csr(kStvec, kSupervisorHandler);
    }
    // The counters and stimecmp for everybody, and floating point.
    void allow_everything() {
        set_csr(kMcounteren, kAll);
        set_csr(kScounteren, kAll);
        set_csr(kMenvcfg, kAll);
        set_csr(kMstatus, csr(kMstatus) | kFs);
    }
    // One instruction at `address`, which is there, in this privilege; whether it traps. It goes to M-mode.
    bool traps(uint64_t privilege, uint64_t address) {
        enter(privilege, address);
        step();
        return pc() == kTrapHandler;
    }
    // What the CSR has after `value` was written to it by an instruction in M-mode.
    uint64_t write(unsigned number, uint64_t value) {
        m_at_ += 8;
        put(m_at_, {csrw(number, a1), csrr(a0, number)});
        g_assert_true(hart.write_register(4161, 3));
        set_pc(m_at_);
        set_x(a1, value);
        step(2);
        g_assert_cmphex(pc(), ==, m_at_ + 8);
        return x(a0);
    }

private:
    uint64_t m_at_ = kRamBase + 0x100000;  // each instruction has a place of its own, and needs no FENCE.I
};

// Every number there is, in every privilege.
void what_is_not_there_or_not_for_it_traps() {
    for (uint64_t privilege : {kUser, kSupervisor, kMachine}) {
        Machine m;
        m.allow_everything();
        for (unsigned number = 0; number < 4096; ++number)
            m.put32(kProgram + 4 * number, csrr(a0, number));
        for (unsigned number = 0; number < 4096; ++number) {
            const uint64_t at = kProgram + 4 * number;
            m.set_x(a0, 0x1234567);
            const bool trapped = m.traps(privilege, at);
            g_assert_cmpint(trapped, ==, !exists(number) || privilege < lowest_privilege(number));
            if (trapped) {
                m.assert_trap(kIllegal, at, csrr(a0, number));
                g_assert_cmphex(m.x(a0), ==, 0x1234567);
            } else {
                g_assert_cmphex(m.pc(), ==, at + 4);
            }
        }
    }
}

void what_does_not_exist_cannot_be_written() {
    Machine m;
    m.allow_everything();
    for (unsigned number = 0; number < 4096; ++number)
        m.put32(kProgram + 4 * number, csrrw(a0, number, a1));
    for (unsigned number = 0; number < 4096; ++number) {
        if (exists(number) && !is_read_only(number))
            continue;
        m.set_x(a0, 5);
        m.enter(kMachine, kProgram + 4 * number);
        m.step();
        m.assert_trap(kIllegal, kProgram + 4 * number, csrrw(a0, number, a1));
        g_assert_cmphex(m.x(a0), ==, 5);
    }
}

// By the instruction's form: a register other than x0 writes even if it is zero.
void read_only_ones_may_be_read_by_what_does_not_write() {
    for (unsigned number : {0xf11u, 0xf14u, 0xc00u, 0xc01u, 0xc03u, 0xc1fu}) {
        struct {
            uint32_t instruction;
            bool writes;
        } const cases[] = {
            {csrrw(a0, number, zero), true},  {csrrw(zero, number, a1), true}, {csrrwi(a0, number, 0), true},
            {csrrs(a0, number, a1), true},    {csrrc(a0, number, a1), true},   {csrrsi(a0, number, 1), true},
            {csrrci(zero, number, 31), true}, {csrrs(a0, number, 0), false},   {csrrc(a0, number, 0), false},
            {csrrsi(a0, number, 0), false},   {csrrci(a0, number, 0), false},
        };
        for (const auto& each : cases) {
            Machine m;
            m.put(kProgram, {each.instruction});
            m.enter(kMachine, kProgram);
            m.set_x(a1, 0);
            m.step();
            if (each.writes)
                m.assert_trap(kIllegal, kProgram, each.instruction);
            else
                g_assert_cmphex(m.pc(), ==, kProgram + 4);
        }
    }
}

void an_illegal_access_is_delegated_with_its_bits() {
    Machine m;
    m.put(kProgram, {csrr(a0, kMscratch), csrw(kCycle, a0)});
    m.set_csr(kMedeleg, 1 << kIllegal);
    for (uint64_t privilege : {kUser, kSupervisor})
        for (unsigned i = 0; i < 2; ++i) {
            m.enter(privilege, kProgram + 4 * i);
            m.step();
            g_assert_cmphex(m.pc(), ==, kSupervisorHandler);
            g_assert_cmphex(m.csr(kScause), ==, kIllegal);
            g_assert_cmphex(m.csr(kSepc), ==, kProgram + 4 * i);
            g_assert_cmphex(m.csr(kStval), ==, i ? csrw(kCycle, a0) : csrr(a0, kMscratch));
        }
}

void fields_take_what_is_legal() {
    constexpr uint64_t kSstatusBits = kSIe | kSPie | kSpp | kFs | kSum | kMxr;
    constexpr uint64_t kMstatusBits = kSstatusBits | kMIe | kMPie | kMpp | kMprv | kTvm | kTw | kTsr;
    Machine fresh;
    const uint64_t misa = fresh.csr(kMisa);
    g_assert_cmphex(misa, ==, 2ull << 62 | 1 << 0 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 8 | 1 << 12 | 1 << 18 | 1 << 20);
    struct {
        unsigned number;
        uint64_t after_ones, after_zeroes;
    } const cases[] = {
        {kFcsr, 0xff, 0},
        {0x001, 0x1f, 0},
        {0x002, 7, 0},
        {kSstatus, kSstatusBits | kUxl64 | kSd, kUxl64},
        {kStvec, ~2ull, 0},
        {kScounteren, 0xffffffff, 0},
        {kSenvcfg, kFiom, 0},
        {0x140, kAll, 0},
        {kSepc, ~1ull, 0},
        {kStval, kAll, 0},
        {kStimecmp, kAll, 0},
        {kMstatus, kMstatusBits | kUxl64 | kSxl64 | kSd, kUxl64 | kSxl64},
        {kMisa, misa, misa},
        {kMedeleg, 0xb3ff, 0},  // not of M-mode's calls, not of what is reserved
        {kMideleg, 0x222, 0},
        {kMie, 0xaaa, 0},
        {kMtvec, ~2ull, 0},
        {kMcounteren, 0xffffffff, 0},
        {kMenvcfg, kStce | kFiom, 0},
        {kMcountinhibit, 5, 0},  // there is nothing to inhibit in time
        {0x323, 0, 0},
        {0x33f, 0, 0},
        {kMscratch, kAll, 0},
        {kMepc, ~1ull, 0},
        {kMip, 0x222, 0},
        {kPmpaddr0, (1ull << 54) - 1, 0},  // a grain of four bytes
        {0x3bf, (1ull << 54) - 1, 0},
        {0xb03, 0, 0},
        {0xb1f, 0, 0},
    };
    for (const auto& each : cases) {
        Machine m;
        m.set_csr(kMstatus, kFs);
        g_assert_cmphex(m.write(each.number, kAll), ==, each.after_ones);
        g_assert_cmphex(m.write(each.number, 0), ==, each.after_zeroes);
    }
    // Nothing of M-mode's by way of the supervisor's view.
    fresh.write(kSstatus, kAll);
    g_assert_cmphex(fresh.csr(kMstatus), ==, kSstatusBits | kUxl64 | kSxl64 | kSd);
    // With Sstc the timer's interrupt is not software's.
    fresh.write(kMenvcfg, kStce);
    g_assert_cmphex(fresh.write(kMip, kAll), ==, 0x202);
}

void modes_that_do_not_exist_are_not_taken() {
    Machine m;
    for (uint64_t old : {kUser, kSupervisor, kMachine}) {
        g_assert_cmphex(m.write(kMstatus, old << 11) & kMpp, ==, old << 11);
        g_assert_cmphex(m.write(kMstatus, 2 << 11 | kMPie) & (kMpp | kMPie), ==, old << 11 | kMPie);
    }
    // A write of another mode changes nothing of satp; the modes that exist take 16 bits of ASID.
    for (uint64_t mode = 0; mode < 16; ++mode) {
        const uint64_t before = 9ull << 60 | 1ull << 44 | 5, wanted = mode << 60 | 0xffffull << 44 | 0x80123;
        m.write(kSatp, before);
        const bool there = mode == 0 || mode == 8 || mode == 9;
        g_assert_cmphex(m.write(kSatp, wanted), ==, there ? wanted : before);
    }
    for (unsigned number : {kMtvec, kStvec})
        for (uint64_t mode = 0; mode < 4; ++mode)
            g_assert_cmphex(m.write(number, kTrapHandler | mode), ==, kTrapHandler | (mode & 1));
}

void entries_of_pmp_take_what_is_legal() {
    constexpr uint64_t kNapot = 3 << 3, kTor = 1 << 3, kLock = 0x80;
    Machine m;
    m.set_csr(kPmpaddr0, 0);  // nothing is in the way of M-mode
    // Each of the eight has its own; bits 5 and 6 are zero, and what may be written may be read.
    g_assert_cmphex(m.write(kPmpcfg0, 0x7f6e6d6c6b6a6968), ==, 0x1f0c0d0c0b080908);
    g_assert_cmphex(m.write(kPmpcfg2, 0x0706050403020100), ==, 0x0704050403000100);
    // What is locked stays, the others of the same register do not.
    m.write(kPmpcfg2, 0);
    m.write(kPmpaddr0 + 9, 0x1000);
    m.write(kPmpcfg2, (kLock | kNapot | 1) << 8);
    g_assert_cmphex(m.write(kPmpcfg2, 0x0101010101010101), ==, 0x0101010101019901);
    g_assert_cmphex(m.write(kPmpaddr0 + 9, 0x2000), ==, 0x1000);
    g_assert_cmphex(m.write(kPmpaddr0 + 8, 0x2000), ==, 0x2000);  // it does not begin there
    // It may be locked while it is off. Where a locked range begins is locked, too.
    m.write(kPmpaddr0 + 11, 0x3000);
    m.write(kPmpaddr0 + 12, 0x4000);
    m.write(kPmpcfg2, kLock << 24 | (kLock | kTor) << 32);
    g_assert_cmphex(m.write(kPmpaddr0 + 11, 1), ==, 0x3000);
    g_assert_cmphex(m.write(kPmpaddr0 + 12, 1), ==, 0x4000);
    g_assert_cmphex(m.write(kPmpaddr0 + 10, 1), ==, 1);
}

void the_supervisor_sees_the_interrupts_that_are_delegated() {
    Machine m;
    m.write(kMie, 0xaaa);
    m.write(kMip, 0x222);
    m.write(kMideleg, 0x22);
    g_assert_cmphex(m.csr(kSie), ==, 0x22);
    g_assert_cmphex(m.csr(kSip), ==, 0x22);
    g_assert_cmphex(m.write(kSie, 0), ==, 0);
    g_assert_cmphex(m.csr(kMie), ==, 0xa88);
    g_assert_cmphex(m.write(kSie, kAll), ==, 0x22);
    g_assert_cmphex(m.csr(kMie), ==, 0xaaa);
    // Of sip only the software interrupt is written.
    g_assert_cmphex(m.write(kSip, 0), ==, 0x20);
    g_assert_cmphex(m.csr(kMip), ==, 0x220);
    m.write(kMideleg, 0);
    m.write(kSip, kAll);
    g_assert_cmphex(m.csr(kMip), ==, 0x220);
}

void stimecmp_needs_its_switch_and_the_time() {
    for (uint64_t stce : {uint64_t{0}, kStce})
        for (uint64_t counters : {uint64_t{0}, uint64_t{2}, ~uint64_t{2}}) {
            Machine m;
            m.put(kProgram, {csrr(a0, kStimecmp), csrw(kStimecmp, a0)});
            m.set_csr(kMenvcfg, stce);
            m.set_csr(kMcounteren, counters);
            for (unsigned i = 0; i < 2; ++i) {
                g_assert_cmpint(m.traps(kSupervisor, kProgram + 4 * i), ==, !(stce && counters == 2));
                g_assert_true(m.traps(kUser, kProgram + 4 * i));
                g_assert_false(m.traps(kMachine, kProgram + 4 * i));
            }
        }
}

// Also those of events, which are always zero.
void each_counter_has_its_bit() {
    for (unsigned number = 0xc00; number <= 0xc1f; ++number) {
        const uint64_t bit = 1ull << (number - 0xc00);
        Machine m;
        m.put(kProgram, {csrr(a0, number)});
        m.set_csr(kMcounteren, ~bit);
        m.set_csr(kScounteren, kAll);
        g_assert_false(m.traps(kMachine, kProgram));
        for (uint64_t privilege : {kUser, kSupervisor}) {
            g_assert_true(m.traps(privilege, kProgram));
            m.assert_trap(kIllegal, kProgram, csrr(a0, number));
        }
        m.set_csr(kMcounteren, bit);
        m.set_csr(kScounteren, ~bit);
        g_assert_false(m.traps(kSupervisor, kProgram));
        g_assert_true(m.traps(kUser, kProgram));
        m.set_csr(kScounteren, bit);
        g_assert_false(m.traps(kUser, kProgram));
    }
}

void counters_are_inhibited_one_by_one() {
    Machine m;
    for (auto [inhibited, stands, goes_on] : {std::tuple{1u, kMcycle, kMinstret}, std::tuple{4u, kMinstret, kMcycle}}) {
        m.write(kMcountinhibit, inhibited);
        // What stands takes a value, and everybody sees that.
        g_assert_cmpuint(m.write(stands, 1000), ==, 1000);
        const uint64_t before = m.csr(goes_on);
        m.begin({nop, nop, nop, nop, csrr(a0, stands + (kCycle - kMcycle))});
        m.set_csr(kMcountinhibit, inhibited);
        m.set_csr(stands, 1000);
        m.set_csr(kMcounteren, kAll);
        m.set_csr(kScounteren, kAll);
        m.set_csr(goes_on, before);
        m.enter(kUser, kRamBase);
        m.step(5);
        g_assert_cmpuint(m.x(a0), ==, 1000);
        g_assert_cmpuint(m.csr(goes_on), >=, before + 5);
        m.write(kMcountinhibit, 0);
        g_assert_cmpuint(m.csr(stands), >, 1000);
    }
    // The debugger's write is none of the hart's instructions, and one that traps has not retired.
    m.begin({ecall});
    m.set_csr(kMinstret, 50);
    g_assert_cmpuint(m.csr(kMinstret), ==, 50);
    m.step();
    g_assert_cmpuint(m.csr(kMinstret), ==, 50);
}

void traps_of_virtual_machines_do_not_bind_machine_mode() {
    constexpr uint32_t kSfenceOfAddress = sfence_vma | a0 << 15, kSfenceOfAsid = sfence_vma | a1 << 20;
    struct {
        uint32_t instruction;
        uint64_t bit;
    } const cases[] = {{csrr(a2, kSatp), kTvm},
                       {csrw(kSatp, zero), kTvm},
                       {sfence_vma, kTvm},
                       {kSfenceOfAddress, kTvm},
                       {kSfenceOfAsid, kTvm},
                       {wfi, kTw},
                       {sret, kTsr}};
    for (const auto& each : cases) {
        Machine m;
        m.put(kProgram, {each.instruction});
        m.set_csr(kSepc, kProgram + 0x100);
        m.set_csr(kMideleg, 2);
        m.set_csr(kMie, 2);
        for (uint64_t others : {uint64_t{0}, kTvm | kTw | kTsr}) {
            // An interrupt is pending, so that WFI does not wait, and is not taken.
            m.set_csr(kMip, 2);
            m.set_csr(kMstatus, others & ~each.bit);
            g_assert_false(m.traps(kSupervisor, kProgram));
            m.set_csr(kMstatus, others | each.bit);
            g_assert_true(m.traps(kSupervisor, kProgram));
            m.assert_trap(kIllegal, kProgram, each.instruction);
            m.set_csr(kMstatus, others | each.bit);
            g_assert_false(m.traps(kMachine, kProgram));
            m.set_csr(kMip, 0);
            m.set_csr(kMstatus, 0);
            g_assert_true(m.traps(kUser, kProgram));
        }
    }
}

void returns_are_for_those_above() {
    constexpr uint32_t kUret = 0x00200073, kDret = 0x7b200073, kHfence = 0x22000073;
    Machine m;
    unsigned i = 0;
    for (auto [instruction, lowest] : {std::pair{mret, kMachine},
                                       {sret, kSupervisor},
                                       {kUret, uint64_t{4}},
                                       {kDret, uint64_t{4}},
                                       {kHfence, uint64_t{4}},
                                       {mret | 1 << 7, uint64_t{4}},
                                       {sret | 1 << 15, uint64_t{4}},
                                       {wfi | 1 << 7, uint64_t{4}},
                                       {ecall | 1 << 7, uint64_t{4}},
                                       {ebreak | 1 << 15, uint64_t{4}},
                                       {sfence_vma | 1 << 7, uint64_t{4}},
                                       {0x00004073u, uint64_t{4}}}) {
        const uint64_t at = kProgram + 4 * i++;
        m.put32(at, instruction);
        for (uint64_t privilege : {kUser, kSupervisor, kMachine}) {
            m.set_csr(kSepc, kRamBase);
            m.enter(privilege, at);
            m.set_csr(kMepc, kRamBase);
            m.step();
            if (privilege < lowest)
                m.assert_trap(kIllegal, at, instruction);
            else
                g_assert_cmphex(m.pc(), ==, kRamBase);
        }
    }
}

// MPRV ends with the return to a lower mode, and only with that; MPP is then the lowest.
void a_return_to_machine_mode_keeps_mprv() {
    for (uint64_t to : {kUser, kSupervisor, kMachine}) {
        Machine m;
        m.set_csr(kMstatus, kMprv | kMPie);
        m.enter(to, kRamBase);
        g_assert_cmphex(m.get(4161), ==, to);
        g_assert_cmphex(m.csr(kMstatus) & (kMprv | kMpp | kMIe | kMPie), ==,
                        (to == kMachine ? kMprv : 0) | kMIe | kMPie);
    }
}

void the_supervisor_has_vectors_too() {
    for (uint64_t mode : {0, 1})
        for (unsigned number : {1u, 5u, 9u}) {
            Machine m;
            m.set_csr(kStvec, kSupervisorHandler | mode);
            m.set_csr(kMideleg, 0x222);
            m.set_csr(kMedeleg, 1 << 8);
            m.set_csr(kMie, 1 << number);
            m.put(kProgram, {ecall});
            // An exception goes to the base.
            m.enter(kUser, kProgram);
            m.step();
            g_assert_cmphex(m.pc(), ==, kSupervisorHandler);
            m.set_csr(kMip, 1 << number);
            m.enter(kUser, kProgram);
            m.step();
            g_assert_cmphex(m.csr(kScause), ==, kInterrupt | number);
            g_assert_cmphex(m.csr(kStval), ==, 0);
            g_assert_cmphex(m.pc(), ==, kSupervisorHandler + mode * 4 * number);
        }
}

// Volume II, 3.1.9: they are looked at immediately after a write of what decides about them, and after a return.
void what_lets_an_interrupt_in_does_so_at_once() {
    struct {
        unsigned number;
        uint64_t before, after;
    } const cases[] = {{kMstatus, 0, kMIe}, {kMie, 0, 2}, {kMip, 0, 2}, {kMideleg, 2, 0}, {kSie, 0, 2}, {kSip, 0, 2}};
    for (const auto& each : cases) {
        Machine m;
        const bool delegated = each.number == kSie || each.number == kSip;
        m.begin({csrw(each.number, a1), li(a0, 1), li(a0, 2), jal(zero, 0)});
        m.set_csr(kMie, 2);
        m.set_csr(kMip, 2);
        m.set_csr(kMideleg, delegated ? 2 : 0);
        m.set_csr(kMstatus, delegated ? kSIe : kMIe);
        m.set_csr(each.number, each.before);
        if (delegated)
            m.enter(kSupervisor, kRamBase);
        m.set_x(a0, 0);
        m.set_x(a1, each.after);
        m.hart.run(1000);
        g_assert_cmphex(m.x(a0), ==, 0);
        g_assert_cmphex(m.csr(delegated ? kScause : kMcause), ==, kInterrupt | 1);
        g_assert_cmphex(m.csr(delegated ? kSepc : kMepc), ==, kRamBase + 4);
    }
    for (uint32_t instruction : {mret, sret}) {
        Machine m;
        m.begin({instruction, nop, li(a0, 1), jal(zero, 0)});
        m.set_csr(kMie, 2);
        m.set_csr(kMip, 2);
        m.set_csr(kMepc, kRamBase + 8);
        m.set_csr(kSepc, kRamBase + 8);
        m.set_x(a0, 0);
        m.hart.run(1000);
        g_assert_cmphex(m.x(a0), ==, 0);
        g_assert_cmphex(m.csr(kMcause), ==, kInterrupt | 1);
        g_assert_cmphex(m.csr(kMepc), ==, kRamBase + 8);
    }
}

void a_reset_forgets() {
    Machine m;
    for (unsigned number : {kMstatus, kMedeleg, kMideleg, kMcounteren, kScounteren, kMenvcfg, kSenvcfg, kMcountinhibit,
                            kMscratch, kMepc, kMcause, kStvec, kSepc, kMip, kPmpaddr0})
        m.set_csr(number, kAll);
    m.set_csr(kSatp, 8ull << 60 | 1);
    m.set_csr(kPmpcfg0, 0x9f);  // locked
    m.hart.reset(kRamBase);
    for (unsigned number : {kMedeleg, kMideleg, kMcounteren, kScounteren, kMenvcfg, kSenvcfg, kMcountinhibit, kMscratch,
                            kMepc, kMcause, kStvec, kSepc, kMip, kPmpaddr0, kSatp, kPmpcfg0, kInstret})
        g_assert_cmphex(m.csr(number), ==, 0);
    g_assert_cmphex(m.csr(kMstatus), ==, kUxl64 | kSxl64);
    g_assert_cmphex(m.csr(kStimecmp), ==, kAll);
    g_assert_cmphex(m.get(4161), ==, kMachine);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/hart-csrs/what-is-not-there-or-not-for-it-traps", what_is_not_there_or_not_for_it_traps);
    g_test_add_func("/hart-csrs/what-does-not-exist-cannot-be-written", what_does_not_exist_cannot_be_written);
    g_test_add_func("/hart-csrs/read-only-ones-may-be-read-by-what-does-not-write",
                    read_only_ones_may_be_read_by_what_does_not_write);
    g_test_add_func("/hart-csrs/an-illegal-access-is-delegated-with-its-bits",
                    an_illegal_access_is_delegated_with_its_bits);
    g_test_add_func("/hart-csrs/fields-take-what-is-legal", fields_take_what_is_legal);
    g_test_add_func("/hart-csrs/modes-that-do-not-exist-are-not-taken", modes_that_do_not_exist_are_not_taken);
    g_test_add_func("/hart-csrs/entries-of-pmp-take-what-is-legal", entries_of_pmp_take_what_is_legal);
    g_test_add_func("/hart-csrs/the-supervisor-sees-the-interrupts-that-are-delegated",
                    the_supervisor_sees_the_interrupts_that_are_delegated);
    g_test_add_func("/hart-csrs/stimecmp-needs-its-switch-and-the-time", stimecmp_needs_its_switch_and_the_time);
    g_test_add_func("/hart-csrs/each-counter-has-its-bit", each_counter_has_its_bit);
    g_test_add_func("/hart-csrs/counters-are-inhibited-one-by-one", counters_are_inhibited_one_by_one);
    g_test_add_func("/hart-csrs/tvm-tw-and-tsr-do-not-bind-machine-mode",
                    traps_of_virtual_machines_do_not_bind_machine_mode);
    g_test_add_func("/hart-csrs/returns-are-for-those-above", returns_are_for_those_above);
    g_test_add_func("/hart-csrs/a-return-to-machine-mode-keeps-mprv", a_return_to_machine_mode_keeps_mprv);
    g_test_add_func("/hart-csrs/the-supervisor-has-vectors-too", the_supervisor_has_vectors_too);
    g_test_add_func("/hart-csrs/what-lets-an-interrupt-in-does-so-at-once", what_lets_an_interrupt_in_does_so_at_once);
    g_test_add_func("/hart-csrs/a-reset-forgets", a_reset_forgets);
    return g_test_run();
}
