// Several harts beneath OpenSBI, in supervisor mode: they are started, stopped, started again and suspended; what one
// of them writes as code, or into the page tables, the others use after the fence that SBI makes them do, or their own.
// What it says must be the same on every machine with as many harts.
#define GUEST_UNDER_FIRMWARE
#include "virt.h"

enum { kPage = 4096, kMega = 2 << 20, kMaxRounds = 1 << 18 };
enum { kLives = 20, kCodeRounds = 240, kPageRounds = 270 };
enum { kValid = 1, kR = 2, kW = 4, kX = 8, kA = 64, kD = 128, kEverything = kValid | kR | kW | kX | kA | kD };
enum { kSsip = 2, kSie = 2, kLoadPage = 13 };
#define kSv39 (8ull << 60)

// --- SBI ---

enum { kInvalidParameter = -3, kInvalidAddress = -5, kAlreadyAvailable = -6 };
enum { kStarted = 0, kStopped = 1, kSuspended = 4 };
enum { kHsm = 0x48534d, kIpi = 0x735049, kRfence = 0x52464e43 };

// 256 times the value, or an error.
static int64_t sbi(uint64_t extension, uint64_t function, uint64_t arg0, uint64_t arg1, uint64_t arg2, uint64_t arg3) {
    register uint64_t a0 __asm__("a0") = arg0;
    register uint64_t a1 __asm__("a1") = arg1;
    register uint64_t a2 __asm__("a2") = arg2;
    register uint64_t a3 __asm__("a3") = arg3;
    register uint64_t a6 __asm__("a6") = function;
    register uint64_t a7 __asm__("a7") = extension;
    __asm__ volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a2), "r"(a3), "r"(a6), "r"(a7) : "memory");
    return a0 ? (int64_t)a0 : (int64_t)a1 << 8;
}
static void must_be(const char* what, int64_t got, int64_t expected) {
    if (got != expected) {
        put_line(what, (uint64_t)got);
        fail("expected was ", (uint64_t)expected);
    }
}
static int64_t start(uint64_t hart, void (*entry)(void), uint64_t argument) {
    return sbi(kHsm, 0, hart, (uint64_t)entry, argument, 0);
}
static int64_t state(uint64_t hart) {
    return sbi(kHsm, 2, hart, 0, 0, 0);
}
static void wait_for_state(uint64_t hart, int64_t wanted) {
    while (state(hart) != wanted << 8) {
    }
}
static void send_ipi(uint64_t hart) {
    must_be("send_ipi ", sbi(kIpi, 0, 1, hart, 0, 0), 0);
}

// --- harts ---

static unsigned harts;
static uint64_t boot_hart;
static uint64_t root[512] __attribute__((aligned(4096)));

static unsigned hart(void) {
    unsigned id;
    __asm__ volatile("mv %0, tp" : "=r"(id));
    return id;
}
static void use(uint64_t satp) {
    __asm__ volatile("csrw satp, %0\nsfence.vma" ::"r"(satp) : "memory");
}
static void use_paging(void) {
    use(kSv39 | (uint64_t)root >> 12);
}

// Each hart comes by here as often as all others have before any goes on.
static unsigned arrived, barriers[kMaxHarts];
static void barrier(void) {
    const unsigned all = ++barriers[hart()] * harts;
    __atomic_fetch_add(&arrived, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&arrived, __ATOMIC_ACQUIRE) < all) {
    }
}

// In supervisor mode with a0: its number, a1: what it was given; its stack is its own.
void enter_life(void);
void enter_work(void);
#define ENTRY(name, function)          \
    __asm__(".globl " #name "\n" #name \
            ":\n  mv tp, a0\n  la sp, stack_top\n  slli t0, a0, 13\n  sub sp, sp, t0\n  tail " #function "\n")
ENTRY(enter_life, life);
ENTRY(enter_work, work_of_other);

static volatile unsigned lives[kMaxHarts], resumed[kMaxHarts];

static void wait_for_ipi(void) {
    while (!(csr_read(sip) & kSsip))
        __asm__ volatile("wfi");
    csr_clear(sip, kSsip);
}

// One that was stopped while it had paging on, and interrupts in sight, begins without.
void life(uint64_t id, uint64_t argument) {
    if (argument != lives[id] + 1)
        fail("a hart was started with the argument ", argument);
    if (csr_read(satp) || csr_read(sstatus) & kSie)
        fail("a hart starts with satp ", csr_read(satp));
    if (argument % 2)
        use_paging();
    csr_set(sie, kSsip);
    __atomic_store_n(&lives[id], argument, __ATOMIC_RELEASE);
    wait_for_ipi();
    if (argument % 3 == 0) {
        // Suspended, it goes on where it was.
        if (sbi(kHsm, 3, 0, 0, 0, 0))
            fail("a hart cannot be suspended: ", id);
        wait_for_ipi();
        ++resumed[id];
    }
    sbi(kHsm, 1, 0, 0, 0, 0);
    fail("a hart that was stopped goes on: ", id);
}

static void live_and_live_again(void) {
    for (unsigned round = 1; round <= kLives; ++round)
        for (uint64_t id = 0; id < harts; ++id) {
            if (id == boot_hart)
                continue;
            must_be("its state ", state(id), kStopped << 8);
            const unsigned number = lives[id] + 1;
            must_be("hart_start ", start(id, enter_life, number), 0);
            while (__atomic_load_n(&lives[id], __ATOMIC_ACQUIRE) != number) {
            }
            must_be("its state ", state(id), kStarted << 8);
            must_be("hart_start of one that runs ", start(id, enter_life, 0), kAlreadyAvailable);
            send_ipi(id);
            if (number % 3 == 0) {
                wait_for_state(id, kSuspended);
                send_ipi(id);
            }
            wait_for_state(id, kStopped);
            must_be("resumed ", resumed[id], number / 3);
        }
    must_be("hart_start of none ", start(kMaxHarts + 1, enter_life, 0), kInvalidParameter);
    must_be("hart_start in the firmware ", start((boot_hart + 1) % harts, (void (*)(void))0x80000000, 0),
            kInvalidAddress);
    put_line("lives of each other hart: ", kLives);
    put_line("resumed each: ", kLives / 3);
}

// --- work in rounds, of all harts ---

static unsigned published;

static void publish(unsigned round) {
    __atomic_store_n(&published, round, __ATOMIC_RELEASE);
}
static void wait_for_round(unsigned round) {
    while (__atomic_load_n(&published, __ATOMIC_ACQUIRE) != round) {
    }
}

// lui a0, value; ret
static void write_code(uint8_t* where, unsigned value) {
    const uint32_t words[2] = {value << 12 | 10 << 7 | 0x37, 0x8067};
    for (unsigned i = 0; i < 4; ++i)
        *(volatile uint16_t*)(where + 2 * i) = (uint16_t)(words[i / 2] >> 16 * (i % 2));
}
static unsigned run_code(uint64_t where) {
    return (unsigned)(((uint64_t (*)(void))where)() >> 12);
}

// Within a page, each instruction across two pages, and where there is data as well.
static uint8_t code[3 * kPage] __attribute__((aligned(4096)));
static const unsigned places[] = {0, kPage - 2, 2 * kPage - 6, 2 * kPage + 2048, kPage + 100};

static void fence_code(void) {
    for (unsigned round = 1; round <= kCodeRounds; ++round) {
        uint8_t* where = code + places[round % (sizeof places / sizeof places[0])];
        const bool remote = round / 5 % 2;
        if (hart() == round % harts) {
            write_code(where, round);
            __asm__ volatile("fence.i" ::: "memory");
            if (remote)
                must_be("remote_fence_i ", sbi(kRfence, 0, (1u << harts) - 1, 0, 0, 0), 0);
            publish(round);
        } else {
            wait_for_round(round);
            if (!remote)
                __asm__ volatile("fence.i" ::: "memory");
        }
        const unsigned got = run_code((uint64_t)where);
        if (got != round) {
            put_line("code of round ", got);
            fail("is run in round ", round);
        }
        barrier();
    }
}

// Pages that are mapped to one of two frames, or not at all; the last one is large. Each frame has its number, and code
// that returns it.
enum { kPages = 9, kLarge = kPages - 1, kUnmapped = 0xfff };
#define kWindow (4ull << 30)
#define kLargeFrames 0x82000000ull
static uint8_t frames[2][kLarge][kPage] __attribute__((aligned(4096)));
static uint64_t middle[512] __attribute__((aligned(4096))), last[512] __attribute__((aligned(4096)));
static volatile unsigned mapped[kPages];
static volatile uint64_t faults[kMaxHarts], fault_address[kMaxHarts];

static uint8_t* frame_of(unsigned number, unsigned page) {
    return page == kLarge ? (uint8_t*)(kLargeFrames + number * kMega) : frames[number][page];
}
static uint64_t address_of(unsigned page) {
    return page == kLarge ? kWindow + kMega : kWindow + page * kPage;
}
static void map(unsigned page, unsigned number) {
    uint64_t* entry = page == kLarge ? &middle[1] : &last[page];
    const uint64_t value = number == kUnmapped ? 0 : (uint64_t)frame_of(number, page) >> 12 << 10 | kEverything;
    *(volatile uint64_t*)entry = value;
    mapped[page] = number;
}
static void set_up_paging(void) {
    root[0] = kEverything;
    root[2] = 0x80000000ull >> 12 << 10 | kEverything;
    root[4] = (uint64_t)middle >> 12 << 10 | kValid;
    middle[0] = (uint64_t)last >> 12 << 10 | kValid;
    for (unsigned number = 0; number < 2; ++number)
        for (unsigned page = 0; page < kPages; ++page) {
            uint64_t* words = (uint64_t*)frame_of(number, page);
            words[0] = number * kPages + page;
            write_code((uint8_t*)&words[2], number * kPages + page);
        }
    for (unsigned page = 0; page < kPages; ++page)
        map(page, 0);
}

__attribute__((interrupt("supervisor"), aligned(4))) static void on_trap(void) {
    if (csr_read(scause) != kLoadPage)
        fail("a trap of cause ", csr_read(scause));
    ++faults[hart()];
    fault_address[hart()] = csr_read(stval);
    __asm__ volatile("csrw sepc, %0" ::"r"(csr_read(sepc) + 4));
}
static void use_page(unsigned page, unsigned round) {
    const uint64_t address = address_of(page), before = faults[hart()];
    uint64_t value;
    __asm__ volatile(".option push\n.option norvc\nld %0, 0(%1)\n.option pop" : "=&r"(value) : "r"(address) : "memory");
    const bool faulted = faults[hart()] != before;
    if (mapped[page] == kUnmapped) {
        if (!faulted || fault_address[hart()] != address)
            fail("a page is there that was taken away in round ", round);
        return;
    }
    const unsigned expected = mapped[page] * kPages + page;
    if (faulted || value != expected || run_code(address + 16) != expected) {
        put_line("frame ", value);
        fail("is seen in round ", round);
    }
}

static void fence_pages(void) {
    __asm__ volatile("csrw stvec, %0\nfence.i" ::"r"(on_trap) : "memory");
    use_paging();
    for (unsigned round = 1; round <= kPageRounds; ++round) {
        const unsigned page = round % kPages;
        use_page(page, round);
        barrier();
        // By an address, by all addresses, or each hart by itself.
        const unsigned how = round % 4;
        if (hart() == round % harts) {
            const unsigned was = mapped[page];
            map(page, was == 1 ? kUnmapped : was == 0);
            __asm__ volatile("sfence.vma" ::: "memory");
            if (how < 2)
                must_be("remote_sfence_vma ",
                        sbi(kRfence, 1, (1u << harts) - 1, 0, how ? 0 : address_of(page), how ? ~0ull : kPage), 0);
            publish(kMaxRounds + round);
        } else {
            wait_for_round(kMaxRounds + round);
            if (how == 2)
                __asm__ volatile("sfence.vma %0, zero" ::"r"(address_of(page)) : "memory");
            else if (how == 3)
                __asm__ volatile("sfence.vma" ::: "memory");
        }
        use_page(page, round);
        barrier();
    }
}

static void work(void) {
    fence_code();
    fence_pages();
}
void work_of_other(void) {
    work();
    for (;;)
        __asm__ volatile("wfi");
}

static void guest_main(void) {
    boot_hart = hart();
    while (state(harts) >= 0)
        ++harts;
    put_line("harts ", harts);
    set_up_paging();
    live_and_live_again();
    for (uint64_t id = 0; id < harts; ++id)
        if (id != boot_hart)
            must_be("hart_start ", start(id, enter_work, 0), 0);
    work();
    put_line("fences of code: ", kCodeRounds);
    put_line("fences of pages: ", kPageRounds);
    put_line("faults of each hart: ", faults[boot_hart]);
    put("done\n");
}
