#!/usr/bin/python3
"""gdb in front of the machine: registers, memory, breakpoints, steps, interrupting and detaching."""
import struct

from ashlar_test import check, contains, equal, main, wait_until
from linux_guest import emulator
from qmp import Qmp

BASE = 0x80000000
# Counts t0 up for ever; then, once t1 is not zero, says that all is well to the finisher.
PROGRAM = struct.pack('<7I',
                      0x00000293,   # 0x00 li   t0, 0
                      0x00000313,   # 0x04 li   t1, 0
                      0x00128293,   # 0x08 addi t0, t0, 1
                      0xfe030ee3,   # 0x0c beqz t1, 0x08
                      0x001003b7,   # 0x10 lui  t2, 0x100
                      0x00005e37,   # 0x14 lui  t3, 5
                      0x555e0e13)   # 0x18 addi t3, t3, 0x555
PROGRAM += struct.pack('<2I',
                       0x01c3a023,  # 0x1c sw   t3, 0(t2)
                       0x0000006f)  # 0x20 j    .


def start(t, *arguments):
    image, socket = t.path('program'), t.path('gdb')
    image.write_bytes(PROGRAM)
    process = t.start(emulator('-bios', 'none', '-kernel', image, '-serial', 'null', '-monitor', 'none',
                               '-gdb', f'unix:{socket}', *arguments), log=t.path('log'))
    wait_until(socket.exists, 'it listens for gdb')
    return process, socket


def gdb(t, socket, *commands):
    script = ['set pagination off', 'set confirm off', 'set architecture riscv:rv64', f'target remote {socket}', *commands]
    return t.run('gdb-multiarch', '-nx', '-batch', *(word for c in script for word in ('-ex', c))).stdout


def test_registers_memory_breakpoints_and_steps(t):
    process, socket = start(t, '-S')
    out = gdb(t, socket, 'p/x $pc', 'break *0x80000008', 'continue', 'p/x $pc', 'delete', 'stepi', 'p/x $t0', 'stepi',
              'p/x $pc', 'x/1wx 0x80000008', 'set var *(unsigned*)0x80000100 = 0x12345678', 'x/1wx 0x80000100',
              'set $t1 = 1', 'stepi', 'stepi', 'p/x $pc', 'p/x $mhartid', 'info registers fcsr', 'kill')
    values = [line.split(' = ')[1] for line in out.splitlines() if line.startswith('$')]
    equal(values, ['0x1000', '0x80000008', '0x1', '0x80000008', '0x80000010', '0x0'], 'what gdb prints')
    contains(out, '0x00128293', 'the instruction')
    contains(out, '0x12345678', 'the word that was written')
    process.kill()


def test_the_guest_goes_on_when_gdb_leaves(t):
    process, socket = start(t, '-smp', '1')
    out = gdb(t, socket, 'set $t1 = 1', 'detach')
    contains(out, 'detached')
    equal(process.wait(60), 0, 'the exit status')


def test_stopping_by_qmp_is_told_to_gdb(t):
    control = t.path('qmp')
    process, socket = start(t, '-qmp', f'unix:{control},server=on,wait=off')
    qmp = Qmp(control)
    debugger = t.start(['gdb-multiarch', '-nx', '-batch', '-ex', 'set architecture riscv:rv64', '-ex',
                        f'target remote {socket}', '-ex', 'continue', '-ex', 'p $t0 > 0', '-ex', 'set $t1 = 1', '-ex',
                        'detach'], log=t.path('gdb.log'))
    qmp.event('STOP')
    qmp.event('RESUME')
    qmp.command('stop')
    equal(debugger.wait(60), 0, "gdb's exit status")
    contains(t.path('gdb.log').read_text(), '$1 = 1')
    equal(process.wait(60), 0, 'the exit status')


def test_a_breakpoint_stops_every_hart_and_qmp_hears_of_it(t):
    control = t.path('qmp')
    process, socket = start(t, '-S', '-smp', '2', '-qmp', f'unix:{control},server=on,wait=off')
    out = gdb(t, socket, 'break *0x8000000c', 'continue', 'info threads', 'delete', 'set $t1 = 1', 'detach')
    check(out.count('Thread 1 (hart 0)') and out.count('Thread 2 (hart 1)'), f'there are two threads: {out}')
    equal(process.wait(60), 0, 'the exit status')


if __name__ == '__main__':
    main()
