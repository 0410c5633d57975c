#include "tests/unit/hart_fixture.h"

using namespace ashlar;
using namespace ashlar::riscv;

namespace {

constexpr uint64_t kUser = 0, kSupervisor = 1;
constexpr unsigned kSstatus = 0x100, kStvec = 0x105, kScounteren = 0x106, kSepc = 0x141, kScause = 0x142, kSip = 0x144,
                   kStimecmp = 0x14d, kSatp = 0x180, kMstatus = 0x300, kMedeleg = 0x302, kMideleg = 0x303, kMie = 0x304,
                   kMtvec = 0x305, kMcounteren = 0x306, kMenvcfg = 0x30a, kMepc = 0x341, kMcause = 0x342, kMip = 0x344;
constexpr uint64_t kStatusFs = 3 << 13;
constexpr uint64_t kInterrupt = 1ull << 63;
constexpr uint64_t kSupervisorHandler = kRamBase + 0x7000;

constexpr uint32_t fadd_s = 0x00007053, fsw = 0x00012027 /* f0 to 0(sp) */, fmv_x_w = 0xe0000553 /* a0 */;

struct Machine : HartFixture {
    Machine() {
        open_pmp();
        put(kSupervisorHandler, {jal(zero, 0)});
    }
    void begin(std::initializer_list<uint32_t> program) {
        start(program);
        open_pmp();
        set_csr(kStvec, kSupervisorHandler);
    }
};

void delegated_traps_go_to_supervisor() {
    Machine m;
    m.begin({ecall, 0});
    m.set_csr(kMedeleg, 1 << 8 | 1 << 2);
    m.enter(kUser, kRamBase);
    m.step();
    g_assert_cmphex(m.pc(), ==, kSupervisorHandler);
    g_assert_cmphex(m.csr(kScause), ==, 8);
    g_assert_cmphex(m.csr(kSepc), ==, kRamBase);
    g_assert_cmphex(m.csr(kSstatus) & 1 << 8, ==, 0);  // from user mode

    // From supervisor mode it stays there, from machine mode it does not go down.
    m.enter(kSupervisor, kRamBase + 4);
    m.step();
    g_assert_cmphex(m.pc(), ==, kSupervisorHandler);
    g_assert_cmphex(m.csr(kSstatus) & 1 << 8, !=, 0);
    m.begin({0});
    m.set_csr(kMedeleg, 1 << 2);
    m.step();
    m.assert_trap(2, kRamBase, 0);
}

void returns_restore_what_traps_saved() {
    Machine m;
    m.begin({sret});
    m.set_csr(kMstatus, 1 << 5 | 1 << 8 | 1 << 17);  // SPIE, SPP, MPRV
    m.set_csr(kSepc, kRamBase + 0x100);
    m.enter(kSupervisor, kRamBase);
    m.step();
    g_assert_cmphex(m.pc(), ==, kRamBase + 0x100);
    g_assert_cmphex(m.csr(kMstatus) & (1 << 1 | 1 << 5 | 1 << 8 | 1 << 17), ==, 1 << 1 | 1 << 5);
}

void interrupts_come_by_priority_and_vectored() {
    Machine m;
    m.begin({nop, jal(zero, 0)});
    m.set_csr(kMtvec, kTrapHandler | 1);
    m.set_csr(kMie, 0xaaa);
    m.hart.set_level(Hart::kMachineTimer, true);
    m.hart.set_level(Hart::kMachineSoftware, true);
    m.hart.set_level(Hart::kMachineExternal, true);
    m.set_csr(kMip, 0x222);
    // Disabled in machine mode, it goes on.
    m.step();
    g_assert_cmphex(m.pc(), ==, kRamBase + 4);

    const auto next_interrupt = [&](unsigned number) {
        m.set_pc(kRamBase);
        m.set_csr(kMstatus, 1 << 3);
        m.step();
        g_assert_cmphex(m.csr(kMcause), ==, kInterrupt | number);
        g_assert_cmphex(m.pc(), ==, kTrapHandler + 4 * number);
        g_assert_cmphex(m.csr(kMepc), ==, kRamBase);
        g_assert_cmphex(m.csr(kMstatus) & (1 << 3 | 1 << 7 | 3 << 11), ==, 1 << 7 | 3 << 11);
    };
    next_interrupt(11);
    m.hart.set_level(Hart::kMachineExternal, false);
    next_interrupt(3);
    m.hart.set_level(Hart::kMachineSoftware, false);
    next_interrupt(7);
    m.hart.set_level(Hart::kMachineTimer, false);
    next_interrupt(9);
    m.set_csr(kMip, 0x22);
    next_interrupt(1);
    m.set_csr(kMip, 0x20);
    next_interrupt(5);
    m.set_csr(kMip, 0);
    m.set_pc(kRamBase);
    m.set_csr(kMstatus, 1 << 3);
    m.step();
    g_assert_cmphex(m.pc(), ==, kRamBase + 4);
}

void delegated_interrupts_wait_in_machine_mode() {
    Machine m;
    m.begin({jal(zero, 0)});
    m.set_csr(kMideleg, 0x222);
    m.set_csr(kMie, 0x222);
    m.hart.set_level(Hart::kSupervisorExternal, true);
    m.set_csr(kMstatus, 1 << 3 | 1 << 1);
    m.step();
    g_assert_cmphex(m.pc(), ==, kRamBase);
    g_assert_cmphex(m.csr(kSip), ==, 0x200);
    // In supervisor mode if SIE is set, in user mode always.
    m.set_csr(kMstatus, 0);
    m.enter(kSupervisor, kRamBase);
    m.step();
    g_assert_cmphex(m.pc(), ==, kRamBase);
    m.enter(kUser, kRamBase);
    m.step();
    g_assert_cmphex(m.pc(), ==, kSupervisorHandler);
    g_assert_cmphex(m.csr(kScause), ==, kInterrupt | 9);
}

// A device's level in mip is not kept there by a read-modify-write.
void external_level_is_not_kept_in_mip() {
    Machine m;
    m.begin({csrrs(a0, kMip, a1), csrr(a2, kMip)});
    m.hart.set_level(Hart::kSupervisorExternal, true);
    m.set_x(a1, 2);
    m.step(1);
    g_assert_cmphex(m.x(a0), ==, 0x200);
    m.hart.set_level(Hart::kSupervisorExternal, false);
    m.step();
    g_assert_cmphex(m.x(a2), ==, 2);
}

void stimecmp_interrupts_the_supervisor() {
    Machine m;
    m.begin({csrw(kStimecmp, a0), jal(zero, 0)});
    m.set_csr(kMideleg, 0x222);
    m.set_csr(kMie, 0x222);
    m.set_csr(kMcounteren, 7);
    m.set_csr(kMstatus, 1 << 1);
    // Not switched on by menvcfg: the CSR is not for the supervisor.
    m.enter(kSupervisor, kRamBase);
    m.step();
    m.assert_trap(2, kRamBase, csrw(kStimecmp, a0));
    g_assert_cmphex(m.hart.next_timer(), ==, UINT64_MAX);

    m.set_csr(kMenvcfg, kInterrupt);
    g_assert_cmphex(m.csr(kMip) & 0x20, ==, 0);
    m.set_csr(kMstatus, 1 << 1);
    m.set_x(a0, 0);
    m.enter(kSupervisor, kRamBase);
    m.step();
    g_assert_cmphex(m.hart.next_timer(), ==, 0);
    m.step();
    g_assert_cmphex(m.pc(), ==, kSupervisorHandler);
    g_assert_cmphex(m.csr(kScause), ==, kInterrupt | 5);
    m.set_csr(kStimecmp, UINT64_MAX);
    g_assert_cmphex(m.csr(kSip), ==, 0);

    // A hart that waits for it has work when it comes.
    m.set_csr(kStimecmp, m.clock.now() + 100'000);
    g_assert_false(m.hart.has_work());
    while (m.clock.now() < m.hart.next_timer()) {
    }
    g_assert_true(m.hart.has_work());
}

void virtual_memory_and_wfi_can_be_trapped() {
    struct {
        uint64_t bit;
        uint32_t instruction;
    } const cases[] = {{1 << 20, csrr(a0, kSatp)}, {1 << 20, sfence_vma}, {1 << 21, wfi}, {1 << 22, sret}};
    for (const auto& each : cases) {
        Machine m;
        m.begin({each.instruction});
        m.set_csr(kSepc, kRamBase);
        m.set_csr(kMideleg, 2);
        m.set_csr(kMie, 2);
        m.set_csr(kMip, 2);
        m.enter(kSupervisor, kRamBase);
        m.step();
        g_assert_cmphex(m.pc(), !=, kTrapHandler);
        m.set_csr(kMip, 0);
        m.set_csr(kMstatus, each.bit);
        m.enter(kSupervisor, kRamBase);
        m.step();
        m.assert_trap(2, kRamBase, each.instruction);
        // In user mode none of them.
        m.set_csr(kMstatus, 0);
        m.enter(kUser, kRamBase);
        m.step();
        m.assert_trap(2, kRamBase, each.instruction);
    }
}

void counters_are_for_whom_they_are_enabled() {
    for (unsigned counter : {0xc00u, 0xc01u, 0xc02u}) {
        const uint64_t bit = 1 << (counter - 0xc00);
        for (uint64_t machine : {uint64_t{0}, bit})
            for (uint64_t supervisor : {uint64_t{0}, bit})
                for (uint64_t privilege : {kUser, kSupervisor}) {
                    Machine m;
                    m.begin({csrr(a0, counter)});
                    m.set_csr(kMcounteren, machine);
                    m.set_csr(kScounteren, supervisor);
                    m.enter(privilege, kRamBase);
                    m.step();
                    const bool allowed = machine && (supervisor || privilege == kSupervisor);
                    g_assert_cmphex(m.pc(), ==, allowed ? kRamBase + 4 : kTrapHandler);
                }
    }
}

void privileged_csrs_trap_below() {
    Machine m;
    m.begin({csrr(a0, kMstatus), csrr(a0, kSstatus)});
    m.enter(kSupervisor, kRamBase);
    m.step();
    m.assert_trap(2, kRamBase, csrr(a0, kMstatus));
    m.enter(kUser, kRamBase + 4);
    m.step();
    m.assert_trap(2, kRamBase + 4, csrr(a0, kSstatus));
    m.enter(kSupervisor, kRamBase + 4);
    m.step();
    g_assert_cmphex(m.pc(), ==, kRamBase + 8);
}

void floating_point_needs_fs() {
    Machine m;
    m.begin({fadd_s, fsw, csrr(a0, 3)});
    m.set_x(sp, kRamBase + 0x1000);
    const uint32_t programs[] = {fadd_s, fsw, csrr(a0, 3)};
    for (unsigned i = 0; i < 3; ++i) {
        m.set_pc(kRamBase + 4 * i);
        m.step();
        m.assert_trap(2, kRamBase + 4 * i, programs[i]);
    }
    // Clean stays clean when registers are only read, and becomes dirty when one is written.
    m.set_csr(kMstatus, 2 << 13);
    m.set_pc(kRamBase + 4);
    m.step(2);
    g_assert_cmphex(m.csr(kMstatus) & (kStatusFs | kInterrupt), ==, 2 << 13);
    m.set_pc(kRamBase);
    m.step();
    g_assert_cmphex(m.csr(kMstatus) & (kStatusFs | kInterrupt), ==, kStatusFs | kInterrupt);
}

void reserved_rounding_modes_trap() {
    Machine m;
    m.begin({fadd_s, fadd_s & ~0x7000u, (fadd_s & ~0x7000u) | 5 << 12});
    m.set_csr(kMstatus, kStatusFs);
    m.set_csr(2, 5);
    m.step();
    m.assert_trap(2, kRamBase, fadd_s);
    m.set_csr(kMstatus, kStatusFs);
    m.set_pc(kRamBase + 4);
    m.step();
    g_assert_cmphex(m.pc(), ==, kRamBase + 8);
    m.step();
    m.assert_trap(2, kRamBase + 8, (fadd_s & ~0x7000u) | 5 << 12);
}

void singles_are_boxed() {
    Machine m;
    m.begin({fadd_s, fmv_x_w});
    m.set_csr(kMstatus, kStatusFs);
    m.set_f(0, 0x3f800000);  // not boxed: a NaN
    m.step(2);
    g_assert_cmphex(m.f(0), ==, 0xffffffff7fc00000);
    g_assert_cmphex(m.x(a0), ==, 0x7fc00000);
    m.set_f(0, 0xffffffff3f800000);
    m.set_pc(kRamBase);
    m.step(2);
    g_assert_cmphex(m.f(0), ==, 0xffffffff40000000);
    g_assert_cmphex(m.csr(1), ==, 0);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/hart-traps/delegated-ones-go-to-the-supervisor", delegated_traps_go_to_supervisor);
    g_test_add_func("/hart-traps/returns-restore-what-they-saved", returns_restore_what_traps_saved);
    g_test_add_func("/hart-traps/interrupts-come-by-priority-and-vectored", interrupts_come_by_priority_and_vectored);
    g_test_add_func("/hart-traps/delegated-interrupts-wait-in-machine-mode", delegated_interrupts_wait_in_machine_mode);
    g_test_add_func("/hart-traps/an-external-level-is-not-kept-in-mip", external_level_is_not_kept_in_mip);
    g_test_add_func("/hart-traps/stimecmp-interrupts-the-supervisor", stimecmp_interrupts_the_supervisor);
    g_test_add_func("/hart-traps/tvm-tw-and-tsr", virtual_memory_and_wfi_can_be_trapped);
    g_test_add_func("/hart-traps/counters-are-for-whom-they-are-enabled", counters_are_for_whom_they_are_enabled);
    g_test_add_func("/hart-traps/privileged-csrs-trap-below", privileged_csrs_trap_below);
    g_test_add_func("/hart-traps/floating-point-needs-fs", floating_point_needs_fs);
    g_test_add_func("/hart-traps/reserved-rounding-modes-trap", reserved_rounding_modes_trap);
    g_test_add_func("/hart-traps/singles-are-boxed", singles_are_boxed);
    return g_test_run();
}
