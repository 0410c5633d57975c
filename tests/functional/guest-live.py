#!/usr/bin/python3
"""A guest under load while its disks, and others, are exported, throttled, resized, and the machine stopped."""
import os

from ashlar_test import MIB, check, contains, digest, equal, main, qemu_in_our_place, skip
from guest import FIRST_LOADED, LOAD, MODERN, SECTOR, Guest, build, check_loaded, disk, loaded_sector, task_image
from raw_nbd import EPERM, RawNbd

PASSES, SECTORS = 12, 16


def loaded_guest(t, *more, passes=PASSES, options=(), image=None):
    image = image or task_image(t, 'guest.img', 4 * MIB, mode=LOAD, passes=passes, depth=8, sectors=SECTORS)
    return image, Guest(t, build(t, 'disk'), *MODERN, *disk(image, *options), *more, qmp=True)


FOREVER = 1000000  # passes
SLOW = 500         # requests a second: too few for its passes to end meanwhile


def check_some_pass(image):
    """Every sector that was looked at is a whole one."""
    data = image.read_bytes()
    for sector in range(FIRST_LOADED, FIRST_LOADED + 512):
        got = data[sector * SECTOR:(sector + 1) * SECTOR]
        number = (int.from_bytes(got[:8], 'little') - (sector * 64) * 0x9e3779b97f4a7c15) % (1 << 64)
        check(1 <= number <= FOREVER, f'sector {sector} is of pass {number}')
        equal(got, loaded_sector(sector, number), f'sector {sector}')


def end(guest, image):
    guest.qmp.command('quit')
    guest.wait()
    check_some_pass(image)


def throttle(qmp, iops):
    limits = {'iops': iops, 'iops_rd': 0, 'iops_wr': 0, 'bps': 0, 'bps_rd': 0, 'bps_wr': 0}
    qmp.send({'execute': 'block_set_io_throttle', 'arguments': {'device': 'd0', **limits}})
    equal(qmp.answer().get('return'), {}, 'the answer')


def test_clients_and_commands_beside_a_guest(t):
    other, copy = t.image('other.img', 8 * MIB), t.path('copy.img')
    image, guest = loaded_guest(t, '-drive', f'file={other},format=raw,if=none,id=other', passes=FOREVER)
    guest.wait_for('pass 1\n')
    before = digest(other)
    sock = t.path('nbd.sock')
    qmp = guest.qmp
    qmp.command('nbd-server-start', addr={'type': 'unix', 'data': {'path': str(sock)}})
    qmp.command('nbd-server-add', device='other', writable=True)
    qmp.command('nbd-server-add', device='d0')
    uri = f'nbd+unix:///{{}}?socket={sock}'
    rates = [2000, 0, 500, 0]
    for rate in rates:
        throttle(qmp, rate)
        t.run('nbdcopy', uri.format('other'), copy)
        equal(digest(copy), digest(other), 'the digest of the other drive')
        data = t.random.randbytes(MIB)
        fresh = t.path('fresh')
        fresh.write_bytes(data * 8)
        t.run('nbdcopy', fresh, uri.format('other'))
        equal(digest(other), digest(fresh), 'the digest of what was written')
        # What a point in time of the guest's disk is, only the guest knows; it can be read all the same.
        t.run('nbdcopy', uri.format('d0'), copy)
        equal(copy.read_bytes()[:4], b'task', "the start of the guest's disk")
        stats = {s['device']: s['stats'] for s in qmp.command('query-blockstats')}
        equal(stats['d0']['failed_rd_operations'] + stats['d0']['failed_wr_operations'], 0, 'failures')
    check(digest(other) != before, 'the other drive was written')
    throttle(qmp, 0)
    end(guest, image)


def test_a_guest_is_stopped_and_goes_on(t):
    image, guest = loaded_guest(t, '-S')
    throttle(guest.qmp, SLOW)
    guest.qmp.command('cont')
    for _ in range(10):
        guest.qmp.command('stop')
        equal(guest.qmp.command('query-status')['status'], 'paused', 'the status')
        still = digest(image)
        operations = guest.qmp.command('query-blockstats')[0]['stats']['wr_operations']
        guest.qmp.command('query-block')
        equal(digest(image), still, 'the digest of the image of a guest that stands still')
        equal(guest.qmp.command('query-blockstats')[0]['stats']['wr_operations'], operations, 'the writes')
        guest.qmp.command('cont')
    throttle(guest.qmp, 0)
    check(guest.wait().endswith('done\n'), 'the guest ends well')
    check_loaded(image, PASSES, SECTORS)


def test_a_larger_disk_is_announced_to_a_guest_under_load(t):
    image, guest = loaded_guest(t, '-S')
    throttle(guest.qmp, SLOW)
    guest.qmp.command('cont')
    guest.wait_for('pass 1\n')  # it knows how large the disk was
    for size in (5, 6, 4, 7):
        guest.qmp.command('block_resize', device='d0', size=size * MIB)
    throttle(guest.qmp, 0)
    check(guest.wait().endswith('done\n'), 'the guest ends well')
    os.truncate(image, 4 * MIB)
    check_loaded(image, PASSES, SECTORS)


def test_the_disk_of_a_guest_is_exported_read_only(t):
    if qemu_in_our_place():
        skip('QEMU has no -nbd')
    sock, shared = t.path('nbd.sock'), t.path('shared.sock')
    image, guest = loaded_guest(t, '-nbd', f'unix:{sock},drive=d0', passes=FOREVER)
    guest.wait_for('pass 1\n')
    with RawNbd.connected(str(sock)) as client:
        equal(client.read(0, 4), b'task', 'the start of the disk')
        equal(client.write(0, b'x' * SECTOR), EPERM, 'the error of a write')
    refusal = guest.qmp.refusal('nbd-server-start', addr={'type': 'unix', 'data': {'path': '/nonexistent/s'}})
    check(refusal.desc, 'a reason')
    guest.qmp.command('nbd-server-start', addr={'type': 'unix', 'data': {'path': str(shared)}})
    refusal = guest.qmp.refusal('nbd-server-add', device='d0', writable=True)
    contains(refusal.desc, 'write')
    end(guest, image)


def test_a_shared_disk_can_be_written_by_others(t):
    sock = t.path('nbd.sock')
    image, guest = loaded_guest(t, options=['share-rw=on'], passes=FOREVER)
    guest.wait_for('pass 1\n')
    guest.qmp.command('nbd-server-start', addr={'type': 'unix', 'data': {'path': str(sock)}})
    guest.qmp.command('nbd-server-add', device='d0', writable=True)
    with RawNbd.connected(str(sock), b'd0') as client:
        equal(client.write(64 * SECTOR, b'x' * SECTOR), 0, 'the error of a write')  # the guest does not use it
    end(guest, image)
    equal(image.read_bytes()[64 * SECTOR:65 * SECTOR], b'x' * SECTOR, 'the sector')


def test_a_disk_that_fails_stops_the_machine_and_goes_on(t):
    image = task_image(t, 'guest.img', 4 * MIB, mode=LOAD, passes=2, depth=8, sectors=SECTORS)
    rules = t.path('rules')
    rules.write_text('[inject-error]\nevent = "write_aio"\nerrno = "28"\nonce = "on"\nsector = "1024"\n')
    guest = Guest(t, build(t, 'disk'), *MODERN, '-S', '-drive',
                  f'file.driver=blkdebug,file.config={rules},file.image.driver=file,file.image.filename={image},'
                  'driver=raw,if=none,id=d0', '-device', 'virtio-blk-device,drive=d0', qmp=True)
    guest.qmp.command('cont')
    error = guest.qmp.event('BLOCK_IO_ERROR')
    equal((error['operation'], error['action'], error['nospace']), ('write', 'stop', True), 'the event')
    guest.qmp.event('STOP')
    equal(guest.qmp.command('query-status')['status'], 'io-error', 'the status')
    guest.qmp.command('cont')
    check(guest.wait().endswith('done\n'), 'the guest ends well')
    check_loaded(image, 2, SECTORS)


def test_a_killed_machine_leaves_whole_sectors(t):
    image, guest = loaded_guest(t, passes=FOREVER)
    guest.wait_for('pass 2\n')
    guest.process.kill()
    guest.process.wait()
    check_some_pass(image)


if __name__ == '__main__':
    main()
