# The start of a bare-metal benchmark: a stack, main(), and its status to the finisher.
    .section .text.start
    .globl _start
_start:
    csrr    t0, mhartid
1:  bnez    t0, 1b
    la      sp, stack_top
    li      t0, 3 << 13
    csrs    mstatus, t0
    call    main
    li      t0, 0x100000
    li      t1, 0x5555
    beqz    a0, 2f
    slli    a0, a0, 16
    li      t1, 0x3333
    or      t1, t1, a0
2:  sw      t1, 0(t0)
3:  j       3b

    .section .bss
    .align  4
    .space  65536
stack_top:
