// A small kernel of the kind that is written in courses: no firmware, machine mode only for the timer, which it takes
// from mtimecmp and passes on as a software interrupt of supervisor mode; all of the memory open by one entry of PMP;
// Sv39 with a trampoline; processes that are interrupted, make calls and get their memory when they touch it; a disk of
// either version, by interrupts of the PLIC; several harts, with spin locks.
//
// Sector 0 of its disk says how many harts there are.
#define GUEST_IN_SUPERVISOR_MODE
#include "virtio.h"

enum { kPage = 4096, kMega = 2 << 20 };
enum { kValid = 1, kR = 2, kW = 4, kX = 8, kU = 16, kA = 64, kD = 128 };
#define kTrampoline ((1ull << 38) - kPage)
#define kFrame (kTrampoline - kPage)
#define kSv39 (8ull << 60)
#define kInterrupt (1ull << 63)
enum { kCall = 8, kFetchPage = 12, kLoadPage = 13, kStorePage = 15 };
enum { kInterval = kTicksPerSecond / 1000, kRounds = 2000 };

static void on_interrupt(unsigned cause) {
    fail("machine mode got an interrupt of cause ", cause);
}

// --- locks ---

static int lock, harts_done;
static volatile uint64_t counter;
static volatile unsigned ticks[kMaxHarts];

static void acquire(int* which) {
    while (__atomic_exchange_n(which, 1, __ATOMIC_ACQUIRE)) {
    }
}
static void release(int* which) {
    __atomic_store_n(which, 0, __ATOMIC_RELEASE);
}
static unsigned hart(void) {
    unsigned id;
    __asm__ volatile("mv %0, tp" : "=r"(id));
    return id;
}

// --- memory ---

static _Alignas(kPage) uint8_t pool[64][kPage];
static unsigned pages;

static void* allocate(void) {
    if (pages == sizeof pool / kPage)
        fail("no memory", 0);
    return pool[pages++];  // cleared at the start
}

typedef uint64_t* table;
static uint64_t* entry_of(table root, uint64_t address, int level) {
    for (int at = 2; at > level; --at) {
        uint64_t* entry = &root[address >> (12 + 9 * at) & 511];
        if (!(*entry & kValid))
            *entry = (uint64_t)allocate() >> 12 << 10 | kValid;
        root = (table)(*entry >> 10 << 12);
    }
    return &root[address >> (12 + 9 * level) & 511];
}
static void map(table root, uint64_t address, uint64_t to, uint64_t bytes, uint64_t flags) {
    const int level = bytes % kMega == 0 && address % kMega == 0 ? 1 : 0;
    const uint64_t step = level ? kMega : kPage;
    for (uint64_t at = 0; at < bytes; at += step)
        *entry_of(root, address + at, level) = (to + at) >> 12 << 10 | flags | kValid;
}
static uint64_t satp_of(table root) {
    return kSv39 | (uint64_t)root >> 12;
}
static void use(table root) {
    __asm__ volatile("sfence.vma\ncsrw satp, %0\nsfence.vma" ::"r"(satp_of(root)) : "memory");
}

// --- machine mode ---

static uint64_t timer_scratch[kMaxHarts][5];

void timer_vector(void);
__asm__(
    ".balign 4\n.globl timer_vector\n"
    "timer_vector:\n"
    "  csrrw a0, mscratch, a0\n"
    "  sd a1, 0(a0)\n  sd a2, 8(a0)\n  sd a3, 16(a0)\n"
    "  ld a1, 24(a0)\n  ld a2, 32(a0)\n"
    "  ld a3, 0(a1)\n  add a3, a3, a2\n  sd a3, 0(a1)\n"
    "  li a1, 2\n  csrw sip, a1\n"
    "  ld a3, 16(a0)\n  ld a2, 8(a0)\n  ld a1, 0(a0)\n"
    "  csrrw a0, mscratch, a0\n"
    "  mret\n");

// The rest of a hart's life is in supervisor mode, from `start` on.
__attribute__((noreturn)) static void leave_machine_mode(void (*start)(void)) {
    const uint64_t id = csr_read(mhartid);
    write32(kClint + 4 * id, 0);
    csr_clear(mstatus, 0x1800);
    csr_set(mstatus, 0x800);
    __asm__ volatile("csrw satp, zero\ncsrw mepc, %0" ::"r"(start));
    __asm__ volatile("csrw medeleg, %0\ncsrw mideleg, %0" ::"r"(0xffff));
    csr_set(sie, 1 << 9 | 1 << 5 | 1 << 1);
    __asm__ volatile("csrw pmpaddr0, %0\ncsrw pmpcfg0, %1" ::"r"(0x3fffffffffffffull), "r"(0xf));
    timer_scratch[id][3] = kClint + 0x4000 + 8 * id;
    timer_scratch[id][4] = kInterval;
    write64(kClint + 0x4000 + 8 * id, now() + kInterval);
    __asm__ volatile("csrw mscratch, %0\ncsrw mtvec, %1" ::"r"(timer_scratch[id]), "r"(timer_vector));
    // Below machine mode it is let in; before, it would overwrite mepc.
    __asm__ volatile("csrw mie, %0" ::"r"(csr_read(mie) | kMieTimer));
    __asm__ volatile("mv tp, %0\nmret" ::"r"(id));
    __builtin_unreachable();
}

// --- supervisor mode ---

static struct virtio disk;
static table kernel_table;

static void device_interrupt(void) {
    const uint32_t source = plic_claim();
    if (source == disk.source)
        virtio_interrupt(&disk);
    else if (source)
        fail("an interrupt of source ", source);
    if (source)
        plic_complete(source);
}
static bool handle_interrupt(uint64_t cause) {
    if (cause == (kInterrupt | 1)) {
        csr_clear(sip, 2);
        ++ticks[hart()];
    } else if (cause == (kInterrupt | 9)) {
        device_interrupt();
    } else {
        return false;
    }
    return true;
}
__attribute__((interrupt("supervisor"), aligned(4))) static void kernel_trap(void) {
    const uint64_t cause = csr_read(scause);
    if (!handle_interrupt(cause)) {
        put_line("stval ", csr_read(stval));
        fail("the kernel has trapped with cause ", cause);
    }
}

static void wait_for_ticks(unsigned count) {
    const unsigned before = ticks[hart()];
    while (ticks[hart()] - before < count)
        wait_for_interrupt();
}

// Every hart adds to the counter, interrupted by its timer.
static void count_up(void) {
    csr_set(sstatus, kInterruptEnable);
    for (unsigned i = 0; i < kRounds; ++i) {
        acquire(&lock);
        counter = counter + 1;
        release(&lock);
    }
    csr_clear(sstatus, kInterruptEnable);
    wait_for_ticks(2);
    __atomic_fetch_add(&harts_done, 1, __ATOMIC_RELEASE);
}

static void enter_paging(void) {
    __asm__ volatile("csrw stvec, %0" ::"r"(kernel_trap));
    use(kernel_table);
}
static void other_hart(void) {
    while (!__atomic_load_n(&kernel_table, __ATOMIC_ACQUIRE)) {
    }
    enter_paging();
    count_up();
    for (;;)
        wait_for_interrupt();
}
static void other_hart_in_machine_mode(void) {
    leave_machine_mode(other_hart);
}

// --- the disk ---

static _Alignas(kPage) struct rings rings;
static _Alignas(kPage) uint8_t block[kPage];

static void transfer(bool write, uint64_t sector) {
    static struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header;
    static volatile uint8_t status;
    header.type = write;
    header.sector = sector;
    status = 0xff;
    rings.descriptors[0] = (struct descriptor){(uint64_t)&header, sizeof header, kNext, 1};
    rings.descriptors[1] = (struct descriptor){(uint64_t)block, sizeof block, kNext | (write ? 0 : kWrite), 2};
    rings.descriptors[2] = (struct descriptor){(uint64_t)&status, 1, kWrite, 0};
    const uint16_t before = disk.made;
    virtio_make_available(&disk, 0);
    virtio_notify(&disk, 0, before);
    virtio_wait(&disk);
    virtio_take_used(&disk, 0);
    if (status != 0)
        fail("a transfer has status ", status);
}
// Returns how many harts there are.
static unsigned use_disk(void) {
    if (!virtio_find(&disk, 2))
        fail("there is no disk", 0);
    put_line("disk of version ", get(&disk, kVersion));
    // As course kernels do: only what is understood.
    virtio_begin(&disk, &rings, 0, kFeatureIndirect | kFeatureEventIndex | 0xffffff);
    transfer(false, 0);
    const unsigned harts = *(uint32_t*)block;
    for (unsigned pass = 0; pass < 3; ++pass)
        for (uint64_t sector = 8; sector < 128; sector += 8) {
            for (unsigned i = 0; i < kPage / 8; ++i)
                ((uint64_t*)block)[i] = (sector << 32 | i) * (pass + 1);
            transfer(true, sector);
            memset(block, 0, kPage);
            transfer(false, sector);
            for (unsigned i = 0; i < kPage / 8; ++i)
                if (((uint64_t*)block)[i] != (sector << 32 | i) * (pass + 1))
                    fail("wrong data in sector ", sector);
        }
    virtio_wait_for_interrupt(&disk);
    put("disk interrupts\n");
    return harts;
}

// --- user mode ---

// The registers of the process, by number, then what the kernel needs: at kFrame in the process's own table.
struct frame {
    uint64_t x[32];
    uint64_t stack, hart, handler, satp;
};
static struct frame* frame;
static table user_table;
static unsigned interruptions, faults;

#define EACH_REGISTER(op)                                                                                             \
    #op " x1, 8(a0)\n" #op " x2, 16(a0)\n" #op " x3, 24(a0)\n" #op " x4, 32(a0)\n" #op " x5, 40(a0)\n" #op            \
        " x6, 48(a0)\n" #op " x7, 56(a0)\n" #op " x8, 64(a0)\n" #op " x9, 72(a0)\n" #op " x11, 88(a0)\n" #op          \
        " x12, 96(a0)\n" #op " x13, 104(a0)\n" #op " x14, 112(a0)\n" #op " x15, 120(a0)\n" #op " x16, 128(a0)\n" #op  \
        " x17, 136(a0)\n" #op " x18, 144(a0)\n" #op " x19, 152(a0)\n" #op " x20, 160(a0)\n" #op " x21, 168(a0)\n" #op \
        " x22, 176(a0)\n" #op " x23, 184(a0)\n" #op " x24, 192(a0)\n" #op " x25, 200(a0)\n" #op " x26, 208(a0)\n" #op \
        " x27, 216(a0)\n" #op " x28, 224(a0)\n" #op " x29, 232(a0)\n" #op " x30, 240(a0)\n" #op " x31, 248(a0)\n"

extern char trampoline[], user_return[], program[];
__asm__(
    ".section .text.user, \"ax\"\n.balign 4096\n.globl trampoline\n.globl user_return\n"
    "trampoline:\n"
    "  csrw sscratch, a0\n"
    "  li a0, 0x3fffffe000\n" EACH_REGISTER(sd)
    "  csrr t0, sscratch\n"
    "  sd t0, 80(a0)\n"
    "  ld sp, 256(a0)\n  ld tp, 264(a0)\n  ld t0, 272(a0)\n  ld t1, 280(a0)\n"
    "  sfence.vma\n  csrw satp, t1\n  sfence.vma\n"
    "  jr t0\n"
    "user_return:\n"
    "  sfence.vma\n  csrw satp, a0\n  sfence.vma\n"
    "  li a0, 0x3fffffe000\n" EACH_REGISTER(ld)
    "  ld a0, 80(a0)\n"
    "  sret\n"
    // A process, at address 0: says something, touches memory that it has not got yet, computes until it has been
    // interrupted some times, writes where it may not, and ends.
    ".balign 4096\n.globl program\n"
    "program:\n"
    "  li a7, 1\n"
    "  lla a0, 9f\n"
    "  ecall\n"
    "  li s0, 0x10000\n"
    "  li s1, 8\n"
    "1: sd s1, 0(s0)\n"
    "  li t0, 4096\n"
    "  add s0, s0, t0\n"
    "  addi s1, s1, -1\n"
    "  bnez s1, 1b\n"
    "  li s0, 0x10000\n"
    "  li s1, 8\n"
    "  li s2, 0\n"
    "2: ld t1, 0(s0)\n"
    "  add s2, s2, t1\n"
    "  li t0, 4096\n"
    "  add s0, s0, t0\n"
    "  addi s1, s1, -1\n"
    "  bnez s1, 2b\n"
    "  li s3, 0\n"
    "3: addi s3, s3, 1\n"
    "  li t0, 10000\n"
    "  bltu s3, t0, 3b\n"
    "  li s3, 0\n"
    "  li a7, 2\n"
    "  ecall\n"
    "  li t0, 4\n"
    "  bltu a0, t0, 3b\n"
    "  mv a0, s2\n"
    "  li a7, 3\n"
    "  sd a0, 0(zero)\n"
    "  ecall\n"
    "9: .asciz \"hello from user mode\\n\"\n"
    ".balign 4096\n"
    "program_end:\n"
    ".text\n");

static void after_process(uint64_t result);
__attribute__((noreturn)) static void return_to_user(void) {
    __asm__ volatile("csrw stvec, %0" ::"r"(kTrampoline));
    csr_clear(sstatus, 1 << 8);
    csr_set(sstatus, 1 << 5);
    void (*back)(uint64_t) = (void (*)(uint64_t))(kTrampoline + (user_return - trampoline));
    back(satp_of(user_table));
    __builtin_unreachable();
}
// The text at an address of the process's.
static void put_from_user(uint64_t address) {
    for (;; ++address) {
        const uint64_t entry = *entry_of(user_table, address, 0);
        if (!(entry & kValid) || !(entry & kU))
            fail("a text that the process does not have", address);
        const char c = *(char*)((entry >> 10 << 12) + address % kPage);
        if (!c)
            return;
        put_char(c);
    }
}

static void user_trap(void) {
    __asm__ volatile("csrw stvec, %0" ::"r"(kernel_trap));
    const uint64_t cause = csr_read(scause), value = csr_read(stval);
    if (handle_interrupt(cause)) {
        interruptions += cause == (kInterrupt | 1);
    } else if (cause == kCall) {
        __asm__ volatile("csrw sepc, %0" ::"r"(csr_read(sepc) + 4));
        uint64_t* a0 = &frame->x[10];
        if (frame->x[17] == 1)
            put_from_user(*a0);
        else if (frame->x[17] == 2)
            *a0 = interruptions;
        else
            after_process(*a0);
    } else if ((cause == kStorePage || cause == kLoadPage) && value >= 0x10000 && value < 0x20000) {
        ++faults;
        map(user_table, value / kPage * kPage, (uint64_t)allocate(), kPage, kR | kW | kU);
    } else if (cause == kStorePage && value == 0) {
        put("it may not write to its code\n");
        __asm__ volatile("csrw sepc, %0" ::"r"(csr_read(sepc) + 4));
    } else {
        put_line("stval ", value);
        fail("the process has trapped with cause ", cause);
    }
    return_to_user();
}

static void run_process(void) {
    user_table = allocate();
    frame = allocate();
    map(user_table, kTrampoline, (uint64_t)trampoline, kPage, kR | kX);
    map(user_table, kFrame, (uint64_t)frame, kPage, kR | kW);
    map(user_table, 0, (uint64_t)program, kPage, kR | kX | kU);
    extern char stack_top[];
    frame->stack = (uint64_t)stack_top;
    frame->hart = hart();
    frame->handler = (uint64_t)user_trap;
    frame->satp = satp_of(kernel_table);
    __asm__ volatile("csrw sepc, zero");
    return_to_user();
}
static void after_process(uint64_t result) {
    put_line("the process returns ", result);
    put_line("page faults ", faults);
    uint64_t used = 0;
    for (unsigned i = 0; i < 8; ++i)
        used += (*entry_of(user_table, 0x10000 + i * kPage, 0) & (kA | kD)) == (kA | kD);
    put_line("pages accessed and dirty ", used);
    put("done\n");
    finish(0);
}

static void supervisor_main(void) {
    table root = allocate();
    map(root, kFinisher, kFinisher, kPage, kR | kW);
    map(root, kUart, kUart, kPage, kR | kW);
    map(root, kVirtio, kVirtio, kVirtioSlots * kPage, kR | kW);
    map(root, kPlic, kPlic, 2 * kMega, kR | kW);
    map(root, 0x80000000, 0x80000000, kMega, kR | kW | kX);
    map(root, kTrampoline, (uint64_t)trampoline, kPage, kR | kX);
    __atomic_store_n(&kernel_table, root, __ATOMIC_RELEASE);
    enter_paging();
    put("paging is on\n");
    wait_for_ticks(3);
    put("ticks\n");
    const unsigned harts = use_disk();
    count_up();
    while (__atomic_load_n(&harts_done, __ATOMIC_ACQUIRE) != (int)harts)
        wait_for_interrupt();
    put_line("harts ", harts);
    put_line("counted ", counter);
    run_process();
}

static void guest_main(void) {
    start_harts(other_hart_in_machine_mode);
    leave_machine_mode(supervisor_main);
}
