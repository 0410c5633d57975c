#include "tests/unit/hart_fixture.h"

using namespace ashlar;
using namespace ashlar::riscv;

namespace {

constexpr uint64_t kUser = 0, kSupervisor = 1;
constexpr unsigned kPmpcfg0 = 0x3a0, kPmpcfg2 = 0x3a2, kPmpaddr0 = 0x3b0, kMcause = 0x342, kMtval = 0x343,
                   kSatp = 0x180;
constexpr uint64_t R = 1, W = 2, X = 4, kTor = 1 << 3, kNa4 = 2 << 3, kNapot = 3 << 3, kLock = 0x80;

constexpr uint64_t kWhere = kRamBase + 0x20000;

uint64_t napot(uint64_t base, uint64_t bytes) {
    return (base | (bytes / 2 - 1)) >> 2;
}

struct Protected : HartFixture {
    Protected() {
        start({lw(a0, s0, 0), sw(a1, s0, 0), jalr(ra, s0, 0)});
        put(kWhere, {jalr(zero, ra, 0)});
    }
    // Entries from 0 on, then the last that allows everything.
    void set(std::initializer_list<std::pair<uint64_t, uint64_t>> entries) {
        uint64_t config = 0;
        unsigned number = 0;
        for (auto [address, bits] : entries) {
            set_csr(kPmpaddr0 + number, address);
            config |= bits << 8 * number++;
        }
        set_csr(kPmpcfg0, config);
        set_csr(kPmpaddr0 + 15, ~0ull);
        set_csr(kPmpcfg2, (kNapot | R | W | X) << 56);
    }
    // 0: load, 1: store, 2: fetch; the cause, or 0. In machine mode for a privilege of 3.
    uint64_t access(unsigned index, uint64_t privilege, uint64_t address) {
        put(kWhere, {jalr(zero, ra, 0)});
        put(address & ~3ull, {jalr(zero, ra, 0)});
        set_csr(kMcause, 0);
        enter(privilege, kRamBase + 4 * index);
        set_x(s0, address);
        set_x(a1, jalr(zero, ra, 0));
        step(index == 2 ? 2 : 1);
        if (csr(kMcause))
            g_assert_cmphex(csr(kMtval), ==, address);
        return csr(kMcause);
    }
};

constexpr uint64_t kCauses[] = {5, 7, 1};

void nothing_is_allowed_without_an_entry() {
    Protected m;
    m.enter(kSupervisor, kRamBase);
    m.step();
    m.assert_trap(1, kRamBase, kRamBase);
    g_assert_cmpuint(m.access(0, 3, kWhere), ==, 0);
}

void the_first_match_decides(gconstpointer) {
    for (uint64_t bits : {uint64_t{0}, R, R | W, X, R | X, R | W | X}) {
        Protected m;
        m.set({{napot(kWhere, 4096), kNapot | bits}});
        const uint64_t needed[] = {R, W, X};
        for (unsigned index = 0; index < 3; ++index)
            for (uint64_t privilege : {kUser, kSupervisor}) {
                g_assert_cmpuint(m.access(index, privilege, kWhere), ==, bits & needed[index] ? 0 : kCauses[index]);
                g_assert_cmpuint(m.access(index, privilege, kWhere + 4096), ==, 0);
                // It is not locked.
                g_assert_cmpuint(m.access(index, 3, kWhere), ==, 0);
            }
    }
}

void ranges_of_every_kind() {
    struct {
        std::initializer_list<std::pair<uint64_t, uint64_t>> entries;
        uint64_t first, last;
    } const cases[] = {
        {{{kWhere >> 2, kNa4}}, kWhere, kWhere + 3},
        {{{napot(kWhere, 8), kNapot}}, kWhere, kWhere + 7},
        {{{napot(kWhere, 64), kNapot}}, kWhere, kWhere + 63},
        {{{napot(kWhere, 8192), kNapot}}, kWhere, kWhere + 8191},
        {{{(kWhere + 4) >> 2, 0}, {(kWhere + 24) >> 2, kTor}}, kWhere + 4, kWhere + 23},
    };
    for (const auto& each : cases) {
        Protected m;
        m.set(each.entries);
        for (unsigned round = 0; round < 2; ++round)
            for (unsigned index = 0; index < 3; ++index) {
                g_assert_cmpuint(m.access(index, kUser, each.first - 4), ==, 0);
                g_assert_cmpuint(m.access(index, kUser, each.first), ==, kCauses[index]);
                g_assert_cmpuint(m.access(index, kUser, each.last - 3), ==, kCauses[index]);
                g_assert_cmpuint(m.access(index, kUser, each.last + 1), ==, 0);
            }
    }
}

// An access that an entry matches in part fails, whatever the entry allows.
void half_a_match_fails() {
    Protected m;
    constexpr uint64_t kWord = kWhere + 0x100;
    m.set({{kWord >> 2, kNa4 | R | W | X}});
    m.put(kRamBase + 12, {ld(a0, s0, 0)});
    for (auto [address, fails] : {std::pair{kWord - 4, true}, {kWord, true}, {kWord - 8, false}, {kWord + 4, false}}) {
        m.set_csr(kMcause, 0);
        m.enter(kUser, kRamBase + 12);
        m.set_x(s0, address);
        m.step();
        g_assert_cmpuint(m.csr(kMcause), ==, fails ? 5 : 0);
    }
}

void locked_entries_bind_machine_mode_and_stay() {
    Protected m;
    m.set({{napot(kWhere, 4096), kNapot | kLock | R}});
    g_assert_cmpuint(m.access(0, 3, kWhere), ==, 0);
    g_assert_cmpuint(m.access(1, 3, kWhere), ==, 7);
    m.set_csr(kPmpcfg0, 0);
    m.set_csr(kPmpaddr0, 0);
    g_assert_cmphex(m.csr(kPmpcfg0) & 0xff, ==, kNapot | kLock | R);
    g_assert_cmphex(m.csr(kPmpaddr0), ==, napot(kWhere, 4096));
    // A locked range from the entry below: its address is locked as well.
    m.set_csr(kPmpaddr0 + 2, kWhere >> 2);
    m.set_csr(kPmpaddr0 + 3, (kWhere + 4096) >> 2);
    m.set_csr(kPmpcfg0, (kTor | kLock) << 24);
    m.set_csr(kPmpaddr0 + 2, 0);
    g_assert_cmphex(m.csr(kPmpaddr0 + 2), ==, kWhere >> 2);
    // Until the next reset.
    m.hart.reset(kRamBase);
    g_assert_cmphex(m.csr(kPmpcfg0), ==, 0);
}

void writable_and_not_readable_is_not_taken() {
    Protected m;
    m.set_csr(kPmpcfg0, kNapot | W);
    g_assert_cmphex(m.csr(kPmpcfg0) & (R | W), ==, 0);
}

void page_tables_are_checked() {
    Protected m;
    const uint64_t tables = kRamBase + 0x100000;
    m.put64(tables + 16, 0x80000000 >> 12 << 10 | 0xcf);
    m.set({{napot(tables, 4096), kNapot | R}});
    m.set_csr(kSatp, 8ull << 60 | tables >> 12);
    g_assert_cmpuint(m.access(0, kSupervisor, kWhere), ==, 0);
    m.set({{napot(tables, 4096), kNapot}});
    m.enter(kSupervisor, kRamBase);
    m.step();
    m.assert_trap(1, kRamBase, kRamBase);
    // An accessed bit that would have to be set where only reading is allowed.
    m.set({{napot(tables, 4096), kNapot | R}});
    m.put64(tables + 16, 0x80000000 >> 12 << 10 | 0xf);
    m.enter(kSupervisor, kRamBase);
    m.step();
    m.assert_trap(1, kRamBase, kRamBase);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/hart-pmp/nothing-is-allowed-without-an-entry", nothing_is_allowed_without_an_entry);
    g_test_add_data_func("/hart-pmp/the-first-match-decides", nullptr, the_first_match_decides);
    g_test_add_func("/hart-pmp/ranges-of-every-kind", ranges_of_every_kind);
    g_test_add_func("/hart-pmp/half-a-match-fails", half_a_match_fails);
    g_test_add_func("/hart-pmp/locked-entries-bind-machine-mode-and-stay", locked_entries_bind_machine_mode_and_stay);
    g_test_add_func("/hart-pmp/writable-and-not-readable-is-not-taken", writable_and_not_readable_is_not_taken);
    g_test_add_func("/hart-pmp/page-tables-are-checked", page_tables_are_checked);
    return g_test_run();
}
