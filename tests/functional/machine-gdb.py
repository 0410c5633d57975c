#!/usr/bin/python3
"""gdb in front of the machine: registers, memory, breakpoints, watchpoints, steps, interrupting and detaching."""
import re
import signal
import struct

from ashlar_test import check, contains, equal, main, program, qemu_in_our_place, wait_until
from guest import SOURCE
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


def machine(t, *arguments):
    socket = t.path('gdb')
    where = f'unix:{socket}' + (',server=on,wait=off' if qemu_in_our_place() else '')
    process = t.start(emulator('-bios', 'none', '-monitor', 'none', '-gdb', where, *arguments), log=t.path('log'))
    wait_until(socket.exists, 'it listens for gdb')
    return process, socket


def start(t, *arguments):
    image = t.path('program')
    image.write_bytes(PROGRAM)
    return machine(t, '-kernel', image, '-serial', 'null', *arguments)


def words(*commands):
    script = ['set pagination off', 'set confirm off', 'set width 0', 'set architecture riscv:rv64', *commands]
    return [program('gdb-multiarch'), '-nx', '-batch', *(word for c in script for word in ('-ex', c))]


def gdb(t, socket, *commands):
    return t.run(*words(f'target remote {socket}', *commands)).stdout


def values(output):
    """What gdb's print has said, in turn."""
    return re.findall(r'^(?:Value returned is )?\$\d+ = (.*)$', output, re.MULTILINE)


def start_supervisor(t, *arguments):
    """A program with symbols at virtual addresses, and how gdb gets them."""
    t.run('riscv64-linux-gnu-gcc', '-O1', '-g', '-march=rv64gc', '-mabi=lp64d', '-mcmodel=medany', '-ffreestanding',
          '-fno-pic', '-no-pie', '-static', '-nostdlib', '-Wl,--build-id=none,--no-warn-rwx-segments',
          '-T', SOURCE / 'supervisor.ld', '-o', t.path('supervisor.elf'), SOURCE / 'supervisor.c')
    process, socket = machine(t, '-kernel', t.path('supervisor.elf'), *arguments)
    return process, [f'file {t.path("supervisor.elf")}', f'target remote {socket}']


def test_registers_memory_breakpoints_and_steps(t):
    process, socket = start(t, '-S')
    out = gdb(t, socket, 'p/x $pc', 'break *0x80000008', 'continue', 'p/x $pc', 'delete', 'stepi', 'p/x $t0', 'stepi',
              'p/x $pc', 'x/1wx 0x80000008', 'set var *(unsigned*)0x80000100 = 0x12345678', 'x/1wx 0x80000100',
              'set $t1 = 1', 'stepi', 'stepi', 'p/x $pc', 'p/x $mhartid', 'info registers fcsr', 'kill')
    equal(values(out), ['0x1000', '0x80000008', '0x1', '0x80000008', '0x80000010', '0x0'], 'what gdb prints')
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


def test_a_session_at_virtual_addresses(t):
    process, connect = start_supervisor(t, '-S', '-serial', 'null')
    out = t.run(*words(
        *connect,
        'p $priv', 'break work', 'continue', 'p $priv', 'p turn', 'p $pc == (long)work', 'p ($satp >> 60) & 15', 'backtrace',
        'p ((long)$mstatus >> 13) & 3',
        # A step by line, out of the function, and in the caller's frame.
        'next', 'p turns', 'finish', 'delete',
        # LR and SC, an instruction at a time.
        'break add_one', 'continue', 'stepi', 'stepi', 'stepi', 'p $t1', 'p lock', 'x/i $pc', 'delete',
        # Floating point, and its flags.
        'p area', 'set var area = 3.25', 'break work', 'continue', 'p area', 'p $fs0.double', 'set var $fs0.double = 0.5',
        'p $fs0.double', 'set var $fflags = 17', 'p $fcsr', 'p $fflags', 'delete',
        # What was written is there.
        'set var $s11 = 0x123456789', 'p/x $s11', 'set var setting = 7', 'p setting', 'p/x *(unsigned*)&setting',
        'p $mhartid', 'p $misa < 0', 'p $scause',
        'set var done = 1', 'continue')).stdout
    # The step and the finish count as turns, and area is doubled in each.
    equal(values(out)[:5], ['3', '1', '1', '1', '8'], 'where it is')
    contains(out, '#0  work (turn=turn@entry=1)')
    contains(out, 'in supervisor_main ()')
    rest = values(out)[5:]
    equal(rest[0], '3', 'mstatus.FS')
    equal(rest[1], '1', 'turns')
    equal(rest[2], '6', 'what work() returns')
    equal(rest[3:5], ['0', '1'], 'SC has succeeded')
    contains(out, 'bnez')
    equal(rest[5:7], ['3', '3.25'], 'area')
    equal(rest[8], '0.5', 'fs0')
    equal(rest[9:11], ['17', '17'], 'fcsr')
    equal(rest[11:], ['0x123456789', '7', '0x7', '0', '1', '0'], 'the other registers')
    contains(out, 'exited normally')
    equal(process.wait(60), 0, 'the exit status')


def test_data_is_watched(t):
    process, connect = start_supervisor(t, '-S', '-serial', 'null')
    out = t.run(*words(
        *connect, 'break work', 'continue', 'continue', 'delete',
        'watch turns', 'continue', 'continue', 'p turns', 'delete',
        'rwatch setting', 'continue', 'p $a5', 'delete',
        'awatch lock', 'continue', 'x/i $pc', 'continue', 'x/i $pc', 'delete',
        'watch turns if turns > 6', 'continue', 'p turns', 'delete', 'break add_one', 'continue', 'p turns',
        'kill')).stdout
    contains(out, 'Hardware watchpoint 2: turns\n\nOld value = 1\nNew value = 2\n')
    contains(out, 'Hardware watchpoint 2: turns\n\nOld value = 2\nNew value = 3\n')
    contains(out, 'Hardware read watchpoint 3: setting\n\nValue = 5\n')
    contains(out, 'Hardware access (read/write) watchpoint 4: lock\n\nValue = 2\n')
    contains(out, 'Hardware access (read/write) watchpoint 4: lock\n\nOld value = 2\nNew value = 3\n')
    contains(out, 'Old value = 6\nNew value = 7\n')
    equal(values(out), ['3', '5', '7', '7'], 'what gdb prints')
    if not qemu_in_our_place():
        equal(process.wait(60), 0, 'the exit status')


def test_ctrl_c_interrupts(t):
    serial = t.path('serial')
    process, connect = start_supervisor(t, '-S', '-serial', f'file:{serial}')
    log = t.path('gdb.log')
    debugger = t.start(words(*connect, 'continue', 'p turns > 0', 'p $priv', 'p done', 'detach'), log=log)
    wait_until(lambda: serial.exists() and serial.read_text() == 'R', 'the program runs')
    debugger.send_signal(signal.SIGINT)
    equal(debugger.wait(60), 0, "gdb's exit status")
    text = log.read_text()
    contains(text, 'Program received signal SIGINT')
    equal(values(text), ['1', '1', '0'], 'what gdb prints')
    contains(text, 'detached')
    # Another one, while it runs: that stops it.
    out = t.run(*words(*connect, 'set var done = 1', 'detach')).stdout
    contains(out, 'detached')
    equal(process.wait(60), 0, 'the exit status')


if __name__ == '__main__':
    main()
