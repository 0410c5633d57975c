#!/usr/bin/python3
"""Kernels that bring their own machine mode: no firmware, PMP, the timer of the ACLINT; as on QEMU's machine."""
import struct

from ashlar_test import MIB, Skip, check, equal, main, program, qemu_in_our_place, skip
from guest import LEGACY, MODERN, QEMU, Guest, build, disk


def as_on_qemu(t, boot, *arguments):
    """What the guest says, which must be the same under QEMU where that is installed."""
    said = Guest(t, boot, *arguments).wait()
    check(said.endswith('done\n'), said)
    if not qemu_in_our_place():
        try:
            program(QEMU)
        except Skip:
            return said
        equal(said, Guest(t, boot, '-cpu', 'rv64,h=false', *arguments, emulator=QEMU).wait(), "the guest's report")
    return said


def image(t, harts):
    """A disk that tells tests/hw/kernel.c how many harts there are."""
    path = t.path(f'kernel-{harts}.img')
    path.write_bytes(struct.pack('<I', harts).ljust(MIB, b'\0'))
    return path


def flat(t, name):
    output = t.path(f'{name}.bin')
    t.run('riscv64-linux-gnu-objcopy', '-O', 'binary', build(t, name), output)
    return output


def test_machine_mode_has_its_traps_its_timer_and_its_protection(t):
    said = as_on_qemu(t, build(t, 'protection'))
    for part in ('traps within each other: 3\n', 'spin: interrupt 7\n', 'locked: store: cause 7\n'):
        check(part in said, said)


def test_the_interrupt_controller_asks_once_and_again(t):
    if qemu_in_our_place():
        skip('QEMU 7.2 looks at the threshold when something is claimed, and forgets levels that stay')
    equal(Guest(t, build(t, 'plic')).wait().splitlines(), [
        'pending 0',
        'pending while nobody is interested 1024',
        'lines 0',
        'claim 0',
        'lines of M 2048',
        'lines of M and S 2560',
        'claim by S 10',
        'pending 0',
        'lines 0',
        'claim by M 0',
        'lines with another one 2048',
        'lines below the threshold 0',
        'claim below the threshold 11',
        'pending again, as its level is high 2048',
        'lines 2048',
        'completed by who has not enabled it 2048',
        'completed by another one 3072',
        'claim, by priority 11',
        'claim 10',
        'claim 0',
        'completed with the level low 0',
        'of equals the lower number 10',
        'then the other one 11',
        'not before the completion 0',
        'completions of none 0',
        'claim 11',
        'of no priority, pending 2048',
        'lines 0',
        'the greatest priority 7',
        'the greatest threshold 7',
        'source 0 0',
        'pending is not written 2048',
        'a request that nobody needs any more 1',
        'done'], "the guest's report")


def test_a_kernel_without_firmware_runs_processes_on_a_disk_of_either_version(t):
    for version in (LEGACY, MODERN):
        said = as_on_qemu(t, build(t, 'kernel'), '-smp', '3', *version, *disk(image(t, 3)))
        check('counted 6000\n' in said and 'hello from user mode\n' in said, said)


def test_it_is_loaded_as_kernel_or_firmware_and_flat_as_well(t):
    elf, binary = build(t, 'kernel'), flat(t, 'kernel')
    for boot in (['-bios', 'none', '-kernel', binary], ['-bios', elf], ['-bios', binary]):
        said = Guest(t, boot, *disk(image(t, 1))).wait()
        check(said.endswith('done\n'), said)


def test_what_a_hart_is_to_have_is_there_or_refused(t):
    if qemu_in_our_place():
        skip('it is about what we refuse')
    tree = t.path('tree')
    for cpu, isa, mmu in (('rv64', b'rv64imafdc_zicntr_zicsr_zifencei_sstc', b'riscv,sv48'),
                          ('rv64,sstc=off,h=false', b'rv64imafdc_zicntr_zicsr_zifencei', b'riscv,sv48'),
                          ('rv64,f=off,d=off,mmu=off', b'rv64imac_zicntr_zicsr_zifencei_sstc', b'riscv,none'),
                          ('rv64,sv48=off,Zicsr=on', b'rv64imafdc_zicntr_zicsr_zifencei_sstc', b'riscv,sv39')):
        t.run('ashlar', '-M', f'virt,dumpdtb={tree}', '-bios', 'none', '-cpu', cpu)
        check(isa + b'\0' in tree.read_bytes() and mmu + b'\0' in tree.read_bytes(), f'the device tree of {cpu}')
    for cpu, why in (('rv64,c=off', 'without'), ('rv64,v=on', 'does not have'), ('rv64,stc=off', "'sstc'"),
                     ('rv64,f=off', 'f=off,d=off'), ('rv64,sstc=maybe', "'on' or 'off'"), ('sifive-u54', 'rv64')):
        done = t.run('ashlar', '-M', 'virt', '-bios', 'none', '-cpu', cpu, status=1)
        check(why in done.stderr, f'-cpu {cpu}: {done.stderr}')


if __name__ == '__main__':
    main()
