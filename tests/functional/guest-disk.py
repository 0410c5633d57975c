#!/usr/bin/python3
"""A guest and its virtio disks, on our machine and on QEMU's."""

from ashlar_test import MIB, Skip, check, equal, main, program, qemu_in_our_place, skip
from guest import (CHECK, COMPUTE, EVENT_INDEX, INDIRECT, LEGACY, LOAD, MODERN, QEMU, Guest, build, check_loaded,
                   disk, task_image)


def has_oracle():
    try:
        return bool(program(QEMU))
    except Skip:
        return False


def run_check(t, emulator, version, unwanted, serial='ashlar-0001'):
    image = task_image(t, 'check.img', 4 * MIB, mode=CHECK, unwanted=unwanted)
    guest = Guest(t, build(t, 'disk'), *version, *disk(image, f'serial={serial}'), emulator=emulator)
    return guest.wait()


def check_version(t, version):
    for unwanted in (0, INDIRECT, EVENT_INDEX, INDIRECT | EVENT_INDEX):
        ours = run_check(t, 'ashlar', version, unwanted)
        check(ours.endswith('done\n'), ours)
        check('ashlar-0001\n' in ours, ours)
        if has_oracle():
            equal(ours, run_check(t, QEMU, version, unwanted), "the guest's report")


def test_a_guest_uses_its_disk_by_version_2_as_on_qemu(t):
    check_version(t, MODERN)


def test_a_guest_uses_its_disk_by_version_1_as_on_qemu(t):
    check_version(t, LEGACY)


def run_load(t, version, *options, depth=8, sectors=16, passes=3, format='raw', drive='', more=(), unwanted=0):
    raw = task_image(t, 'load.img', 4 * MIB, mode=LOAD, passes=passes, depth=depth, sectors=sectors,
                     unwanted=unwanted)
    image = raw
    if format != 'raw':
        image = t.path(f'load.{format}')
        t.run('ashlar-img', 'convert', '-f', 'raw', '-O', format, raw, image)
    said = Guest(t, build(t, 'disk'), *version, *more, *disk(image, *options, format=format, drive=drive)).wait()
    check(f'pass {passes}\n' in said and said.endswith('done\n'), said)
    if format != 'raw':
        t.run('ashlar-img', 'check', image)
        t.run('ashlar-img', 'convert', '-f', format, '-O', 'raw', image, raw)
    check_loaded(raw, passes, sectors)


def test_a_guest_computes_while_its_disk_works(t):
    def compute(depth):
        image = task_image(t, 'compute.img', 4 * MIB, mode=COMPUTE, passes=4, depth=depth, sectors=8)
        said = Guest(t, build(t, 'disk'), *MODERN, *disk(image)).wait()
        return dict(line.rsplit(' ', 1) for line in said.splitlines() if ' ' in line)

    alone, beside = compute(0), compute(16)
    equal(beside['result'], alone['result'], 'what it computes')
    check(int(alone['requests']) == 0 and int(beside['requests']) > 0, f'{alone}, {beside}')


def test_what_a_guest_writes_is_in_the_image(t):
    for version in (MODERN, LEGACY):
        run_load(t, version)
        run_load(t, version, depth=16, sectors=1, passes=1, unwanted=EVENT_INDEX)


def test_a_guest_writes_to_a_qcow2_image(t):
    run_load(t, MODERN, format='qcow2', depth=16, sectors=8)


def test_an_iothread_makes_the_requests(t):
    if qemu_in_our_place():
        skip('QEMU has no IOThreads for virtio-mmio without KVM')
    run_load(t, MODERN, 'iothread=io', more=('-object', 'iothread,id=io'), depth=16)
    run_load(t, LEGACY, 'iothread=io', 'num-queues=4', more=('-object', 'iothread,id=io'))


def test_requests_are_made_by_every_mechanism(t):
    for aio in ('threads', 'native,cache=none', 'io_uring'):
        run_load(t, MODERN, drive=f',aio={aio}', passes=2)


def test_the_first_disk_is_in_the_last_slot(t):
    images = [task_image(t, f'{i}.img', MIB, mode=CHECK) for i in range(2)]
    guest = Guest(t, build(t, 'disk'), *MODERN, *disk(images[0], 'serial=first', name='a'),
                  *disk(images[1], 'serial=second', name='b'))
    said = guest.wait()
    check('slot 7\n' in said and 'first\n' in said, said)


def test_a_ninth_device_is_refused(t):
    disks = [argument for i in range(9) for argument in
             ('-drive', f'driver=null-co,size=1M,if=none,id=d{i}', '-device', f'virtio-blk-device,drive=d{i}')]
    done = t.run('ashlar', '-M', 'virt', '-bios', 'none', '-kernel', build(t, 'disk'), '-display', 'none', *disks,
                 status=1)
    check('virtio-bus' in done.stderr, done.stderr)


if __name__ == '__main__':
    main()
