// A program in machine mode that needs nothing of the firmware's: it probes for CSRs, takes traps within traps and by
// vectors, waits for mtimecmp and msip, and has user mode beneath it, behind the entries of PMP. What it says must be
// the same on every machine that has the hart of docs/machine.md.
#include "virt.h"

enum { kFetchFault = 1, kIllegal = 2, kLoadFault = 5, kStoreFault = 7, kEcallUser = 8, kEcallMachine = 11 };
enum { kRead = 1, kWrite = 2, kExecute = 4, kTor = 1 << 3, kNa4 = 2 << 3, kNapot = 3 << 3, kLocked = 0x80 };
#define kInterrupt (1ull << 63)

static void on_interrupt(unsigned cause) {
    fail("the trap handler of virt.h got an interrupt of cause ", cause);
}

static void put_hex(uint64_t value) {
    put("0x");
    int shift = 60;
    while (shift > 0 && !(value >> shift & 15))
        shift -= 4;
    for (; shift >= 0; shift -= 4)
        put_char("0123456789abcdef"[value >> shift & 15]);
}
static void put_hex_line(const char* text, uint64_t value) {
    put(text);
    put_hex(value);
    put_char('\n');
}

// --- traps ---

// A trap in machine mode calls on_trap() with the interrupted sp; one in user mode makes run_user() return.
uint64_t run_user(uint64_t pc, uint64_t sp, uint64_t argument);
void trap_entry(void);
void trap_table(void);
uint64_t user_result;              // a0 of user mode when it trapped
volatile uint64_t vector_reached;  // the interrupt's number by the table's entry; 99: the first one

#define EACH_TEMPORARY(op)                                                                                    \
    #op " ra, 0(sp)\n" #op " t0, 8(sp)\n" #op " t1, 16(sp)\n" #op " t2, 24(sp)\n" #op " a0, 32(sp)\n" #op     \
        " a1, 40(sp)\n" #op " a2, 48(sp)\n" #op " a3, 56(sp)\n" #op " a4, 64(sp)\n" #op " a5, 72(sp)\n" #op   \
        " a6, 80(sp)\n" #op " a7, 88(sp)\n" #op " t3, 96(sp)\n" #op " t4, 104(sp)\n" #op " t5, 112(sp)\n" #op \
        " t6, 120(sp)\n"
#define EACH_SAVED(op)                                                                                      \
    #op " ra, 0(sp)\n" #op " s0, 8(sp)\n" #op " s1, 16(sp)\n" #op " s2, 24(sp)\n" #op " s3, 32(sp)\n" #op   \
        " s4, 40(sp)\n" #op " s5, 48(sp)\n" #op " s6, 56(sp)\n" #op " s7, 64(sp)\n" #op " s8, 72(sp)\n" #op \
        " s9, 80(sp)\n" #op " s10, 88(sp)\n" #op " s11, 96(sp)\n"
#define VECTOR(number) "  j vector_" #number "\n"
#define VECTORED(number)                                                     \
    "vector_" #number ": sd t0, -8(sp)\n  sd t1, -16(sp)\n  li t0, " #number \
    "\n  la t1, vector_reached\n  sd t0, 0(t1)\n  ld t1, -16(sp)\n  ld t0, -8(sp)\n  j trap_entry\n"

__asm__(
    ".text\n.globl run_user\n.globl trap_entry\n.globl trap_table\n"
    "run_user:\n"
    "  addi sp, sp, -112\n" EACH_SAVED(sd)
    "  csrw mscratch, sp\n"
    "  csrw mepc, a0\n"
    "  li t0, 0x1800\n"
    "  csrc mstatus, t0\n"
    "  mv sp, a1\n"
    "  mv a0, a2\n"
    "  mret\n"
    ".balign 4\n"
    "trap_entry:\n"
    "  csrrw sp, mscratch, sp\n"
    "  bnez sp, 1f\n"
    "  csrrw sp, mscratch, sp\n"  // in machine mode: mscratch is zero
    "  addi sp, sp, -128\n" EACH_TEMPORARY(sd)
    "  call on_trap\n" EACH_TEMPORARY(ld)
    "  addi sp, sp, 128\n"
    "  mret\n"
    "1: la t0, user_result\n"
    "  sd a0, 0(t0)\n"
    "  csrw mscratch, zero\n" EACH_SAVED(ld)
    "  addi sp, sp, 112\n"
    "  csrr a0, mcause\n"
    "  ret\n"
    ".balign 256\n"
    "trap_table:\n"
    "  .option push\n  .option norvc\n" VECTOR(99) VECTOR(1) VECTOR(2) VECTOR(3) VECTOR(4) VECTOR(5) VECTOR(6) VECTOR(7)
    VECTOR(8) VECTOR(9) VECTOR(10) VECTOR(11)
    "  .option pop\n" VECTORED(99) VECTORED(1) VECTORED(2) VECTORED(3) VECTORED(4) VECTORED(5) VECTORED(6) VECTORED(7)
    VECTORED(8) VECTORED(9) VECTORED(10) VECTORED(11));

// What on_trap() does, and has seen.
static volatile uint64_t last_cause, last_value, last_pc;
static volatile unsigned traps, timer_interrupts, software_interrupts, depth, deepest;
static volatile bool nests;            // within the timer's interrupt
static volatile uint64_t where_to_go;  // after a fetch that failed

void on_trap(void) {
    const uint64_t cause = csr_read(mcause), pc = csr_read(mepc), status = csr_read(mstatus);
    last_cause = cause;
    last_value = csr_read(mtval);
    last_pc = pc;
    ++traps;
    if (++depth > deepest)
        deepest = depth;
    if (cause == (kInterrupt | 7)) {
        ++timer_interrupts;
        set_timer(~0ull);
        if (nests) {
            // The software interrupt comes within this one, and an ecall within that.
            write32(kClint, 1);
            csr_set(mstatus, kMstatusMie);
            while (software_interrupts == 0) {
            }
            csr_clear(mstatus, kMstatusMie);
        }
    } else if (cause == (kInterrupt | 3)) {
        write32(kClint, 0);
        if (nests)
            __asm__ volatile("ecall");
        ++software_interrupts;
    } else if (cause >> 63) {
        fail("an interrupt of cause ", cause & 0xff);
    } else if (cause == kFetchFault) {
        __asm__ volatile("csrw mepc, %0" ::"r"(where_to_go));
        --depth;
        return;
    } else {
        // Behind the instruction, be it of two bytes or of four.
        __asm__ volatile("csrw mepc, %0" ::"r"(pc + ((*(volatile uint16_t*)pc & 3) == 3 ? 4 : 2)));
        --depth;
        return;
    }
    __asm__ volatile("csrw mepc, %0\ncsrw mstatus, %1" ::"r"(pc), "r"(status));
    --depth;
}

// Whether `access` traps; last_cause is then why.
#define traps_at(access)                \
    ({                                  \
        const unsigned before_ = traps; \
        access;                         \
        traps != before_;               \
    })

// --- CSRs ---

static uint32_t stub[4];

// csrrs a0, number, x0; what it reads.
static uint64_t read_any_csr(unsigned number) {
    stub[0] = number << 20 | 2 << 12 | 10 << 7 | 0x73;
    stub[1] = 0x00008067;
    __asm__ volatile("fence.i" ::: "memory");
    return ((uint64_t (*)(void))stub)();
}

static void probe(void) {
    unsigned there = 0;
    put("CSRs:");
    for (unsigned number = 0; number < 4096; ++number) {
        // Counters of events, what belongs to a hypervisor and triggers may be there, or not.
        if ((number & 0x1f) >= 3 && (number - 0xb00 < 0x20 || number - 0xc00 < 0x20 || number - 0x320 < 0x20))
            continue;
        if ((number & 0xf00) == 0x200 || number - 0x7a0 < 0x10)
            continue;
        if (traps_at(read_any_csr(number))) {
            if (last_cause != kIllegal || last_value != stub[0] || last_pc != (uint64_t)stub)
                fail("reading a CSR traps with cause ", last_cause);
            continue;
        }
        ++there;
        put_char(' ');
        put_hex(number);
    }
    put_line("\nof them there are ", there);
    // What is read-only, and what is no instruction.
    if (!traps_at(__asm__ volatile("csrw 0xf14, zero")) || last_cause != kIllegal)
        fail("mhartid can be written", 0);
    if (!traps_at(__asm__ volatile(".word 0xffffffff")) || last_cause != kIllegal || last_value != 0xffffffff)
        fail("all ones: mtval ", last_value);
    if (!traps_at(__asm__ volatile(".hword 0\n.hword 0")) || last_cause != kIllegal)
        fail("all zeroes are an instruction", 0);
}

// --- interrupts ---

static void wait_by_vectors(void) {
    csr_set(mie, kMieTimer | 1 << 3);
    set_timer(now() + 1000);
    while (timer_interrupts < 1)
        wait_for_interrupt();
}

static void check_interrupts(void) {
    __asm__ volatile("csrw mtvec, %0" ::"r"(trap_entry));
    set_timer(~0ull);
    wait_by_vectors();
    put("mtimecmp ok\n");

    // Both at once: the software interrupt first; by the table.
    __asm__ volatile("csrw mtvec, %0" ::"r"((uint64_t)trap_table | 1));
    put_line("mtvec keeps its mode: ", csr_read(mtvec) & 3);
    write32(kClint, 1);
    set_timer(0);
    const uint64_t both = csr_read(mip);
    put_hex_line("mip ", both);
    if (traps_at(csr_set(mstatus, kMstatusMie)))
        put_line("the last vector ", vector_reached);
    csr_clear(mstatus, kMstatusMie);
    put_line("software interrupts ", software_interrupts);
    __asm__ volatile("ecall");
    put_line("an exception goes to ", vector_reached);
    put_line("cause ", last_cause);

    // An interrupt that is not let through ends WFI.
    set_timer(now() + 1000);
    while (!(csr_read(mip) & kMieTimer))
        __asm__ volatile("wfi");
    set_timer(~0ull);
    put("wfi ok\n");

    // Four traps, one within the other.
    deepest = software_interrupts = timer_interrupts = 0;
    nests = true;
    wait_by_vectors();
    nests = false;
    put_line("traps within each other: ", deepest);
    __asm__ volatile("csrw mtvec, %0" ::"r"(trap_entry));

    // mtime as two halves, and as a whole.
    const uint64_t low = read32(kClint + 0xbff8), high = read32(kClint + 0xbffc), whole = now();
    put_line("time goes on: ", whole - (high << 32 | low) < kTicksPerSecond && csr_read(time) >= whole);
    write32(kClint + 0x4000, 0xffffffff);
    write32(kClint + 0x4004, 0x7fffffff);
    put_hex_line("mtimecmp ", read64(kClint + 0x4000));
    set_timer(~0ull);
}

// --- PMP ---

enum { kArena = 64 << 10 };
static _Alignas(kArena) uint8_t arena[kArena];
static _Alignas(4096) uint64_t user_stack[512];

// What user mode runs; its address is all that counts.
#define USER(name, text) \
    void name(void);     \
    __asm__(".section .text.user, \"ax\"\n.balign 4\n.globl " #name "\n" #name ":\n" text "  ecall\n  j .\n.text\n")
USER(user_load, "  ld a0, 0(a0)\n");
USER(user_load_byte, "  lbu a0, 0(a0)\n");
USER(user_store, "  sd a0, 0(a0)\n");
USER(user_jump, "  jr a0\n");
USER(user_time, "  rdtime a0\n  li a0, 1\n");
USER(user_wfi, "  wfi\n");
USER(user_csr, "  csrr a0, mstatus\n");
USER(user_spin, "1: j 1b\n");

static uint64_t with_byte(uint64_t value, unsigned at, uint8_t byte) {
    return (value & ~(0xffull << 8 * at)) | (uint64_t)byte << 8 * at;
}
static void set_config(unsigned entry, uint8_t config) {
    if (entry < 8)
        __asm__ volatile("csrw pmpcfg0, %0\nsfence.vma" ::"r"(with_byte(csr_read(pmpcfg0), entry, config)) : "memory");
    else
        __asm__ volatile("csrw pmpcfg2, %0\nsfence.vma" ::"r"(with_byte(csr_read(pmpcfg2), entry - 8, config))
                         : "memory");
}
#define set_entry(entry, config, address)                                          \
    ({                                                                             \
        __asm__ volatile("csrw pmpaddr" #entry ", %0" ::"r"((uint64_t)(address))); \
        set_config(entry, config);                                                 \
    })
#define napot(address, bytes) ((uint64_t)(address) >> 2 | ((bytes) / 8 - 1))

static void user(const char* what, void (*code)(void), uint64_t argument) {
    const uint64_t cause = run_user((uint64_t)code, (uint64_t)&user_stack[512], argument);
    put(what);
    if (cause == kEcallUser)
        put_hex_line(": returns ", user_result);
    else if (cause >> 63)
        put_line(": interrupt ", cause & 0xff);
    else {
        put_line(": cause ", cause);
        const uint64_t value = csr_read(mtval);
        if (cause == kLoadFault || cause == kStoreFault || cause == kFetchFault)
            put_line("  at what it accessed: ", value == (cause == kFetchFault ? csr_read(mepc) : argument));
    }
}
// Machine mode in a region that is locked.
static void machine(const char* what, bool trapped, uint64_t address) {
    put(what);
    if (trapped) {
        put_line(": cause ", last_cause);
        put_line("  at what it accessed: ", last_value == address);
    } else {
        put(": ok\n");
    }
}

static void check_protection(void) {
    const uint64_t a = (uint64_t)arena;
    for (unsigned i = 0; i < kArena / 8; ++i)
        ((uint64_t*)arena)[i] = 0x1111111111111111u * (i % 8);
    set_entry(8, kNa4 | kRead, 0);  // without any, QEMU has no user mode
    user("no entry: fetch", user_load, a);

    // Code may be run, the first 32 KiB of the arena read, its second 4 KiB written as well: the first entry decides.
    extern char user_start[], user_end[];
    set_entry(0, 0, (uint64_t)user_start >> 2);
    set_entry(1, kTor | kRead | kExecute, (uint64_t)user_end >> 2);
    user("no entry: load", user_load, a + 8);
    set_entry(2, kNapot | kRead | kWrite, napot(a + 4096, 4096));
    set_entry(3, kNapot | kRead, napot(a, 32 << 10));
    user("napot: load", user_load, a + 8);
    user("napot: store", user_store, a + 8);
    user("napot above: store", user_store, a + 4096);
    user("napot above: its last word", user_store, a + 8192 - 8);
    user("napot above: behind it", user_store, a + 8192);
    user("napot: across its lower end", user_load, a + 4096 - 4);
    user("napot: its end", user_load, a + (32 << 10) - 8);
    user("napot: across its end", user_load_byte, a + (32 << 10));
    user("napot: jump", user_jump, a);
    user("text: store", user_store, (uint64_t)user_load);

    // Four bytes.
    set_entry(4, kNa4 | kRead, (a + (40 << 10)) >> 2);
    user("na4: byte", user_load_byte, a + (40 << 10) + 3);
    user("na4: behind it", user_load_byte, a + (40 << 10) + 4);
    user("na4: double word", user_load, a + (40 << 10));

    // From one address to the next; nothing if the first is not the smaller.
    set_entry(5, 0, (a + (48 << 10) + 8) >> 2);
    set_entry(6, kTor | kRead | kWrite, (a + (48 << 10) + 24) >> 2);
    user("tor: before it", user_load, a + (48 << 10));
    user("tor: its first", user_store, a + (48 << 10) + 8);
    user("tor: its last", user_store, a + (48 << 10) + 16);
    user("tor: behind it", user_store, a + (48 << 10) + 24);
    set_entry(6, kTor | kRead | kWrite, (a + (48 << 10)) >> 2);
    user("tor, empty", user_load, a + (48 << 10) + 8);

    // Execution of what was written.
    ((uint32_t*)arena)[1024] = 0x02a00513;  // li a0, 42
    ((uint32_t*)arena)[1025] = 0x00000073;  // ecall
    __asm__ volatile("fence.i" ::: "memory");
    user("no execution", user_jump, a + 4096);
    set_config(2, kNapot | kRead | kExecute);
    user("execution", user_jump, a + 4096);

    // Machine mode as user mode.
    csr_clear(mstatus, 0x1800);
    machine("mprv: load",
            traps_at(__asm__ volatile("csrs mstatus, %0\nlb t0, 0(%1)\ncsrc mstatus, %0" ::"r"(1 << 17),
                                      "r"(a + (56 << 10)) : "t0", "memory")),
            a + (56 << 10));

    // What is not for user mode.
    user("rdtime", user_time, 0);
    __asm__ volatile("csrw mcounteren, 2");
    user("rdtime, allowed", user_time, 0);
    user("a CSR of machine mode", user_csr, 0);
    // The timer ends what never ends.
    set_timer(now() + 10000);
    user("spin", user_spin, 0);
    set_timer(~0ull);

    // Locked: for machine mode as well, until it is reset.
    set_entry(7, kNapot | kRead | kLocked, napot(a + (60 << 10), 4096));
    machine("locked: load", traps_at(*(volatile uint64_t*)(a + (60 << 10))), 0);
    machine("locked: store", traps_at(*(volatile uint64_t*)(a + (60 << 10) + 8) = 1), a + (60 << 10) + 8);
    where_to_go = 0;
    __asm__ volatile("la t0, 1f\n sd t0, 0(%1)\n jr %0\n 1:" ::"r"(a + (60 << 10)), "r"(&where_to_go) : "t0", "memory");
    machine("locked: fetch", last_cause == kFetchFault, a + (60 << 10));
    set_entry(7, kNapot | kRead | kWrite | kExecute, napot(a, 4096));
    put_hex_line("a locked entry keeps ", csr_read(pmpcfg0) >> 56);
    put_line("and its address ", csr_read(pmpaddr7) == napot(a + (60 << 10), 4096));
    put_hex_line("the other entries have ", csr_read(pmpcfg2));
}

static void guest_main(void) {
    __asm__ volatile("csrw mscratch, zero\ncsrw mtvec, %0" ::"r"(trap_entry));
    probe();
    check_interrupts();
    check_protection();
    put("done\n");
}
