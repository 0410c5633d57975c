#!/usr/bin/python3
"""The block driver nbd: images that other NBD servers serve, served once more by ashlar-nbd for clients to judge."""
import json
import signal
import threading

from ashlar_test import KIB, MIB, Server, check, contains, digest, equal, free_port, main, program, wait_until
from raw_nbd import CMD_READ, EIO, Closed, RawNbd

SIZE = 16 * MIB


def nbdkit(t, *arguments, uri_end=''):
    """A server of nbdkit on a Unix socket; its URI."""
    sock = t.path(f'nbdkit-{t.count()}.sock')
    t.start([program('nbdkit'), '-f', '-U', sock, *arguments], log=t.path(f'nbdkit-{t.count()}.log'))
    wait_until(sock.exists, 'nbdkit listens')
    return f'nbd+unix:///{uri_end}?socket={sock}'


def nbd_server(t, image):
    """nbd-server, which speaks an older dialect, on TCP; its URI."""
    port, config, pid = free_port(), t.path('nbd-server.conf'), t.path('nbd-server.pid')
    config.write_text(f'[generic]\nport = {port}\nlistenaddr = 127.0.0.1\n'
                      f'[disk]\nexportname = {image}\nflush = true\nfua = true\ntrim = true\n')
    t.run('nbd-server', '-C', config, '-p', pid)
    t.adopt(int(wait_until(lambda: pid.exists() and pid.read_text().strip(), 'nbd-server has written its pid file')))
    return f'nbd://127.0.0.1:{port}/disk'


def again(t, uri, *options):
    """ashlar-nbd that serves what another server serves."""
    return t.serve(uri, *options)


def again_with(t, **options):
    chosen = ','.join(f'{key.replace("__", ".").replace("_", "-")}={value}' for key, value in options.items())
    return t.serve(f'driver=raw,file.driver=nbd,{chosen}', '--image-opts', format=None)


def write_and_read(t, server):
    out = t.run('qemu-io', '-f', 'raw', '-c', 'write -P 0x11 0 64k', '-c', 'write -P 0x22 70001 333',
                '-c', 'write -z 128k 64k', '-c', 'write -z -u 256k 64k', '-c', 'write -f -P 0x33 512k 2M',
                '-c', 'discard 4M 1M', '-c', 'aio_write -P 0x44 5M 4k', '-c', 'aio_write -P 0x55 6M 4k',
                '-c', 'aio_flush', '-c', 'flush',
                '-c', 'read -P 0x11 0 64k', '-c', 'read -P 0x22 70001 333', '-c', 'read -P 0 128k 64k',
                '-c', 'read -P 0 256k 64k', '-c', 'read -P 0x33 512k 2M', '-c', 'read -P 0x44 5M 4k',
                '-c', 'read -P 0x55 6M 4k', server.uri).stdout
    check('failed' not in out, out)


def copies_and_writes(t, image, uri):
    server = again(t, uri, '--discard=unmap')
    t.run('nbdcopy', server.uri, t.path('copy'))
    equal(digest(t.path('copy')), digest(image), 'the digest of the copy')
    write_and_read(t, server)
    server.stop()


def test_over_ashlar_nbd(t):
    image = t.image('disk', SIZE)
    copies_and_writes(t, image, t.serve(image).uri)


def test_over_ashlar_nbd_on_tcp(t):
    image = t.image('disk', SIZE)
    copies_and_writes(t, image, t.serve(image, tcp=True).uri)


def test_over_qemu_nbd(t):
    image = t.image('disk', SIZE)
    qemu = Server(t, ['-t', '-e', '0', '-f', 'raw', image], 'qemu-nbd', socket_path=t.path('qemu.sock'))
    copies_and_writes(t, image, qemu.uri)


def test_over_nbdkit(t):
    image = t.image('disk', SIZE)
    copies_and_writes(t, image, nbdkit(t, 'file', image))


def test_over_an_nbdkit_that_can_do_nothing_but_read_and_write(t):
    image = t.image('disk', SIZE)
    uri = nbdkit(t, '--no-sr', '--filter=nozero', '--filter=nocache', '--filter=noextents', 'file', image)
    copies_and_writes(t, image, uri)


def test_over_an_nbdkit_that_insists_on_blocks(t):
    image = t.image('disk', SIZE)
    uri = nbdkit(t, '--filter=blocksize-policy', 'file', image, 'blocksize-minimum=4096',
                 'blocksize-preferred=64K', 'blocksize-maximum=128K', 'blocksize-error-policy=error')
    copies_and_writes(t, image, uri)


def test_over_a_slow_nbdkit(t):
    image = t.image('disk', SIZE)
    copies_and_writes(t, image, nbdkit(t, '--filter=delay', 'file', image, 'rdelay=5ms', 'wdelay=5ms'))


def test_over_nbd_server(t):
    image = t.image('disk', SIZE)
    copies_and_writes(t, image, nbd_server(t, image))


def test_errors_of_the_server_are_the_client_s(t):
    server = again(t, nbdkit(t, '--filter=error', 'memory', 'size=1M', 'error-pwrite=ENOSPC', 'error-pwrite-rate=100%',
                             'error-pread=EIO', 'error-pread-rate=50%'), '--discard=unmap')
    contains(t.run('qemu-io', '-f', 'raw', '-c', 'write 0 4k', server.uri, status=1).stdout, 'No space left on device')
    with RawNbd.connected(server.address) as client:
        errors = {client.request(CMD_READ, i * 512, 512).error for i in range(100)}
    equal(errors, {0, EIO}, 'the errors of reads')
    server.stop()


def test_holes_are_seen_through_it(t):
    image = t.image('disk', 8 * MIB, data=False)
    with open(image, 'r+b') as f:
        f.seek(2 * MIB)
        f.write(b'x' * MIB)
    for below in (t.serve(image).uri, nbdkit(t, 'file', image)):
        server = again(t, below)
        extents = json.loads(t.run('nbdinfo', '--json', '--map', server.uri).stdout)
        equal([(e['offset'], e['length'], e['type']) for e in extents],
              [(0, 2 * MIB, 3), (2 * MIB, MIB, 0), (3 * MIB, 5 * MIB, 3)], 'the map')
        server.stop()


def test_a_dirty_bitmap_in_the_place_of_the_allocation(t):
    image = t.path('disk.qcow2')
    t.run('qemu-img', 'create', '-f', 'qcow2', image, '4M')
    t.run('qemu-img', 'bitmap', '--add', '-g', '64k', image, 'b')
    t.run('qemu-io', '-c', 'write 1M 128k', image)
    qemu = Server(t, ['-t', '-e', '0', '-f', 'qcow2', '-B', 'b', image], 'qemu-nbd', socket_path=t.path('qemu.sock'))
    server = again_with(t, file__server__type='unix', file__server__path=qemu.socket,
                        file__x_dirty_bitmap='qemu:dirty-bitmap:b')
    extents = json.loads(t.run('nbdinfo', '--json', '--map', server.uri).stdout)
    equal([(e['offset'], e['length'], e['type']) for e in extents],
          [(0, MIB, 0), (MIB, 128 * KIB, 1), (MIB + 128 * KIB, 3 * MIB - 128 * KIB, 0)], 'the map')
    server.stop()


def test_several_connections(t):
    image = t.image('disk', SIZE)
    below = t.serve(image)
    before = below.open_files()
    server = again_with(t, file__server__type='unix', file__server__path=below.socket, file__connections=8)
    wait_until(lambda: below.open_files() >= before + 8, 'there are eight connections')
    t.run('nbdcopy', server.uri, t.path('copy'))
    equal(digest(t.path('copy')), digest(image), 'the digest of the copy')
    server.stop()
    wait_until(lambda: below.open_files() == before, 'all have been closed')


class Writer(threading.Thread):
    """Writes and reads back blocks of its own for as long as it is told to; `wrong` is what has gone wrong."""

    def __init__(self, server, number):
        super().__init__(daemon=True)
        self.client = RawNbd.connected(server.address)
        self.number, self.rounds, self.stop, self.wrong = number, 0, False, None

    def run(self):
        try:
            while not self.stop:
                self.rounds += 1
                for block in range(16):
                    offset = (self.number * 16 + block) * 4096
                    data = bytes([self.rounds % 256]) * 4096
                    error = self.client.write(offset, data)
                    if error:
                        raise AssertionError(f'a write failed: {error}')
                    if self.client.read(offset, 4096) != data:
                        raise AssertionError(f'round {self.rounds}: not what was written')
        except (AssertionError, Closed, OSError) as e:
            self.wrong = e


def restart_under_load(t, number, **options):
    image = t.image('disk', SIZE)
    sock = t.path('below.sock')

    def start():
        return Server(t, ['-t', '-e', '0', '-f', 'raw', image], socket_path=sock)
    below = start()
    server = again_with(t, file__server__type='unix', file__server__path=sock, file__reconnect_delay=60, **options)
    writers = [Writer(server, n) for n in range(4)]
    for writer in writers:
        writer.start()
    for _ in range(3):
        seen = [writer.rounds for writer in writers]
        wait_until(lambda: all(w.wrong or w.rounds > r + 3 for w, r in zip(writers, seen)), 'the writers get on')
        below.process.send_signal(number)
        below.process.wait(60)
        sock.unlink(missing_ok=True)
        below = start()
    seen = [writer.rounds for writer in writers]
    wait_until(lambda: all(w.wrong or w.rounds > r + 3 for w, r in zip(writers, seen)), 'the writers get on')
    for writer in writers:
        writer.stop = True
    for writer in writers:
        writer.join(60)
        check(writer.wrong is None, f'a writer: {writer.wrong}')
    server.stop()
    below.stop()


def test_a_server_that_is_killed_and_started_again_goes_unnoticed(t):
    restart_under_load(t, signal.SIGKILL)


def test_a_server_that_is_stopped_and_started_again_goes_unnoticed(t):
    restart_under_load(t, signal.SIGTERM)


def test_with_several_connections_too(t):
    restart_under_load(t, signal.SIGTERM, file__connections=4)


def test_without_a_delay_requests_fail_while_it_is_away(t):
    image, sock = t.image('disk', MIB), t.path('below.sock')
    below = Server(t, ['-t', '-e', '0', '-f', 'raw', image], socket_path=sock)
    server = again(t, below.uri)
    with RawNbd.connected(server.address) as client:
        equal(client.request(CMD_READ, 0, 512).error, 0, 'the error of a read')
        below.stop()
        wait_until(lambda: client.request(CMD_READ, 0, 512).error == EIO, 'reads fail with EIO')
        below = Server(t, ['-t', '-e', '0', '-f', 'raw', image], socket_path=sock)
        wait_until(lambda: client.request(CMD_READ, 0, 512).error == 0, 'reads succeed again')
    server.stop()
    below.stop()


def test_machine_drives_and_nodes(t):
    image = t.image('disk', MIB)
    below = t.serve(image, '-x', 'e')
    machine = t.machine('-drive', f'if=none,id=d,format=raw,file=nbd+unix:///e?socket={below.socket}',
                        '-blockdev', f'driver=nbd,node-name=n,export=e,server.type=unix,server.path={below.socket}')
    nodes = {n['node-name']: n for n in machine.qmp.command('query-named-block-nodes')}
    equal(nodes['n']['file'], f'nbd+unix:///e?socket={below.socket}', 'the file name of the node')
    equal(nodes['n']['drv'], 'nbd', 'the driver of the node')
    machine.qmp.command('nbd-server-start', addr={'type': 'unix', 'data': {'path': str(t.path('front.sock'))}})
    for export in ('d', 'n'):
        machine.qmp.command('nbd-server-add', device=export)
        with RawNbd.connected(str(t.path('front.sock')), export.encode()) as client:
            equal(client.read(4096, 4096), image.read_bytes()[4096:8192], 'what is read')
    machine.qmp.command('nbd-server-stop')
    machine.qmp.command('blockdev-add', **{'driver': 'nbd', 'node-name': 'm', 'export': 'e', 'reconnect-delay': 5,
                                           'server': {'type': 'unix', 'path': str(below.socket)}})
    machine.qmp.command('blockdev-del', **{'node-name': 'm'})
    machine.quit()
    below.stop()


if __name__ == '__main__':
    main()
