#!/usr/bin/python3
"""The program itself: how it starts and ends, where it listens, and what it says when it cannot."""
import fcntl
import json
import os
import signal
import socket
import struct

from ashlar_test import (KIB, MIB, check, contains, equal, free_port, main, program, qemu_in_our_place, skip,
                         wait_until)
from raw_nbd import CMD_READ, CMD_TRIM, EPERM, Closed, RawNbd, request_bytes

US = 'ashlar-nbd'
VMADDR_CID_LOCAL = 1


def refused(t, *arguments):
    """Our program does not start with these arguments; returns what it says."""
    return t.run(US, '-k', t.path('refused.sock'), *arguments, status=1).stderr


def wait_and_connect(address):
    def connected():
        try:
            return RawNbd(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
    return wait_until(connected, f'somebody listens at {address}')


def test_it_ends_with_the_last_client_unless_told_to_stay(t):
    image = t.image('disk', MIB)
    sock = str(t.path('s'))
    process = t.start([program(US), '-f', 'raw', '-e', '2', '-k', sock, image], log=t.path('log'))
    first, second = wait_and_connect(sock), RawNbd(sock)
    for client in (first, second):
        client.greet()
        client.go()
    first.disconnect()
    equal(second.read(0, 512), image.read_bytes()[:512], 'what the second client reads')
    second.disconnect()
    equal(process.wait(60), 0, 'the exit status')
    check(not os.path.exists(sock), 'the socket is removed')


def test_no_more_clients_at_once_than_allowed(t):
    server = t.serve(t.image('disk', MIB), '-e', '1')
    first = RawNbd.connected(server.address)
    second = RawNbd(server.address)
    second.socket.settimeout(0.5)
    try:
        second.greet()
        raise AssertionError('the second client is greeted')
    except (TimeoutError, ConnectionError):
        pass
    second.close()
    first.disconnect()

    def served():
        try:
            return RawNbd.connected(server.address)
        except (Closed, ConnectionError):
            return None
    wait_until(served, 'another client is served when the first has left').disconnect()
    server.stop()


def test_fork_returns_when_it_listens(t):
    image, sock, pid_file = t.image('disk', MIB), str(t.path('s')), t.path('pid')
    done = t.run(US, '--fork', '--pid-file', pid_file, '-t', '-f', 'raw', '-k', sock, image)
    pid = int(pid_file.read_text())
    t.adopt(pid)
    equal(done.stdout + done.stderr, '', 'what is printed')
    with RawNbd.connected(sock) as client:
        client.read(0, 512)
    os.kill(pid, signal.SIGTERM)
    equal(os.waitpid(pid, 0), (pid, 0), 'the pid and status')


def test_fork_reports_why_it_could_not_start(t):
    done = t.run(US, '--fork', '-f', 'raw', '-k', t.path('s'), t.path('missing'), status=1)
    contains(done.stderr, 'missing')
    contains(done.stderr, 'No such file or directory')


def test_it_listens_on_ipv4_and_ipv6(t):
    image = t.image('disk', MIB)
    for host, family in (('127.0.0.1', socket.AF_INET), ('::1', socket.AF_INET6)):
        port = free_port()
        process = t.start([program(US), '-t', '-f', 'raw', '-b', host, '-p', port, image], log=t.path(f'log{family}'))
        shown = f'[{host}]' if ':' in host else host

        def answers():
            return process.poll() is not None or \
                t.run('nbdinfo', '--size', f'nbd://{shown}:{port}', status=None).stdout == f'{MIB}\n'
        wait_until(answers, f'{host} answers')
        process.send_signal(signal.SIGTERM)
        equal(process.wait(60), 0, 'the exit status')


def test_a_socket_that_systemd_has_opened(t):
    image, path = t.image('disk', MIB), str(t.path('s'))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(5)
    os.set_inheritable(listener.fileno(), True)
    # LISTEN_PID names the process that execs, which only it knows.
    script = f'exec 3<&{listener.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
    process = t.start(['sh', '-c', script, 'sh', program(US), '-t', '-f', 'raw', image], log=t.path('log'),
                      pass_fds=[listener.fileno()])
    with RawNbd.connected(path) as client:
        equal(client.read(0, 512), image.read_bytes()[:512], 'the data')
    process.send_signal(signal.SIGTERM)
    equal(process.wait(60), 0, 'the exit status')


def test_over_vsock(t):
    port = 20000 + t.random.randrange(40000)
    try:
        with socket.socket(socket.AF_VSOCK) as listener, socket.socket(socket.AF_VSOCK) as client:
            listener.bind((socket.VMADDR_CID_ANY, port))
            listener.listen(1)
            client.settimeout(2)
            client.connect((VMADDR_CID_LOCAL, port))
    except OSError as e:
        skip(f'vsock does not connect to this machine itself (is there a module vsock_loopback?): {e}')
    image = t.image('disk', MIB)
    t.machine('-drive', f'if=none,id=d,format=raw,file={image}', '-nbd', f'vsock:any:{port},drive=d')
    t.run('ashlar-img', 'compare', '-f', 'raw', '-F', 'raw', f'nbd+vsock://{VMADDR_CID_LOCAL}:{port}/', image)
    refused = t.run('ashlar-img', 'info', f'nbd+vsock://{VMADDR_CID_LOCAL}:1/', status=1)
    contains(refused.stderr, 'vsock', 'standard error')


def test_it_lists_the_exports_of_another_server(t):
    server = t.serve(t.image('disk', MIB), '-x', 'one', '-D', 'the first')
    out = t.run(US, '-L', '-k', server.socket).stdout
    for part in ('exports available: 1', "export: 'one'", 'the first', str(MIB), 'base:allocation'):
        contains(out, part)
    server.stop()


def test_image_options_name_any_tree(t):
    image = t.image('disk', MIB)
    server = t.serve(f'driver=raw,offset={64 * KIB},size={128 * KIB},file.driver=file,file.filename={image}',
                     '--image-opts', format=None)
    with RawNbd.connected(server.address) as client:
        equal(client.size, 128 * KIB, 'the size')
        equal(client.read(0, 512), image.read_bytes()[64 * KIB:][:512], 'the data')
    server.stop()


def test_a_json_name(t):
    image = t.image('disk', MIB)
    server = t.serve('json:' + json.dumps({'driver': 'raw', 'file': {'driver': 'file', 'filename': str(image)}}),
                     format=None)
    with RawNbd.connected(server.address) as client:
        equal(client.read(512, 512), image.read_bytes()[512:1024], 'the data')
    server.stop()


def test_a_probed_raw_image_cannot_become_another_format(t):
    image = t.path('disk')
    image.write_bytes(bytes(MIB))
    server = t.serve(image, format=None)
    with RawNbd.connected(server.address) as client:
        equal(client.write(0, b'QFI\xfb\0\0\0\3' + bytes(504)), EPERM, 'the error of writing a header of qcow2')
        equal(client.write(0, b'just text'.ljust(512, b' ')), 0, 'the error of writing something else')
        equal(client.write(512, b'QFI\xfb\0\0\0\3' + bytes(504)), 0, 'the error of writing it elsewhere')
    server.stop()
    contains(server.log.read_text(), 'format')
    equal(image.read_bytes()[:9], b'just text', 'the first sector')


def test_cache_and_aio_modes_keep_unaligned_data(t):
    image = t.image('disk', MIB)
    for cache, aio in [('none', 'native'), ('none', 'io_uring'), ('directsync', 'threads'), ('writethrough', 'threads'),
                       ('writeback', 'io_uring'), ('unsafe', 'threads')]:
        data = bytearray(image.read_bytes())
        server = t.serve(image, f'--cache={cache}', f'--aio={aio}')
        with RawNbd.connected(server.address) as client:
            for _ in range(40):
                at = t.random.randrange(MIB // 512 - 20) * 512
                piece = t.random.randbytes(t.random.randrange(1, 20) * 512)
                equal(client.write(at, piece), 0, f'the error of a write with cache={cache}, aio={aio}')
                data[at:at + len(piece)] = piece
            at = t.random.randrange(MIB // 512 - 9) * 512
            equal(client.read(at, 4608), bytes(data[at:at + 4608]), 'what is read')
        server.stop()
        equal(image.read_bytes() == data, True, f'the image with cache={cache}, aio={aio} is as written: this')


def test_discard_and_detect_zeroes_free_space_only_when_told(t):
    for options, trimmed, zeroed in [([], False, False), (['--discard=ignore'], False, False),
                                     (['--discard=unmap'], True, False),
                                     (['--discard=unmap', '--detect-zeroes=unmap'], True, True)]:
        image = t.path('disk')
        image.write_bytes(b'x' * MIB)
        server = t.serve(image, *options)
        with RawNbd.connected(server.address) as client:
            before = image.stat().st_blocks
            equal(client.request(CMD_TRIM, 0, 64 * KIB).error, 0, 'the error of a trim')
            equal(image.stat().st_blocks < before, trimmed, f'that a trim frees space with {options}')
            before = image.stat().st_blocks
            equal(client.write(512 * KIB, bytes(64 * KIB)), 0, 'the error of a write of zeroes')
            equal(image.stat().st_blocks < before, zeroed, f'that zeroes free space with {options}')
            equal(client.read(512 * KIB, 64 * KIB), bytes(64 * KIB), 'the zeroes')
        server.stop()


def test_the_image_is_locked_as_qemu_locks_it(t):
    image = t.image('disk', MIB)
    server = t.serve(image)
    said = t.run('qemu-img', 'resize', '-f', 'raw', image, '2M', status=1).stderr
    contains(said, 'lock', 'what qemu-img says when it is to resize the image that we export')
    server.stop()
    t.run('qemu-img', 'resize', '-f', 'raw', image, '2M')


def test_an_image_that_somebody_else_keeps_for_himself_is_refused(t):
    image = t.image('disk', MIB)
    with open(image, 'r+b') as holder:
        # Byte 201: "while I have it open, nobody may write to it", as virtual machines do.
        lock = struct.pack('hhqqi4x', fcntl.F_RDLCK, os.SEEK_SET, 201, 1, 0)
        fcntl.fcntl(holder, fcntl.F_OFD_SETLK, lock)
        said = refused(t, '-f', 'raw', image)
        contains(said, 'lock')
        contains(said, 'disk')
        t.serve(image, '-r').stop()
    t.serve(image).stop()


def test_what_is_wrong_is_named(t):
    image = t.image('disk', MIB)
    (t.path('folder')).mkdir()
    for arguments, *parts in [
        (['-f', 'raw', t.path('missing')], 'missing', 'No such file or directory'),
        (['-f', 'raw', t.path('folder')], 'folder'),
        (['-f', 'nonsense', image], 'nonsense'),
        (['-f', 'raw', '--aio=nonsense', image], 'nonsense'),
        (['-f', 'raw', '--cache=nonsense', image], 'nonsense'),
        (['-f', 'raw', '--discard=nonsense', image], 'nonsense'),
        (['-f', 'raw', '--detect-zeroes=nonsense', image], 'nonsense'),
        (['-f', 'raw', '-e', 'many', image], 'many'),
        (['-f', 'raw', '-o', 'far', image], 'far'),
        (['--nonsense', image], 'nonsense'),
        (['--image-opts', f'driver=raw,file.driver=file,file.filename={image},nonsense=1'], 'nonsense'),
        (['-f', 'raw', image, image], ''),
        ([], ''),
    ]:
        said = refused(t, *arguments)
        for part in parts:
            contains(said, part, f'what is said to {arguments}')
        check(said, f'something is said to {arguments}')


def test_options_that_contradict_each_other_are_refused(t):
    image = t.image('disk', MIB)
    ours = [] if qemu_in_our_place() else [['-p', '1', '-f', 'raw', image]]
    for arguments in (*ours, ['--image-opts', '-f', 'raw', f'driver=raw,file={image}'],
                      ['-f', 'raw', '--detect-zeroes=unmap', image], ['-f', 'raw', '-n', '--cache=none', image],
                      ['-L', image], ['-L', '--fork'], ['-L', '-r']):
        check(refused(t, *arguments), f'{arguments} is refused')


def test_who_does_not_choose_an_export_in_time_is_dropped(t):
    ours_alone()
    server = t.serve(t.image('disk', MIB), '--handshake-limit=1')
    chosen, silent, greeted = (RawNbd(server.address) for _ in range(3))
    chosen.greet()
    chosen.go()
    greeted.greet()
    check(silent.is_closed_by_server(), 'who is silent is dropped')
    check(greeted.is_closed_by_server(), 'who has only greeted is dropped')
    chosen.read(0, 512)
    chosen.disconnect()
    server.stop()


def test_requests_beyond_the_limits_wait(t):
    ours_alone()
    image = t.image('disk', MIB)
    data = image.read_bytes()
    for limit in ('--max-requests=2', '--max-bytes=64k'):
        server = t.serve(image, limit)
        with RawNbd.connected(server.address) as client:
            client.send(b''.join(request_bytes(CMD_READ, i * 4096, 32768, cookie=i) for i in range(100)))
            for _ in range(100):
                reply = client.recv_reply(32768)
                equal(reply.data == data[reply.cookie * 4096:][:32768], True, 'the data is right: this')
        server.stop()


def test_connections_are_spread_over_threads(t):
    ours_alone()
    image = t.image('disk', MIB)
    data = image.read_bytes()
    for options in (['--iothreads=3'], ['--object', 'iothread,id=one', '--object', 'iothread,id=two', '--iothread=one',
                                        '--iothread=two']):
        server = t.serve(image, *options)
        clients = [RawNbd.connected(server.address) for _ in range(9)]
        for i in range(200):
            for client in clients:
                client.send_request(CMD_READ, i * 512, 4096)
            for client in clients:
                equal(client.recv_reply(4096).data, data[i * 512:][:4096], 'the data')
        for client in clients:
            client.disconnect()
        server.stop()


def ours_alone():
    if qemu_in_our_place():
        skip('qemu-nbd has no such option')


def test_help_and_version(t):
    contains(t.run(US, '--help').stdout, '--pid-file')
    contains(t.run(US, '--version').stdout, os.path.basename(program(US)))


if __name__ == '__main__':
    main()
