#!/usr/bin/python3
"""Several harts under OpenSBI: started, stopped and started again, with fences for code and for page tables.

With ASHLAR=qemu-system-riscv64 it is QEMU that must say the same.
"""
import os

from ashlar_test import equal, main, qemu_in_our_place, skip
from guest import Guest, build

FIRMWARE = '/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin'


def run_harts(t, harts):
    if not os.path.exists(FIRMWARE):
        skip('opensbi is not installed')
    more = ['-cpu', 'rv64,h=false'] if qemu_in_our_place() else []
    boot = ['-bios', FIRMWARE, '-kernel', build(t, 'harts', base=0x80200000)]
    said = Guest(t, boot, '-smp', str(harts), *more).wait().splitlines()
    equal(said[said.index(f'harts {harts}'):] if f'harts {harts}' in said else said, [
        f'harts {harts}',
        'lives of each other hart: 20',
        'resumed each: 6',
        'fences of code: 240',
        'fences of pages: 270',
        'faults of each hart: 180',
        'done'], "the guest's report")


def test_four_harts_start_stop_and_see_what_the_others_wrote(t):
    run_harts(t, 4)


def test_two_harts_do(t):
    run_harts(t, 2)


if __name__ == '__main__':
    main()
