#include "tests/unit/hart_fixture.h"

using namespace ashlar;
using namespace ashlar::riscv;

namespace {

constexpr unsigned kStimecmp = 0x14d, kSatp = 0x180, kMstatus = 0x300, kMisa = 0x301, kMenvcfg = 0x30a,
                   kPmpaddr0 = 0x3b0;
constexpr uint64_t kIllegal = 2, kFs = 3ull << 13, kStce = 1ull << 63;
constexpr uint32_t kFaddS = 0x003100d3;  // fadd.s f1, f2, f3

void without_sstc_there_is_no_stimecmp() {
    HartFixture m(HartFeatures{.sstc = false});
    m.start({csrr(a0, kStimecmp)});
    m.step();
    m.assert_trap(kIllegal, kRamBase, csrr(a0, kStimecmp));
    m.set_csr(kMenvcfg, ~0ull);
    g_assert_cmphex(m.csr(kMenvcfg) & kStce, ==, 0);

    HartFixture with;
    with.start({csrr(a0, kStimecmp)});
    with.step();
    g_assert_cmphex(with.x(a0), ==, ~0ull);
    with.set_csr(kMenvcfg, ~0ull);
    g_assert_cmphex(with.csr(kMenvcfg) & kStce, ==, kStce);
}

void without_pmp_there_are_no_entries_and_all_is_open() {
    HartFixture m(HartFeatures{.pmp = false});
    m.start({csrr(a0, kPmpaddr0)});
    m.step();
    m.assert_trap(kIllegal, kRamBase, csrr(a0, kPmpaddr0));
    m.start({li(a0, 5), ecall});
    m.enter(0, kRamBase);
    m.step();
    g_assert_cmpuint(m.x(a0), ==, 5);
    m.step();
    m.assert_trap(8, kRamBase + 4, 0);
}

void without_floating_point_its_instructions_are_illegal() {
    HartFixture m(HartFeatures{.floating_point = false});
    m.start({kFaddS});
    m.set_csr(kMstatus, kFs);
    g_assert_cmphex(m.csr(kMstatus) & kFs, ==, 0);
    g_assert_cmphex(m.csr(kMisa) & (1 << 3 | 1 << 5), ==, 0);
    m.step();
    m.assert_trap(kIllegal, kRamBase, kFaddS);
    m.set_csr(0x003, 1);  // as a debugger does
    g_assert_cmphex(m.csr(kMstatus) & kFs, ==, 0);

    HartFixture with;
    with.start({kFaddS});
    with.set_csr(kMstatus, kFs);
    with.step();
    g_assert_cmphex(with.pc(), ==, kRamBase + 4);
}

// The highest mode that satp takes.
uint64_t highest_mode(HartFeatures::Paging paging) {
    HartFixture m(HartFeatures{.paging = paging});
    m.start({});
    uint64_t highest = 0;
    for (uint64_t mode = 1; mode < 16; ++mode) {
        m.set_csr(kSatp, mode << 60 | 1);
        if (m.csr(kSatp) == (mode << 60 | 1))
            highest = mode;
    }
    return highest;
}

void satp_takes_the_modes_that_there_are() {
    g_assert_cmpuint(highest_mode(HartFeatures::Paging::None), ==, 0);
    g_assert_cmpuint(highest_mode(HartFeatures::Paging::Sv39), ==, 8);
    g_assert_cmpuint(highest_mode(HartFeatures::Paging::Sv48), ==, 9);
}

void the_device_tree_says_what_there_is() {
    g_assert_true(isa_string({}) == "rv64imafdc_zicntr_zicsr_zifencei_sstc");
    const HartFeatures least{
        .sstc = false, .pmp = false, .floating_point = false, .paging = HartFeatures::Paging::None};
    g_assert_true(isa_string(least) == "rv64imac_zicntr_zicsr_zifencei");
    g_assert_true(mmu_type(least) == "none");
    g_assert_true(mmu_type({.paging = HartFeatures::Paging::Sv39}) == "sv39");
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/hart-features/without-sstc-there-is-no-stimecmp", without_sstc_there_is_no_stimecmp);
    g_test_add_func("/hart-features/without-pmp-there-are-no-entries-and-all-is-open",
                    without_pmp_there_are_no_entries_and_all_is_open);
    g_test_add_func("/hart-features/without-floating-point-its-instructions-are-illegal",
                    without_floating_point_its_instructions_are_illegal);
    g_test_add_func("/hart-features/satp-takes-the-modes-that-there-are", satp_takes_the_modes_that_there_are);
    g_test_add_func("/hart-features/the-device-tree-says-what-there-is", the_device_tree_says_what_there_is);
    return g_test_run();
}
