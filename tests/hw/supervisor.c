// What a debugger is tried on: a program in S-mode with Sv39, at other addresses than it lies at. Hart 0 alone works.
#include <stdint.h>

volatile uint64_t turns;       // counted up by work()
volatile uint64_t done;        // to be set by the debugger: then it ends
volatile uint64_t setting = 5;
uint32_t lock;
volatile double area = 1.5;

__attribute__((noinline)) uint64_t work(uint64_t turn) {
    turns = turn;
    area = area * 2;
    return turn + setting;
}

// The new value.
uint32_t add_one(uint32_t* where);
__asm__(
    ".globl add_one\n"
    ".type add_one, @function\n"
    "add_one:\n"
    "  lr.w t0, (a0)\n"
    "  addi t0, t0, 1\n"
    "  sc.w t1, t0, (a0)\n"
    "  bnez t1, add_one\n"
    "  mv a0, t0\n"
    "  ret\n");

__attribute__((noreturn)) void supervisor_main(void) {
    *(volatile uint8_t*)0x10000000 = 'R';
    for (uint64_t turn = 1; !done; ++turn) {
        work(turn);
        add_one(&lock);
    }
    *(volatile uint32_t*)0x100000 = 0x5555;
    for (;;) {
    }
}

// In M-mode, at physical addresses: one large page for each of the first GiBs, and for the high addresses.
__asm__(
    ".section .text.start, \"ax\"\n"
    ".globl _start\n"
    "_start:\n"
    "  csrr t0, mhartid\n"
    "1: bnez t0, 1b\n"
    "  li t0, -1\n"
    "  csrw pmpaddr0, t0\n"
    "  li t0, 0x1f\n"
    "  csrw pmpcfg0, t0\n"
    "  la t0, root_table\n"
    "  li t1, 0xcf\n"
    "  sd t1, 0(t0)\n"
    "  li t1, 0x80000000 >> 2 | 0xcf\n"
    "  sd t1, 2 * 8(t0)\n"
    "  li t2, 510 * 8\n"
    "  add t2, t2, t0\n"
    "  sd t1, (t2)\n"
    "  srli t0, t0, 12\n"
    "  li t1, 8 << 60\n"
    "  or t0, t0, t1\n"
    "  csrw satp, t0\n"
    "  li t0, 0x6800\n"  // FS; MPP: S
    "  csrs mstatus, t0\n"
    "  li t0, 0x1000\n"
    "  csrc mstatus, t0\n"
    "  ld t0, entry\n"
    "  ld sp, stack\n"
    "  csrw mepc, t0\n"
    "  mret\n"
    ".balign 8\n"
    "entry: .dword supervisor_main\n"
    "stack: .dword stack_top\n"
    ".text\n");
