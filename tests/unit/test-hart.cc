#include "tests/unit/hart_fixture.h"

#include <functional>

using namespace ashlar;
using namespace ashlar::riscv;

namespace {

void loop_counts() {
    HartFixture m;
    // The sum of 1 to 100000, over many chunks.
    m.start({lui(a0, 100000 >> 12), addi(a0, a0, 100000 & 0xfff), li(a1, 0), add(a1, a1, a0), addi(a0, a0, -1),
             bne(a0, zero, -8), ebreak});
    g_assert_true(m.hart.run(300000 + 4) == Hart::Stop::Budget);
    m.assert_trap(3, kRamBase + 24, 0);
    g_assert_cmpuint(m.x(a1), ==, 100000ull * 100001 / 2);
    g_assert_cmpuint(m.x(a0), ==, 0);
    g_assert_cmpuint(m.hart.instructions(), >=, 300003);
}

void x0_stays_zero() {
    HartFixture m;
    m.start({li(zero, 5), lui(zero, 5), auipc(zero, 0), add(a0, zero, zero), jal(zero, 4), csrr(zero, 0xf14),
             ld(zero, sp, 0), add(a1, zero, zero)});
    m.set_x(sp, kRamBase);
    m.set_x(a0, 7);
    m.set_x(a1, 7);
    m.step(8);
    g_assert_cmphex(m.pc(), ==, kRamBase + 32);
    g_assert_cmpuint(m.x(zero) | m.x(a0) | m.x(a1), ==, 0);
}

void one_step_is_one_instruction() {
    HartFixture m;
    m.start({nop, nop, 0x00010001 /* two c.nop */, nop});
    uint64_t expected[] = {4, 8, 10, 12, 16};
    for (uint64_t offset : expected) {
        m.step();
        g_assert_cmphex(m.pc(), ==, kRamBase + offset);
    }
    g_assert_cmpuint(m.csr(0xb02), ==, 5);
}

void illegal_instructions_trap() {
    for (uint32_t bits : {0u, 0xffffffffu, 0x2000u /* c.fld, FS is off */, 0x0000007bu}) {
        HartFixture m;
        m.start({bits});
        m.step();
        const uint32_t shown = (bits & 3) == 3 ? bits : bits & 0xffff;
        m.assert_trap(2, kRamBase, shown);
    }
}

void unknown_csrs_trap() {
    for (unsigned number : {0x3a1u, 0x3c0u, 0x7a0u, 0x600u, 0x747u, 0xfffu, 0xda0u}) {
        HartFixture m;
        m.start({csrr(a0, number)});
        m.set_x(a0, 99);
        m.step();
        m.assert_trap(2, kRamBase, csrr(a0, number));
        g_assert_cmpuint(m.x(a0), ==, 99);
    }
    HartFixture m;
    m.start({csrw(0xf14, a0)});  // read-only
    m.step();
    m.assert_trap(2, kRamBase, csrw(0xf14, a0));
}

void misaligned_accesses_succeed() {
    HartFixture m;
    m.start({sd(a0, sp, 0), ld(a1, sp, 0), lw(a2, sp, 1)});
    for (uint64_t address : {kRamBase + 0x1001, kRamBase + 0x1ffd, kRamBase + 0x2ffc}) {
        m.set_pc(kRamBase);
        m.set_x(a0, 0x8877665544332211);
        m.set_x(sp, address);
        m.step(3);
        g_assert_cmphex(m.x(a1), ==, 0x8877665544332211);
        g_assert_cmphex(m.x(a2), ==, 0x55443322);
        g_assert_cmphex(m.get64(address), ==, 0x8877665544332211);
    }
}

void misaligned_atomics_trap() {
    HartFixture m;
    m.start({amo_w(2, a0, sp, 0), amo_w(3, a0, sp, a1), amo_w(0, a0, sp, a1)});
    const uint64_t causes[] = {4, 6, 6};
    for (unsigned i = 0; i < 3; ++i) {
        m.set_pc(kRamBase + 4 * i);
        m.set_x(sp, kRamBase + 0x1002);
        m.step();
        m.assert_trap(causes[i], kRamBase + 4 * i, kRamBase + 0x1002);
    }
}

void access_faults_name_the_address() {
    HartFixture m;
    m.start({ld(a0, sp, 8), sd(a0, sp, 8), jalr(ra, sp, 0), amo_w(0, a0, sp, a1)});
    m.set_x(sp, 0x40000000);
    m.step();
    m.assert_trap(5, kRamBase, 0x40000008);
    m.set_pc(kRamBase + 4);
    m.step();
    m.assert_trap(7, kRamBase + 4, 0x40000008);
    m.set_pc(kRamBase + 8);
    m.step(2);
    m.assert_trap(1, 0x40000000, 0x40000000);
    m.set_pc(kRamBase + 12);
    m.step();
    m.assert_trap(7, kRamBase + 12, 0x40000000);
}

void reservations_are_broken() {
    const uint64_t where = kRamBase + 0x1000;
    const auto prepare = [&](HartFixture& m) {
        m.put32(where, 0x80000001);
        m.set_x(sp, where);
        m.set_x(a2, 5);
        m.set_x(a4, 0x80000001);
    };
    {
        // By nothing, by the SC itself.
        HartFixture m;
        m.start({amo_w(2, a0, sp, 0), amo_w(3, a1, sp, a2), amo_w(3, a3, sp, a2), ebreak});
        prepare(m);
        m.hart.run(4);
        g_assert_cmphex(m.x(a0), ==, 0xffffffff80000001);
        g_assert_cmpuint(m.x(a1), ==, 0);
        g_assert_cmpuint(m.x(a3), ==, 1);
        g_assert_cmpuint(m.get64(where), ==, 5);
    }
    {
        // By another value.
        HartFixture m;
        m.start({amo_w(2, a0, sp, 0), sw(zero, sp, 0), amo_w(3, a1, sp, a2), ebreak});
        prepare(m);
        m.hart.run(4);
        g_assert_cmpuint(m.x(a1), ==, 1);
        g_assert_cmpuint(m.get64(where), ==, 0);
    }
    {
        // Not between two steps.
        HartFixture m;
        m.start({amo_w(2, a0, sp, 0), amo_w(3, a1, sp, a2), ebreak});
        prepare(m);
        g_assert_true(m.hart.step() == Hart::Stop::Budget);
        g_assert_true(m.hart.step() == Hart::Stop::Budget);
        g_assert_cmpuint(m.x(a1), ==, 0);
        g_assert_cmphex(m.get64(where), ==, 5);
    }
    {
        // By the turn of another hart, which may have stored what was there.
        HartFixture m;
        m.start({amo_w(2, a0, sp, 0), amo_w(3, a1, sp, a2), ebreak});
        prepare(m);
        m.step();
        m.hart.lose_reservation();
        m.step();
        g_assert_cmpuint(m.x(a1), ==, 1);
        g_assert_cmphex(m.get64(where), ==, 0x80000001);
    }
}

void new_code_runs_after_fence_i() {
    HartFixture m;
    const uint64_t routine = kRamBase + 0x2000;
    m.start({jalr(ra, s0, 0), sw(a1, s0, 0), fence_i, jalr(ra, s0, 0), ebreak});
    m.put(routine, {li(a0, 1), jalr(zero, ra, 0)});
    m.set_x(s0, routine);
    m.set_x(a1, li(a0, 2));
    m.hart.run(3);
    g_assert_cmpuint(m.x(a0), ==, 1);
    m.hart.run(100);
    g_assert_cmpuint(m.x(a0), ==, 2);
}

void an_instruction_may_cross_pages() {
    HartFixture m;
    m.start({});
    const uint64_t where = kRamBase + 0x1ffe;
    m.put32(where, li(a0, 42));
    m.put(where + 4, {addi(a0, a0, 1), jal(zero, 0)});
    m.set_pc(where);
    m.hart.run(100);
    g_assert_cmpuint(m.x(a0), ==, 43);
    g_assert_cmphex(m.pc(), ==, where + 8);
}

void breakpoints_stop_before_the_instruction() {
    HartFixture m;
    m.start({li(a0, 1), li(a0, 2), li(a0, 3), jal(zero, -12)});
    m.hart.run(100);
    m.hart.set_breakpoint(kRamBase + 8, true);
    m.set_pc(kRamBase);
    g_assert_true(m.hart.run(100) == Hart::Stop::Breakpoint);
    g_assert_cmphex(m.pc(), ==, kRamBase + 8);
    g_assert_cmpuint(m.x(a0), ==, 2);
    m.hart.set_breakpoint(kRamBase + 8, false);
    g_assert_true(m.hart.run(100) == Hart::Stop::Budget);
}

void wfi_waits_for_an_interrupt_that_is_enabled() {
    HartFixture m;
    m.start({wfi, li(a0, 1), jal(zero, 0)});
    m.set_csr(0x304, 1 << 7);  // mie; mstatus.MIE is off: it goes on, and does not trap
    g_assert_true(m.hart.run(100) == Hart::Stop::Wfi);
    m.hart.set_level(Hart::kMachineExternal, true);
    g_assert_false(m.hart.has_work());
    g_assert_true(m.hart.run(100) == Hart::Stop::Wfi);
    m.hart.set_level(Hart::kMachineTimer, true);
    g_assert_true(m.hart.has_work());
    g_assert_true(m.hart.run(100) == Hart::Stop::Budget);
    g_assert_cmpuint(m.x(a0), ==, 1);
}

void kick_stops_it() {
    HartFixture m;
    m.start({jal(zero, 0)});
    m.hart.kick();
    g_assert_true(m.hart.run(1'000'000'000'000) == Hart::Stop::Kicked);
    g_assert_true(m.hart.run(1000) == Hart::Stop::Budget);
}

void counters_count_and_stop() {
    HartFixture m;
    m.start({csrr(a0, 0xb02), csrr(a1, 0xb02), csrw(0xb02, a2), csrr(a3, 0xb02), csrw(0x320, a4), csrr(a5, 0xb02),
             csrr(s2, 0xb02)});
    m.set_x(a2, 1000);
    m.set_x(a4, 4);
    m.step(7);
    g_assert_cmpuint(m.x(a1) - m.x(a0), ==, 1);
    g_assert_cmpuint(m.x(a3), ==, 1000);
    g_assert_cmpuint(m.x(a5), ==, m.x(s2));
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/hart/a-loop-counts", loop_counts);
    g_test_add_func("/hart/x0-stays-zero", x0_stays_zero);
    g_test_add_func("/hart/one-step-is-one-instruction", one_step_is_one_instruction);
    g_test_add_func("/hart/illegal-instructions-trap-with-their-bits", illegal_instructions_trap);
    g_test_add_func("/hart/unknown-csrs-trap", unknown_csrs_trap);
    g_test_add_func("/hart/misaligned-accesses-succeed", misaligned_accesses_succeed);
    g_test_add_func("/hart/misaligned-atomics-trap", misaligned_atomics_trap);
    g_test_add_func("/hart/access-faults-name-the-address", access_faults_name_the_address);
    g_test_add_func("/hart/reservations-are-broken-by-stores-and-turns", reservations_are_broken);
    g_test_add_func("/hart/new-code-runs-after-fence-i", new_code_runs_after_fence_i);
    g_test_add_func("/hart/an-instruction-may-cross-pages", an_instruction_may_cross_pages);
    g_test_add_func("/hart/breakpoints-stop-before-the-instruction", breakpoints_stop_before_the_instruction);
    g_test_add_func("/hart/wfi-waits-for-an-interrupt-that-is-enabled", wfi_waits_for_an_interrupt_that_is_enabled);
    g_test_add_func("/hart/kick-stops-it", kick_stops_it);
    g_test_add_func("/hart/counters-count-and-stop", counters_count_and_stop);
    return g_test_run();
}
