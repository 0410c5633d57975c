#!/usr/bin/python3
"""A guest and its virtio disks, on our machine and on QEMU's."""
import errno

from ashlar_test import MIB, Skip, check, equal, main, program, qemu_in_our_place, skip
from guest import (CHECK, COMPUTE, EVENT_INDEX, INDIRECT, LEGACY, LOAD, MODERN, QEMU, Guest, build, check_loaded,
                   disk, machine, task_image)


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


def test_a_disk_is_in_the_slot_that_is_named(t):
    images = [task_image(t, f'{i}.img', MIB, mode=CHECK) for i in range(2)]
    for slot in (0, 5):
        first = disk(images[0], f'bus=virtio-mmio-bus.{slot}', 'serial=named', name='a')
        said = Guest(t, build(t, 'disk'), *MODERN, *first).wait()
        check(f'slot {slot}\n' in said and 'named\n' in said, said)
    last = disk(images[0], 'bus=virtio-mmio-bus.7', name='a')
    said = Guest(t, build(t, 'disk'), *MODERN, *last, '-device', 'virtio-rng-device,bus=virtio-mmio-bus.0',
                 *disk(images[1], name='b')).wait()
    check('slot 7\n' in said, said)
    for bus, why in (('virtio-mmio-bus.7', "Bus 'virtio-mmio-bus.7' is full"), ('virtio-mmio-bus.8', 'not found'),
                     ('nosuch', "Bus 'nosuch' not found")):
        done = t.run('ashlar', *machine(build(t, 'disk')), *last, *disk(images[1], f'bus={bus}', name='b'), status=1)
        check(why in done.stderr, done.stderr)


def test_a_disk_that_a_drive_makes_comes_behind_the_devices(t):
    small, large = (task_image(t, f'{size}.img', size * MIB, mode=CHECK) for size in (1, 2))
    said = Guest(t, build(t, 'disk'), *MODERN, '-drive', f'file={small},format=raw,if=virtio', *disk(large)).wait()
    check('slot 7\n' in said and f'capacity {2 * MIB // 512}\n' in said, said)


def failing_disk(t, error, device=''):
    """A guest, not yet running, whose first write fails once."""
    image = task_image(t, 'failing.img', 4 * MIB, mode=CHECK)
    return Guest(t, build(t, 'disk'), '-S', *MODERN, '-drive',
                 f'if=none,id=d0,driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename={image},'
                 f'file.inject-error.0.event=write_aio,file.inject-error.0.errno={error},'
                 f'file.inject-error.0.once=on', '-device', f'virtio-blk-device,drive=d0,id=disk0{device}',
                 qmp=True)


def io_status(guest):
    info = {each['device']: each for each in guest.qmp.command('query-block')}['d0']
    equal((info['qdev'], info['removable']), ('disk0', False), 'the device')
    return info.get('io-status'), guest.qmp.command('query-status')['status']


def test_a_write_that_fails_stops_the_machine_until_it_goes_on(t):
    for error, device, status in ((errno.EIO, ',werror=stop', 'failed'), (errno.ENOSPC, ',werror=stop', 'nospace'),
                                  (errno.ENOSPC, '', 'nospace')):
        guest = failing_disk(t, error, device)
        equal(io_status(guest), ('ok', 'prelaunch'), 'the status at first')
        guest.qmp.command('cont')
        event = guest.qmp.event('BLOCK_IO_ERROR')
        equal((event['device'], event['operation'], event['action'], event['nospace']),
              ('d0', 'write', 'stop', error == errno.ENOSPC), 'the event')
        guest.qmp.event('STOP')
        equal(io_status(guest), (status, 'io-error'), 'the status after the error')
        guest.qmp.command('cont')
        check(guest.wait().endswith('done\n'), 'the write was made again')


def test_a_write_that_fails_is_reported_to_the_guest(t):
    guest = failing_disk(t, errno.EIO, ',werror=report')
    equal(io_status(guest), (None, 'prelaunch'), 'the status at first')
    guest.qmp.command('cont')
    equal(guest.qmp.event('BLOCK_IO_ERROR')['action'], 'report', 'the action')
    check('FAILED: write 1\n' in guest.wait(status=1), guest.output())


def test_a_ninth_device_is_refused(t):
    disks = [argument for i in range(9) for argument in
             ('-drive', f'driver=null-co,size=1M,if=none,id=d{i}', '-device', f'virtio-blk-device,drive=d{i}')]
    done = t.run('ashlar', '-M', 'virt', '-bios', 'none', '-kernel', build(t, 'disk'), '-display', 'none', *disks,
                 status=1)
    check('virtio-bus' in done.stderr, done.stderr)


if __name__ == '__main__':
    main()
