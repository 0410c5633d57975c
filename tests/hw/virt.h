// The machine `virt` for programs that run on it without anything else: its devices, its interrupts and its end.
//
// Such a program is one C file, compiled with -ffreestanding -nostdlib -T virt.ld; it runs in machine mode on hart 0
// from guest_main(), and reports on the UART. The other harts sleep until start_harts(). With GUEST_IN_SUPERVISOR_MODE
// the functions for the PLIC and for waiting are those of supervisor mode. With GUEST_UNDER_FIRMWARE it is a kernel for
// OpenSBI, in supervisor mode from the start, on any one hart, whose number is in tp; its traps are its own business.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    kFinisher = 0x100000,
    kClint = 0x2000000,
    kPlic = 0xc000000,
    kUart = 0x10000000,
    kVirtio = 0x10001000,
    kVirtioSlots = 8,
    kMaxHarts = 8,
};
enum { kTicksPerSecond = 10000000 };

static inline uint32_t read32(uint64_t address) {
    return *(volatile uint32_t*)address;
}
static inline void write32(uint64_t address, uint32_t value) {
    *(volatile uint32_t*)address = value;
}
static inline uint64_t read64(uint64_t address) {
    return *(volatile uint64_t*)address;
}
static inline void write64(uint64_t address, uint64_t value) {
    *(volatile uint64_t*)address = value;
}
static inline void fence(void) {
    __asm__ volatile("fence iorw, iorw" ::: "memory");
}

#define csr_set(csr, bits) __asm__ volatile("csrs " #csr ", %0" ::"r"((uint64_t)(bits)) : "memory")
#define csr_clear(csr, bits) __asm__ volatile("csrc " #csr ", %0" ::"r"((uint64_t)(bits)) : "memory")
#define csr_read(csr)                                      \
    ({                                                     \
        uint64_t value_;                                   \
        __asm__ volatile("csrr %0, " #csr : "=r"(value_)); \
        value_;                                            \
    })

enum { kMstatusMie = 8, kMieTimer = 1 << 7, kMieExternal = 1 << 11 };

// --- the UART ---

static void put_char(char c) {
    while (!(*(volatile uint8_t*)(kUart + 5) & 0x20)) {
    }
    *(volatile uint8_t*)kUart = (uint8_t)c;
}
static void put(const char* text) {
    for (; *text; ++text)
        put_char(*text);
}
static void put_number(uint64_t value) {
    char digits[24];
    int n = 0;
    do
        digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    while (n > 0)
        put_char(digits[--n]);
}
static void put_line(const char* text, uint64_t value) {
    put(text);
    put_number(value);
    put_char('\n');
}

// --- the end ---

static void wait_for_sending(void) {
    while (!(*(volatile uint8_t*)(kUart + 5) & 0x40)) {
    }
}
__attribute__((noreturn)) static void finish(unsigned status) {
    wait_for_sending();
    write32(kFinisher, status ? status << 16 | 0x3333 : 0x5555);
    for (;;)
        __asm__ volatile("wfi");
}
__attribute__((noreturn)) static void fail(const char* what, uint64_t value) {
    put("FAILED: ");
    put_line(what, value);
    finish(1);
}

// --- time ---

static uint64_t now(void) {
    return read64(kClint + 0xbff8);
}
static void set_timer(uint64_t when) {
    write64(kClint + 0x4000, when);
}

// --- interrupts: of hart 0 in machine mode ---

#ifdef GUEST_UNDER_FIRMWARE
#define GUEST_IN_SUPERVISOR_MODE
#endif
#ifdef GUEST_IN_SUPERVISOR_MODE
enum { kPlicContext = 1 };
#define status_csr sstatus
enum { kInterruptEnable = 2 };
#else
enum { kPlicContext = 0 };
#define status_csr mstatus
enum { kInterruptEnable = kMstatusMie };
#endif
enum { kPlicEnabled = kPlic + 0x2000 + 0x80 * kPlicContext, kPlicClaims = kPlic + 0x200000 + 0x1000 * kPlicContext };

static void plic_enable(unsigned source) {
    write32(kPlic + 4 * source, 1);
    write32(kPlicEnabled + 4 * (source / 32), read32(kPlicEnabled + 4 * (source / 32)) | 1u << source % 32);
    write32(kPlicClaims, 0);
}
static uint32_t plic_claim(void) {
    return read32(kPlicClaims + 4);
}
static void plic_complete(uint32_t source) {
    write32(kPlicClaims + 4, source);
}

// Sleeps for an interrupt, and lets it in. Interrupts are off before and after.
#define set_in(csr, bits) csr_set(csr, bits)
#define clear_in(csr, bits) csr_clear(csr, bits)
static void wait_for_interrupt(void) {
    __asm__ volatile("wfi");
    set_in(status_csr, kInterruptEnable);
    clear_in(status_csr, kInterruptEnable);
}

// The UART interrupts when there is something to take.
enum { kUartSource = 10 };
static inline void uart_enable(void) {
    plic_enable(kUartSource);
    *(volatile uint8_t*)(kUart + 1) = 1;
}
static inline bool uart_take(void) {
    if (!(*(volatile uint8_t*)(kUart + 5) & 1))
        return false;
    (void)*(volatile uint8_t*)kUart;
    return true;
}

static void guest_main(void);

#ifdef GUEST_UNDER_FIRMWARE

__asm__(
    ".section .text.start\n"
    ".globl _start\n"
    "_start:\n"
    "  mv tp, a0\n"
    "  la sp, stack_top\n"
    "  slli t0, a0, 13\n"
    "  sub sp, sp, t0\n"
    "  la t0, bss_start\n"
    "  la t1, bss_end\n"
    "1: bgeu t0, t1, 2f\n"
    "  sd zero, 0(t0)\n"
    "  addi t0, t0, 8\n"
    "  j 1b\n"
    "2: tail c_entry\n"
    ".text\n");

void c_entry(void) {
    guest_main();
    finish(0);
}

#else

// What the program does about an interrupt (mcause); other traps are the end.
static void on_interrupt(unsigned cause);

__attribute__((interrupt("machine"), aligned(4))) static void trap(void) {
    const uint64_t cause = csr_read(mcause);
    if (!(cause >> 63))
        fail("a trap with mcause ", cause);
    on_interrupt((unsigned)(cause & 0xff));
}

// What the other harts run, in machine mode, each on 8 KiB of the stack.
void (*volatile hart_main)(void);
static inline void start_harts(void (*what)(void)) {
    hart_main = what;
    fence();
    for (unsigned hart = 1; hart < kMaxHarts; ++hart)
        write32(kClint + 4 * hart, 1);
}

static void c_start(void) {
    __asm__ volatile("csrw mtvec, %0" ::"r"(trap));
    guest_main();
    finish(0);
}

__asm__(
    ".section .text.start\n"
    ".globl _start\n"
    "_start:\n"
    "  csrr t0, mhartid\n"
    "1: bnez t0, 2f\n"
    "  la sp, stack_top\n"
    "  la t0, bss_start\n"
    "  la t1, bss_end\n"
    "3: bgeu t0, t1, 4f\n"
    "  sd zero, 0(t0)\n"
    "  addi t0, t0, 8\n"
    "  j 3b\n"
    "4: tail c_entry\n"
    "2: csrwi mie, 8\n"  // the software interrupt
    "5: wfi\n"
    "  csrr t1, mip\n"
    "  andi t1, t1, 8\n"
    "  beqz t1, 5b\n"
    "  la sp, stack_top\n"
    "  slli t1, t0, 13\n"
    "  sub sp, sp, t1\n"
    "  la t1, hart_main\n"
    "  ld t1, 0(t1)\n"
    "  jr t1\n"
    ".text\n");

void c_entry(void) {
    c_start();
}

#endif

// The compiler may call these.
void* memset(void* to, int value, size_t n) {
    for (uint8_t* byte = to; n > 0; --n)
        *byte++ = (uint8_t)value;
    return to;
}
void* memcpy(void* to, const void* from, size_t n) {
    const uint8_t* source = from;
    for (uint8_t* byte = to; n > 0; --n)
        *byte++ = *source++;
    return to;
}
