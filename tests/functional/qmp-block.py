#!/usr/bin/python3
"""Nodes, exports, statistics and limits by QMP, seen by an NBD client."""
import time

from ashlar_test import KIB, MIB, check, contains, equal, main, qemu_in_our_place, skip
from raw_nbd import CMD_FLUSH, CMD_WRITE, Closed, RawNbd


def add_disk(t, machine, name='disk0', size=MIB, **more):
    """A node with a raw image; returns the image."""
    image = t.image(name, size)
    machine.qmp.command('blockdev-add', driver='raw', node_name=name, file={'driver': 'file', 'filename': str(image)},
                        **more)
    return image


def start_server(t, machine, **more):
    path = str(t.path('nbd.sock'))
    machine.qmp.command('nbd-server-start', addr={'type': 'unix', 'data': {'path': path}}, **more)
    return path


def node(machine, name):
    [found] = [n for n in machine.qmp.command('query-named-block-nodes') if n['node-name'] == name]
    return found


def test_a_node_is_added_exported_and_taken_away_again(t):
    machine = t.machine()
    qmp = machine.qmp
    image = add_disk(t, machine)
    path = start_server(t, machine)
    qmp.command('nbd-server-add', device='disk0', name='first', description='the first', writable=True)
    qmp.command('block-export-add', type='nbd', id='second', node_name='disk0', name='again')
    equal(sorted(e['id'] for e in qmp.command('query-block-exports')), ['first', 'second'], 'the exports')
    with RawNbd.connected(path, b'first') as client, RawNbd.connected(path, b'again') as other:
        equal(client.read(0, 4096), image.read_bytes()[:4096], 'the data')
        equal(client.write(512, b'new' * 100), 0, 'the error of a write')
        equal(other.read(512, 300), b'new' * 100, 'the data by the other export')
        contains(qmp.refusal('blockdev-del', node_name='disk0').desc, 'in use')
    qmp.command('nbd-server-remove', name='first', mode='hard')
    equal(qmp.event('BLOCK_EXPORT_DELETED'), {'id': 'first'}, 'the event')
    qmp.command('block-export-del', id='second', mode='hard')
    equal(qmp.event('BLOCK_EXPORT_DELETED'), {'id': 'second'}, 'the event')
    equal(qmp.command('query-block-exports'), [], 'the exports')
    qmp.command('nbd-server-stop')
    qmp.command('blockdev-del', node_name='disk0')
    equal(qmp.command('query-named-block-nodes'), [], 'the nodes')
    machine.quit()


def test_an_export_in_use_is_not_removed_unless_told_to(t):
    machine = t.machine()
    add_disk(t, machine)
    path = start_server(t, machine)
    machine.qmp.command('block-export-add', type='nbd', id='e', node_name='disk0', name='d')
    client = RawNbd.connected(path, b'd')
    client.read(0, 512)
    check(machine.qmp.refusal('block-export-del', id='e').desc, 'it is refused')
    client.read(0, 512)
    machine.qmp.command('block-export-del', id='e', mode='hard')
    machine.qmp.event('BLOCK_EXPORT_DELETED')
    check(client.is_closed_by_server(), 'the client is disconnected')
    machine.quit()


def test_wrong_references_are_refused_by_name(t):
    machine = t.machine()
    qmp = machine.qmp
    image = add_disk(t, machine)
    file = {'driver': 'file', 'filename': str(image)}
    contains(qmp.refusal('blockdev-add', driver='raw', node_name='disk0', file=file).desc, 'disk0')
    contains(qmp.refusal('blockdev-add', driver='raw', node_name='x', file='absent').desc, 'absent')
    contains(qmp.refusal('blockdev-add', driver='nonsense', node_name='x').desc, 'nonsense')
    contains(qmp.refusal('blockdev-add', driver='raw', node_name='x', file=file, nonsense=1).desc, 'nonsense')
    contains(qmp.refusal('blockdev-add', driver='raw', node_name='x',
                         file={'driver': 'file', 'filename': '/absent'}).desc, '/absent')
    contains(qmp.refusal('blockdev-del', node_name='absent').desc, 'absent')
    start_server(t, machine)
    contains(qmp.refusal('nbd-server-add', device='absent').desc, 'absent')
    contains(qmp.refusal('nbd-server-remove', name='absent').desc, 'absent')
    contains(qmp.refusal('nbd-server-start', addr={'type': 'unix', 'data': {'path': '/x'}}).desc, 'already running')
    equal([n['node-name'] for n in qmp.command('query-named-block-nodes') if n['node-name'] == 'x'], [], 'left behind')
    machine.quit()


def test_a_node_is_resized_under_a_client(t):
    machine = t.machine()
    image = add_disk(t, machine)
    machine.qmp.command('block_resize', node_name='disk0', size=2 * MIB)
    equal(image.stat().st_size, 2 * MIB, 'the size of the file')
    equal(node(machine, 'disk0')['image']['virtual-size'], 2 * MIB, 'the size of the node')
    path = start_server(t, machine)
    machine.qmp.command('nbd-server-add', device='disk0')
    with RawNbd.connected(path, b'disk0') as client:
        equal(client.size, 2 * MIB, 'the size that a client sees')
    machine.quit()


def test_reopening_makes_it_read_only_and_writable_again(t):
    machine = t.machine()
    image = t.image('disk', MIB)
    options = {'driver': 'file', 'node-name': 'f', 'filename': str(image)}
    machine.qmp.command('blockdev-add', **options)
    path = start_server(t, machine)

    def export(writable):
        machine.qmp.command('block-export-add', type='nbd', id='e', node_name='f', name='d', writable=writable)

    def unexport():
        machine.qmp.command('block-export-del', id='e', mode='hard')
        machine.qmp.event('BLOCK_EXPORT_DELETED')

    machine.qmp.command('blockdev-reopen', options=[{**options, 'read-only': True}])
    equal(node(machine, 'f')['ro'], True, 'that it is read-only')
    check(machine.qmp.refusal('block-export-add', type='nbd', id='e', node_name='f', name='d', writable=True).desc,
          'a writable export is refused')
    export(False)
    unexport()
    machine.qmp.command('blockdev-reopen', options=[{**options, 'read-only': False}])
    export(True)
    with RawNbd.connected(path, b'd') as client:
        equal(client.write(0, b'x' * 512), 0, 'the error of a write')
    unexport()
    machine.quit()


def test_a_drive_is_a_device_with_statistics(t):
    image = t.image('disk', MIB)
    machine = t.machine('-drive', f'if=none,id=d0,format=raw,file={image}')
    qmp = machine.qmp
    [device] = [d for d in qmp.command('query-block') if d['device'] == 'd0']
    equal(device['inserted']['image']['virtual-size'], MIB, 'the size')
    equal(device['inserted']['drv'], 'raw', 'the driver')
    equal(device['inserted']['image']['filename'], str(image), 'the file name')
    check([d for d in qmp.command('query-blockstats') if d.get('device') == 'd0'], 'it has statistics')
    path = start_server(t, machine)
    qmp.command('nbd-server-add', device='d0', writable=True)
    with RawNbd.connected(path, b'd0') as client:
        equal(client.read(0, 4096), image.read_bytes()[:4096], 'the data')
    machine.quit()


def test_a_throttle_node_limits_what_a_client_gets(t):
    machine = t.machine('-object', 'throttle-group,id=slow,x-bps-total=4194304,x-bps-total-max=5242880')
    image = t.image('disk', 8 * MIB)
    machine.qmp.command('blockdev-add', driver='throttle', node_name='limited', throttle_group='slow',
                        file={'driver': 'raw', 'file': {'driver': 'file', 'filename': str(image)}})
    path = start_server(t, machine)
    machine.qmp.command('nbd-server-add', device='limited')
    with RawNbd.connected(path, b'limited') as client:
        start = time.monotonic()
        for i in range(128):
            client.read(i * 64 * KIB, 64 * KIB)
        elapsed = time.monotonic() - start
    check(elapsed > 0.5, f'8 MiB at 4 MiB/s after a burst of 5 MiB take only {elapsed:.2f} s')
    machine.quit()


def test_iothreads_are_objects(t):
    if qemu_in_our_place():
        skip('QEMU 7.2 aborts when a client of an I/O thread leaves')
    machine = t.machine('-object', 'iothread,id=io0')
    qmp = machine.qmp
    equal([i['id'] for i in qmp.command('query-iothreads')], ['io0'], 'the I/O threads')
    qmp.command('object-add', qom_type='iothread', id='io1')
    equal(sorted(i['id'] for i in qmp.command('query-iothreads')), ['io0', 'io1'], 'the I/O threads')
    check(qmp.refusal('object-add', qom_type='iothread', id='io1').desc, 'a second io1 is refused')
    image = add_disk(t, machine)
    path = start_server(t, machine)
    qmp.command('block-export-add', type='nbd', id='e', node_name='disk0', name='d', writable=True, iothread='io1')
    with RawNbd.connected(path, b'd', structured=True) as client:
        for i in range(100):
            equal(client.write(i * 4096, bytes([i]) * 4096), 0, 'the error of a write')
        equal(client.request(CMD_FLUSH).error, 0, 'the error of a flush')
        equal(client.read(99 * 4096, 4096), bytes([99]) * 4096, 'the data')
    qmp.command('block-export-del', id='e', mode='hard')
    qmp.event('BLOCK_EXPORT_DELETED')
    qmp.command('object-del', id='io1')
    equal([i['id'] for i in qmp.command('query-iothreads')], ['io0'], 'the I/O threads')
    equal(image.read_bytes()[4096:8192], bytes([1]) * 4096, 'the image')
    machine.quit()


def test_quitting_finishes_what_clients_have_asked_for(t):
    machine = t.machine()
    image = add_disk(t, machine, size=4 * MIB)
    path = start_server(t, machine)
    machine.qmp.command('nbd-server-add', device='disk0', writable=True)
    acknowledged = []
    with RawNbd.connected(path, b'disk0') as client:
        for i in range(500):
            if i == 100:
                machine.qmp.send({'execute': 'quit'})
            try:
                client.send_request(CMD_WRITE, i * 4096, 4096, i.to_bytes(2, 'big') * 2048, cookie=i)
                reply = client.recv_reply()
            except Closed:
                break
            if not reply.error:
                acknowledged.append(reply.cookie)
    equal(machine.process.wait(60), 0, 'the exit status')
    data = image.read_bytes()
    equal([i for i in acknowledged if data[i * 4096:(i + 1) * 4096] != i.to_bytes(2, 'big') * 2048], [],
          'the list of acknowledged writes that are lost')


if __name__ == '__main__':
    main()
