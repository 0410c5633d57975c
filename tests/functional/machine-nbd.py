#!/usr/bin/python3
"""`ashlar -drive ... -nbd ...`: what the command line alone exports, where, and how it ends."""
import json
import os
import signal

from ashlar_test import KIB, MIB, check, contains, digest, equal, free_port, main, qemu_in_our_place, skip
from raw_nbd import CMD_READ, EPERM, RawNbd


def ours_alone():
    if qemu_in_our_place():
        skip('QEMU has no -nbd')


def drive(image, name='d0', *more):
    return ['-drive', ','.join([f'if=none,id={name},format=raw,file={image}', *more])]


def test_a_drive_is_exported_read_only_unless_told_otherwise(t):
    ours_alone()
    image = t.image('disk', MIB)
    closed, opened = t.path('closed'), t.path('opened')
    machine = t.machine(*drive(image), '-nbd', f'unix:{closed},drive=d0', '-nbd', f'unix:{opened},writable=on')
    with RawNbd.connected(str(closed)) as client:
        equal(client.read(0, 4096), image.read_bytes()[:4096], 'the data')
        equal(client.write(0, b'x' * 512), EPERM, 'the error of a write')
    with RawNbd.connected(str(opened)) as client:
        equal(client.write(0, b'x' * 512), 0, 'the error of a write')
    machine.quit()
    equal(image.read_bytes()[:512], b'x' * 512, 'the first sector')


def test_several_exports_at_one_address(t):
    ours_alone()
    one, two, sock = t.image('one', MIB), t.image('two', 2 * MIB), t.path('s')
    machine = t.machine(*drive(one, 'a'), *drive(two, 'b'), '-nbd', f'unix:{sock},drive=a,name=first',
                        '-nbd', f'unix:{sock},drive=b,name=second,description=the larger')
    for name, image in (('first', one), ('second', two)):
        t.run('nbdcopy', f'nbd+unix:///{name}?socket={sock}', t.path('copy'))
        equal(digest(t.path('copy')), digest(image), f'the digest of {name}')
    listed = t.run('nbdinfo', '--list', f'nbd+unix:///?socket={sock}').stdout
    for part in ('first', 'second', 'the larger'):
        contains(listed, part)
    equal(len(machine.qmp.command('query-block-exports')), 2, 'the number of exports')
    machine.quit()


def test_uris_and_tcp(t):
    ours_alone()
    image, sock, port, other = t.image('disk', MIB), t.path('s'), free_port(), free_port()
    machine = t.machine(*drive(image), '-nbd', f'nbd+unix:///by-uri?socket={sock}', '-nbd', f'127.0.0.1:{port},name=tcp',
                        '-nbd', f'nbd://127.0.0.1:{other}/tcp-uri')
    for uri in (f'nbd+unix:///by-uri?socket={sock}', f'nbd://127.0.0.1:{port}/tcp', f'nbd://127.0.0.1:{other}/tcp-uri'):
        equal(t.run('nbdinfo', '--size', uri).stdout, f'{MIB}\n', 'the size')
    machine.quit()


def test_connections_are_spread_over_iothreads(t):
    ours_alone()
    image, sock = t.image('disk', MIB), t.path('s')
    data = image.read_bytes()
    machine = t.machine(*drive(image), '-object', 'iothread,id=io0', '-object', 'iothread,id=io1',
                        '-nbd', f'unix:{sock},drive=d0,writable=on,iothread=io0:io1')

    def cpu_of_threads():
        return {i['id']: open(f'/proc/{machine.process.pid}/task/{i["thread-id"]}/schedstat').read().split()[0]
                for i in machine.qmp.command('query-iothreads')}

    clients = [RawNbd.connected(str(sock)) for _ in range(4)]
    before = cpu_of_threads()
    for i in range(300):
        for client in clients:
            client.send_request(CMD_READ, i * 512, 4096)
        for client in clients:
            equal(client.recv_reply(4096).data, data[i * 512:][:4096], 'the data')
    after = cpu_of_threads()
    for thread in ('io0', 'io1'):
        check(int(after[thread]) > int(before[thread]), f'{thread} has served somebody')
    for client in clients:
        client.disconnect()
    machine.quit()


def test_blockdev_and_nbd_name_the_same_node(t):
    ours_alone()
    image, sock = t.image('disk', MIB), t.path('s')
    machine = t.machine('-blockdev', f'driver=file,node-name=f,filename={image}',
                        '-blockdev', '{"driver": "raw", "node-name": "n", "file": "f"}',
                        '-nbd', f'unix:{sock},drive=n,writable=on')
    with RawNbd.connected(str(sock)) as client:
        equal(client.write(0, b'x' * 512), 0, 'the error of a write')
    machine.quit()


def test_daemonize_returns_when_everything_listens(t):
    image, sock, qmp, pid_file = t.image('disk', MIB), t.path('s'), t.path('q'), t.path('pid')
    nbd = ['-display', 'none'] if qemu_in_our_place() else ['-nbd', f'unix:{sock},drive=d0']
    done = t.run('ashlar', '-M', 'none', '-daemonize', '-pidfile', pid_file, *drive(image),
                 '-qmp', f'unix:{qmp},server=on,wait=off', *nbd)
    pid = int(pid_file.read_text())
    t.adopt(pid)
    equal(done.stdout + done.stderr, '', 'what is printed')
    if not qemu_in_our_place():
        with RawNbd.connected(str(sock)) as client:
            client.read(0, 512)
    os.kill(pid, signal.SIGTERM)
    equal(os.waitpid(pid, 0), (pid, 0), 'the pid and status')
    check(not pid_file.exists(), 'the pid file is removed')


def test_what_is_wrong_is_named(t):
    ours_alone()
    image, sock = t.image('disk', MIB), t.path('s')
    for arguments, *parts in [
        (['-drive', f'file={image},formt=raw'], 'formt', 'format'),
        (['-drive', 'if=none,format=raw,file=/absent'], '/absent', 'No such file'),
        ([*drive(image), *drive(t.image('other', MIB))], 'd0'),
        ([*drive(image), '-nbd', f'unix:{sock},drive=absent'], 'absent'),
        ([*drive(image), '-nbd', f'unix:{sock},nonsense=1'], 'nonsense'),
        ([*drive(image), '-nbd', f'unix:{sock},iothread=absent'], 'absent'),
        ([*drive(image, 'd0', 'readonly=on'), '-nbd', f'unix:{sock},writable=on'], 'read-only'),
        ([*drive(image), '-nbd', 'unix:/absent/socket'], '/absent/socket'),
        ([*drive(image), '-nbd', f'unix:{sock}', '-nbd', f'unix:{sock}'], ''),
        (['-nbd', f'unix:{sock}'], 'drive'),
        (['-object', 'nonsense,id=x'], 'nonsense'),
        (['-nonsense'], 'nonsense'),
        (['-M', 'nonsense'], 'nonsense'),
    ]:
        said = t.run('ashlar', '-M', 'none', *arguments, status=1).stderr
        for part in parts:
            contains(said, part, f'what is said to {arguments}')
        check(said, f'something is said to {arguments}')


def test_help_and_version(t):
    for option in ('-nbd', '-qmp', '-drive', '-blockdev', '-object', '-daemonize', '-pidfile'):
        if not qemu_in_our_place() or option != '-nbd':
            contains(t.run('ashlar', '-help').stdout, option)
    contains(t.run('ashlar', '-version').stdout.lower(), 'qemu' if qemu_in_our_place() else 'ashlar')


def overlay(t):
    base = t.image('base.raw', MIB)
    top = t.path('top.qcow2')
    t.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', base, '-F', 'raw', top)
    return base, top


def allocated(t, top):
    return sum(e['length'] for e in json.loads(t.run('qemu-img', 'map', '--output=json', top).stdout)
               if e['depth'] == 0)


def test_a_drive_keeps_what_is_read_from_a_backing_file(t):
    ours_alone()
    base, top = overlay(t)
    for option, kept in (('off', 0), ('on', 128 * KIB)):
        path = t.path(f'{option}.sock')
        machine = t.machine('-drive', f'if=none,id=d,file={top},copy-on-read={option}', '-nbd', f'unix:{path},drive=d')
        equal([b['inserted']['drv'] for b in machine.qmp.command('query-block')], ['qcow2'], "the drive's driver")
        with RawNbd.connected(str(path), b'') as client:
            equal(client.read(64 * KIB, 100), base.read_bytes()[64 * KIB:64 * KIB + 100], 'the data')
            equal(client.read(1000, 100), base.read_bytes()[1000:1100], 'the data')
        machine.quit()
        equal(allocated(t, top), kept, 'the bytes that are in the image')
    t.run('qemu-img', 'check', top)
    t.run('qemu-img', 'compare', top, base)

    base, top = overlay(t)
    path = t.path('ro.sock')
    machine = t.machine('-drive', f'if=none,id=d,file={top},copy-on-read=on,readonly=on', '-nbd', f'unix:{path},drive=d')
    with RawNbd.connected(str(path), b'') as client:
        client.read(0, 100)
    machine.quit()
    contains(machine.log.read_text(), 'disabling copy-on-read on read-only drive', 'the log')
    equal(allocated(t, top), 0, 'the bytes that are in the image')


def test_a_drives_changes_may_be_temporary(t):
    ours_alone()
    base, top = overlay(t)
    before = top.read_bytes()
    path = t.path('nbd.sock')
    machine = t.machine('-drive', f'if=none,id=d,file={top},snapshot=on', '-nbd', f'unix:{path},drive=d,writable=on')
    with RawNbd.connected(str(path), b'') as client:
        equal(client.write(0, b'new'), 0, 'the error of a write')
        equal(client.read(0, 4), b'new' + base.read_bytes()[3:4], 'the data')
    machine.quit()
    check(top.read_bytes() == before, 'the image is not touched')


if __name__ == '__main__':
    main()
