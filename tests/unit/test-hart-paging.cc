#include "tests/unit/hart_fixture.h"

using namespace ashlar;
using namespace ashlar::riscv;

namespace {

constexpr uint64_t V = 1, R = 2, W = 4, X = 8, U = 16, G = 32, A = 64, D = 128;
constexpr uint64_t kUser = 0, kSupervisor = 1;
constexpr unsigned kSatp = 0x180, kMstatus = 0x300, kMcause = 0x342, kMepc = 0x341, kMtval = 0x343;
constexpr uint64_t kSum = 1 << 18, kMxr = 1 << 19, kMprv = 1 << 17;

constexpr uint64_t kTables = kRamBase + 0x100000, kData = kRamBase + 0x200000;
// Where the tests look; and the page with the program, which is mapped by a large page of its own.
constexpr uint64_t kPage = 0x40000000;
constexpr uint64_t kCode = 0x80000000;

uint64_t pte(uint64_t address, uint64_t bits) {
    return address >> 12 << 10 | bits;
}

// Page tables of three (Sv39) or four levels: kPage's leaf is at `leaf`, what follows it at leaf + 8.
struct Paged : HartFixture {
    explicit Paged(unsigned levels = 3) {
        start({ld(a0, s0, 0), sd(a1, s0, 0), jalr(ra, s0, 0), sfence_vma});
        open_pmp();
        uint64_t table = kTables;
        if (levels == 4) {
            put64(table, pte(table + 0x1000, V));
            table += 0x1000;
        }
        put64(table + 8 * (kPage >> 30), pte(table + 0x1000, V));
        put64(table + 8 * (kCode >> 30), pte(kRamBase, V | R | W | X | A | D));
        put64(table + 0x1000, pte(table + 0x2000, V));
        middle = table + 0x1000;
        leaf = table + 0x2000;
        put64(leaf, pte(kData, V | R | W | X | A | D));
        put64(kData, jalr(zero, ra, 0));
        set_csr(kSatp, (levels == 4 ? 9ull : 8ull) << 60 | kTables >> 12);
    }

    // Program step `index` (0: load, 1: store, 2: fetch) from kPage; the cause, or 0.
    uint64_t access(unsigned index, uint64_t privilege = kSupervisor, uint64_t address = kPage) {
        set_csr(kMcause, 0);
        // The program is only the supervisor's; as the user it is run at a page of his own.
        if (privilege == kUser) {
            put64(leaf + 8 * 5, pte(kRamBase, V | R | X | U | A | D));
            enter(privilege, kPage + 5 * 4096 + 4 * index);
        } else {
            enter(privilege, kCode + 4 * index);
        }
        set_x(s0, address);
        step(index == 2 ? 2 : 1);
        return csr(kMcause);
    }
    void flush() {
        enter(kSupervisor, kCode + 12);
        step();
    }
    void set_leaf(uint64_t value) {
        put64(leaf, value);
        flush();
    }

    uint64_t leaf, middle;
};

void maps_a_page(gconstpointer levels) {
    Paged m(GPOINTER_TO_UINT(levels));
    m.put64(kData + 8, 0x123456789abcdef0);
    g_assert_cmpuint(m.access(0, kSupervisor, kPage + 8), ==, 0);
    g_assert_cmphex(m.x(a0), ==, 0x123456789abcdef0);
    m.set_x(a1, 77);
    g_assert_cmpuint(m.access(1, kSupervisor, kPage + 16), ==, 0);
    g_assert_cmpuint(m.get64(kData + 16), ==, 77);
    g_assert_cmpuint(m.access(2), ==, 0);
    g_assert_cmphex(m.pc(), ==, kCode + 12);
}

void permissions_are_kept() {
    struct {
        uint64_t bits, status;
        uint64_t privilege;
        bool load, store, fetch;
    } const cases[] = {
        {V | R, 0, kSupervisor, true, false, false},
        {V | R | W, 0, kSupervisor, true, true, false},
        {V | X, 0, kSupervisor, false, false, true},
        {V | X, kMxr, kSupervisor, true, false, true},
        {V | R | X, 0, kSupervisor, true, false, true},
        {V | R | W | X | G, 0, kSupervisor, true, true, true},
        {V | R | W | X, 0, kUser, false, false, false},
        {V | R | W | X | U, 0, kUser, true, true, true},
        {V | R | W | X | U, 0, kSupervisor, false, false, false},
        {V | R | W | X | U, kSum, kSupervisor, true, true, false},
        {V | W, 0, kSupervisor, false, false, false},
        {V | W | X, 0, kSupervisor, false, false, false},
        {R | W | X, 0, kSupervisor, false, false, false},
        {V | R | W | X | 1ull << 54, 0, kSupervisor, false, false, false},
        {V | R | W | X | 1ull << 63, 0, kSupervisor, false, false, false},
        {V | R | W | X | 1ull << 61, 0, kSupervisor, false, false, false},
    };
    for (const auto& each : cases)
        for (unsigned again = 0; again < 2; ++again) {  // by the tables, and by what was remembered of them
            Paged m;
            m.set_leaf(pte(kData, 0) | each.bits | A | D);
            m.set_csr(kMstatus, each.status);
            const bool allowed[] = {each.load, each.store, each.fetch};
            const uint64_t causes[] = {13, 15, 12};
            for (unsigned round = 0; round <= again; ++round)
                for (unsigned index = 0; index < 3; ++index) {
                    g_assert_cmpuint(m.access(index, each.privilege), ==, allowed[index] ? 0 : causes[index]);
                    if (!allowed[index])
                        g_assert_cmphex(m.csr(kMtval), ==, kPage);
                    m.put64(kData, jalr(zero, ra, 0));
                }
        }
}

void accessed_and_dirty_are_set() {
    Paged m;
    m.set_leaf(pte(kData, V | R | W | X));
    g_assert_cmpuint(m.access(0), ==, 0);
    g_assert_cmphex(m.get64(m.leaf), ==, pte(kData, V | R | W | X | A));
    // It was remembered for loads; a store still has to make it dirty.
    g_assert_cmpuint(m.access(1), ==, 0);
    g_assert_cmphex(m.get64(m.leaf), ==, pte(kData, V | R | W | X | A | D));
}

void a_change_is_seen_after_sfence() {
    Paged m;
    m.put64(kData + 0x1000 + 8, 2);
    m.put64(kData + 8, 1);
    g_assert_cmpuint(m.access(0, kSupervisor, kPage + 8), ==, 0);
    g_assert_cmpuint(m.x(a0), ==, 1);
    m.set_leaf(pte(kData + 0x1000, V | R | W | A | D));
    g_assert_cmpuint(m.access(0, kSupervisor, kPage + 8), ==, 0);
    g_assert_cmpuint(m.x(a0), ==, 2);
}

void large_pages_are_aligned() {
    Paged m;
    m.put64(kData + 0x3008, 5);
    m.put64(m.middle, pte(kData, V | R | A));
    m.flush();
    g_assert_cmpuint(m.access(0, kSupervisor, kPage + 0x3008), ==, 0);
    g_assert_cmpuint(m.x(a0), ==, 5);
    m.put64(m.middle, pte(kData + 0x1000, V | R | A));
    m.flush();
    g_assert_cmpuint(m.access(0, kSupervisor, kPage + 0x3008), ==, 13);
}

// SFENCE.VMA of one address of a large page forgets all of it.
void a_fence_within_a_large_page() {
    Paged m;
    m.put64(m.middle, pte(kData, V | R | A));
    m.put64(kData + 0x3008, 5);
    m.put64(kData + 0x200000 + 0x3008, 6);
    m.flush();
    g_assert_cmpuint(m.access(0, kSupervisor, kPage + 0x3008), ==, 0);
    m.put64(m.middle, pte(kData + 0x200000, V | R | A));
    m.put(kRamBase + 16, {sfence_vma | s0 << 15});
    m.enter(kSupervisor, kCode + 16);
    m.set_x(s0, kPage + 0x10000);
    m.step();
    g_assert_cmpuint(m.access(0, kSupervisor, kPage + 0x3008), ==, 0);
    g_assert_cmpuint(m.x(a0), ==, 6);
}

void odd_tables_fault() {
    for (unsigned levels : {3u, 4u}) {
        Paged m(levels);
        // Not the sign of bit 38 or 47.
        g_assert_cmpuint(m.access(0, kSupervisor, kPage | 1ull << (levels == 4 ? 50 : 40)), ==, 13);
        g_assert_cmphex(m.csr(kMtval), ==, kPage | 1ull << (levels == 4 ? 50 : 40));
        // No leaf at the last level; reserved bits above it; a table that is not in memory.
        m.set_leaf(pte(kData, V));
        g_assert_cmpuint(m.access(1), ==, 15);
        m.put64(m.middle, pte(m.leaf, V | A));
        m.flush();
        g_assert_cmpuint(m.access(0), ==, 13);
        m.put64(m.middle, pte(0x40000000, V));
        m.flush();
        g_assert_cmpuint(m.access(0), ==, 5);
        g_assert_cmpuint(m.access(1), ==, 7);
    }
}

void a_store_across_pages_is_whole() {
    Paged m;
    m.put64(m.leaf + 8, pte(kData + 0x5000, V | R | A));
    m.flush();
    m.put64(kData + 0xff8, 0);
    m.set_x(a1, ~0ull);
    g_assert_cmpuint(m.access(1, kSupervisor, kPage + 0xffc), ==, 15);
    g_assert_cmphex(m.csr(kMtval), ==, kPage + 0x1000);
    g_assert_cmphex(m.get64(kData + 0xff8), ==, 0);
    m.put64(m.leaf + 8, pte(kData + 0x5000, V | R | W | A | D));
    m.flush();
    g_assert_cmpuint(m.access(1, kSupervisor, kPage + 0xffc), ==, 0);
    g_assert_cmphex(m.get64(kData + 0xff8), ==, 0xffffffff00000000);
    g_assert_cmphex(m.get64(kData + 0x5000), ==, 0xffffffff);
}

void an_instruction_across_pages_faults_at_the_second() {
    Paged m;
    m.put64(kData + 0xff8, static_cast<uint64_t>(li(a0, 42)) << 48);
    m.access(2, kSupervisor, kPage + 0xffe);
    g_assert_cmpuint(m.csr(kMcause), ==, 12);
    g_assert_cmphex(m.csr(kMepc), ==, kPage + 0xffe);
    g_assert_cmphex(m.csr(kMtval), ==, kPage + 0x1000);
    m.put64(m.leaf + 8, pte(kData + 0x5000, V | X | A));
    m.put64(kData + 0x5000, li(a0, 42) >> 16);
    m.flush();
    g_assert_cmpuint(m.access(2, kSupervisor, kPage + 0xffe), ==, 0);
    g_assert_cmpuint(m.x(a0), ==, 42);
}

// MPRV: machine mode loads as MPP would; fetches are not concerned.
void machine_mode_looks_as_another() {
    Paged m;
    m.put64(kData + 8, 9);
    m.set_csr(kMstatus, kMprv | 1 << 11);
    m.set_pc(kRamBase);
    m.set_x(s0, kPage + 8);
    m.step();
    g_assert_cmphex(m.pc(), ==, kRamBase + 4);
    g_assert_cmpuint(m.x(a0), ==, 9);
    m.set_csr(kMstatus, kMprv);  // as the user
    m.set_pc(kRamBase);
    m.step();
    m.assert_trap(13, kRamBase, kPage + 8);
}

// What the manual says of loads and stores, for all that mstatus may say.
bool may(uint64_t bits, uint64_t privilege, uint64_t status, bool store) {
    if (bits & U ? privilege == kSupervisor && !(status & kSum) : privilege == kUser)
        return false;
    return store ? bits & W : bits & R || (status & kMxr && bits & X);
}

void data_is_seen_by_sum_mxr_and_mprv() {
    constexpr uint64_t kMachine = 3;
    // In one machine, one after the other: what was remembered of a page for one must not do for another.
    Paged m;
    m.put(kRamBase + 0x40, {ld(a0, s0, 8), sd(a1, s0, 8), amo_w(0, a0, s0, a1)});
    for (uint64_t bits : {R, R | W, X, R | X, R | W | X, U | R, U | R | W, U | X, U | R | W | X}) {
        m.set_leaf(pte(kData, V | A | D | bits));
        for (uint64_t as : {kUser, kSupervisor, kMachine})
            for (uint64_t flags :
                 {uint64_t{0}, kSum, kMxr, kSum | kMxr, kMprv, kMprv | kSum, kMprv | kMxr, kMprv | kSum | kMxr})
                for (unsigned index = 0; index < 3; ++index) {
                    // Machine mode, which looks as `as` does.
                    m.set_pc(kRamBase + 0x40 + 4 * index);
                    g_assert_true(m.hart.write_register(4161, kMachine));
                    m.set_csr(kMstatus, flags | as << 11);
                    m.set_csr(kMcause, 0);
                    m.set_x(s0, kPage);
                    m.step();
                    // Without MPRV, or as itself, its addresses are physical, and there is nothing.
                    const uint64_t access = index == 0 ? 5 : 7, page = index == 0 ? 13 : 15;
                    const uint64_t expected = !(flags & kMprv) || as == kMachine ? access
                                              : may(bits, as, flags, index > 0)  ? 0
                                                                                 : page;
                    g_assert_cmpuint(m.csr(kMcause), ==, expected);
                    if (as == kMachine)
                        continue;
                    // And that mode itself; its program is in a page of its own.
                    if (as == kUser)
                        m.put64(m.leaf + 8 * 5, pte(kRamBase, V | R | X | U | A | D));
                    m.set_csr(kMstatus, flags);
                    m.enter(as, (as == kUser ? kPage + 5 * 4096 : kCode) + 0x40 + 4 * index);
                    m.set_csr(kMcause, 0);
                    m.step();
                    g_assert_cmpuint(m.csr(kMcause), ==, may(bits, as, flags, index > 0) ? 0 : page);
                }
    }
}

void satp_takes_only_modes_that_exist() {
    HartFixture m;
    m.start({});
    m.set_csr(kSatp, 8ull << 60 | 5);
    m.set_csr(kSatp, 10ull << 60 | 7);
    g_assert_cmphex(m.csr(kSatp), ==, 8ull << 60 | 5);
}

// The debugger sees by the tables, too.
void debugger_reads_by_the_tables() {
    Paged m;
    m.put64(kData + 8, 0x1122334455667788);
    m.enter(kSupervisor, kCode);
    uint8_t bytes[8];
    g_assert_true(m.hart.read_memory(kPage + 8, bytes));
    g_assert_cmphex(bytes[0], ==, 0x88);
    g_assert_false(m.hart.read_memory(kPage + 0xffc, bytes));
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_data_func("/hart-paging/sv39-maps-a-page", GUINT_TO_POINTER(3), maps_a_page);
    g_test_add_data_func("/hart-paging/sv48-maps-a-page", GUINT_TO_POINTER(4), maps_a_page);
    g_test_add_func("/hart-paging/permissions-are-kept", permissions_are_kept);
    g_test_add_func("/hart-paging/accessed-and-dirty-are-set", accessed_and_dirty_are_set);
    g_test_add_func("/hart-paging/a-change-is-seen-after-sfence", a_change_is_seen_after_sfence);
    g_test_add_func("/hart-paging/large-pages-are-aligned", large_pages_are_aligned);
    g_test_add_func("/hart-paging/a-fence-within-a-large-page-forgets-it", a_fence_within_a_large_page);
    g_test_add_func("/hart-paging/odd-tables-fault", odd_tables_fault);
    g_test_add_func("/hart-paging/a-store-across-pages-is-done-as-a-whole-or-not", a_store_across_pages_is_whole);
    g_test_add_func("/hart-paging/an-instruction-across-pages", an_instruction_across_pages_faults_at_the_second);
    g_test_add_func("/hart-paging/mprv", machine_mode_looks_as_another);
    g_test_add_func("/hart-paging/data-is-seen-by-sum-mxr-and-mprv", data_is_seen_by_sum_mxr_and_mprv);
    g_test_add_func("/hart-paging/satp-takes-only-modes-that-exist", satp_takes_only_modes_that_exist);
    g_test_add_func("/hart-paging/the-debugger-reads-by-the-tables", debugger_reads_by_the_tables);
    return g_test_run();
}
