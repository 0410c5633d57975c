#!/usr/bin/python3
"""Character devices: where the serial port, monitors and QMP are."""
import os
import re
import select
import signal
import socket
import termios
import time

from ashlar_test import PATIENCE, check, contains, equal, main, program, qemu_in_our_place, skip, wait_until
from guest import build
from qmp import Qmp

NAME = 'qemu' if qemu_in_our_place() else 'ashlar'
PROMPT = f'({NAME}) '
CONTROL_A = '\x01'


class Peer:
    """Who is at the other end of a chardev: a connected socket, or a pseudo-terminal."""

    def __init__(self, fd, keep=None):
        self.fd, self.keep, self.text = fd, keep, ''

    @classmethod
    def at_socket(cls, path):
        s = socket.socket(socket.AF_UNIX)

        def connected():
            try:
                s.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            return True
        wait_until(connected, f'somebody listens at {path}')
        return cls(s.fileno(), s)

    def expect(self, part):
        """Until it is there; what came until then."""
        deadline = time.monotonic() + PATIENCE
        while part not in self.text:
            if not select.select([self.fd], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError(f'no {part!r} in {self.text!r}')
            data = os.read(self.fd, 65536)
            if not data:
                raise AssertionError(f'the end without {part!r}: {self.text!r}')
            self.text += data.decode(errors='replace').replace('\r', '')
        at = self.text.index(part) + len(part)
        before, self.text = self.text[:at], self.text[at:]
        return before

    def type(self, text):
        os.write(self.fd, text.encode())


def start(t, *arguments, machine=('-M', 'none')):
    log = t.path(f'log-{t.count()}')
    process = t.start([program('ashlar'), *machine, '-nodefaults', '-display', 'none', *map(str, arguments)], log=log)
    return process, log


def virt(t, guest='protection'):
    return ['-M', 'virt', '-m', '64', '-bios', 'none', '-kernel', str(build(t, guest))]


def ended(process, status=0):
    equal(process.wait(PATIENCE), status, 'the exit status')


def test_a_monitor_greets_who_comes_and_then_does_what_is_typed(t):
    path = t.path('monitor')
    process, _ = start(t, '-monitor', f'unix:{path},server=on,wait=off')
    for _ in range(2):
        peer = Peer.at_socket(path)
        greeting = peer.expect(PROMPT)
        contains(greeting, "'help'" if NAME == 'ashlar' else "type 'help'")
        peer.type('info status\r')
        contains(peer.expect(PROMPT), 'VM status: ')
        peer.keep.close()
    peer = Peer.at_socket(path)
    peer.expect(PROMPT)
    peer.type('quit\r')
    ended(process)
    check(not path.exists(), 'the socket is removed')


def test_qmp_is_at_any_chardev(t):
    path, other = t.path('a'), t.path('b')
    process, _ = start(t, '-chardev', f'socket,id=c0,path={path},server=on,wait=off',
                       '-mon', 'chardev=c0,mode=control,pretty=on', '-qmp', f'unix:{other},server=on,wait=off')
    peer = Peer.at_socket(path)
    contains(peer.expect('\n}\n'), '\n    "QMP": {')
    qmp = Qmp(other)
    equal(qmp.command('query-status')['running'], True, 'whether it runs')
    qmp.command('quit')
    ended(process)


def pty_of(log, label):
    found = wait_until(lambda: re.search(rf'char device redirected to (\S+) \(label {label}\)', log.read_text()),
                       'the name of the pseudo-terminal')
    return found[1]


def open_pty(name):
    return Peer(os.open(name, os.O_RDWR | os.O_NOCTTY))


def test_a_serial_port_and_qmp_at_pseudo_terminals(t):
    process, log = start(t, '-S', '-serial', 'chardev:s', '-chardev', 'pty,id=s', '-qmp', 'pty',
                         machine=virt(t, 'echo'))
    qmp = open_pty(pty_of(log, 'compat_monitor0'))
    qmp.expect('"QMP"')
    name = pty_of(log, 's')
    qmp.type('{"execute": "qmp_capabilities"} {"execute": "cont"}\n')
    qmp.expect('"RESUME"')
    for i in range(20):  # somebody comes and goes
        serial = open_pty(name)
        check(not termios.tcgetattr(serial.fd)[3] & termios.ECHO, 'it is raw')
        serial.type(f'hello{i}')
        serial.expect(f'HELLO{i}')
        os.close(serial.fd)
    serial = open_pty(name)
    serial.type('q')
    ended(process)


def test_one_terminal_for_serial_port_and_monitor(t):
    path = t.path('terminal')
    process, _ = start(t, '-S', '-chardev', f'socket,id=c,path={path},server=on,wait=off,mux=on',
                       '-serial', 'chardev:c', '-mon', 'c', machine=virt(t))
    peer = Peer.at_socket(path)
    peer.type(CONTROL_A + 'h')
    peer.expect('C-a x')
    peer.type(CONTROL_A + 'c')
    peer.expect(PROMPT)
    peer.type('info status\r')
    contains(peer.expect(PROMPT), 'VM status: paused (prelaunch)\n')
    peer.type('cont\r')
    peer.expect('CSRs:')
    peer.expect('done\n')
    ended(process)


def test_named_pipes_are_for_serial_port_and_qmp(t):
    for name in ('s.in', 's.out', 'q.in', 'q.out'):
        os.mkfifo(t.path(name))
    process, _ = start(t, '-S', '-chardev', f'pipe,id=s,path={t.path("s")}', '-serial', 'chardev:s',
                       '-qmp', f'pipe:{t.path("q")}', machine=virt(t, 'echo'))

    class Pipes(Peer):
        def type(self, text):
            with open(self.keep, 'w') as f:
                f.write(text)

    qmp, serial = (Pipes(os.open(t.path(f'{name}.out'), os.O_RDWR), t.path(f'{name}.in')) for name in 'qs')
    qmp.expect('"QMP"')
    qmp.type('{"execute": "qmp_capabilities"} {"execute": "cont"}\n')
    qmp.expect('"RESUME"')
    for word in ('hello', 'again'):  # somebody comes and goes
        serial.type(word)
        serial.expect(word.upper())
    serial.type('q')
    ended(process)


def test_files_are_written_anew_or_continued(t):
    file = t.path('file')
    for options, times in (('', 1), (',append=on', 2), ('', 1)):
        process, _ = start(t, '-chardev', f'file,id=f,path={file}{options}', '-serial', 'chardev:f', machine=virt(t))
        ended(process)
        equal(file.read_text().count('done\n'), times, f'what is in the file with {options!r}')


def test_a_signal_ends_the_waiting_for_a_client(t):
    if NAME == 'qemu':
        skip('QEMU dies of it')
    for arguments in (['-serial', f'unix:{t.path("s")},server=on'], ['-qmp', f'unix:{t.path("s")},server=on'],
                      ['-chardev', f'socket,id=c,path={t.path("s")},server=on', '-mon', 'c']):
        process, log = start(t, *arguments, machine=virt(t))
        wait_until(lambda log=log: 'waiting for connection on' in log.read_text(), 'it waits')
        process.send_signal(signal.SIGTERM)
        ended(process)


def test_what_cannot_be_is_refused(t):
    null = ['-chardev', 'null,id=a']
    for arguments, why in (
            ([*null, *null], "Duplicate ID 'a' for chardev"),
            (['-chardev', 'null'], 'id'),
            (['-chardev', 'telepathy,id=a'], "'telepathy' is not a valid char driver name"),
            (['-chardev', 'null,id=a,path=/tmp/x'], 'path'),
            (['-chardev', 'pipe,id=a,path=/nowhere/at/all'], 'not open'),
            (['-mon', 'chardev=b'], 'chardev "b" not found'),
            ([*null, '-mon', 'a', '-mon', 'a'], 'in use'),
            (['-chardev', 'stdio,id=a', '-chardev', 'stdio,id=b'],
             'cannot use stdio by multiple character devices'),
            (['-chardev', 'socket,id=a,path=/tmp/x,wait=off', '-mon', 'a'], "'wait' option is incompatible")):
        contains(t.run('ashlar', '-M', 'none', '-nodefaults', *arguments, status=1).stderr, why)
    if NAME == 'qemu':
        return
    kernel = virt(t)
    for arguments, why in (
            ([*null, '-mon', 'a,mode=control'], 'QMP needs one that something comes from'),
            (['-chardev', 'stdio,id=a,mux=on', '-mon', 'a,mode=control'], 'mux=on'),
            (['-monitor', 'stdio', '-daemonize'], 'cannot use stdio with -daemonize'),
            ([*kernel, *null, '-device', 'virtconsole,chardev=a'], "No 'virtio-serial-bus' bus found"),
            ([*kernel, '-device', 'virtio-serial-device', '-device', 'virtconsole,chardev=b'],
             'chardev "b" not found'),
            ([*kernel, *null, '-device', 'virtio-serial-device,id=s,bus=virtio-mmio-bus.0',
              '-device', 'virtconsole,chardev=a,bus=virtio-mmio-bus.1'], "can't go on virtio-mmio-bus bus"),
            ([*kernel, *null, '-chardev', 'null,id=b', '-device', 'virtio-serial-device,id=s',
              '-device', 'virtconsole,chardev=a,bus=s.0', '-device', 'virtconsole,chardev=b,bus=s.0'], 'is full'),
            ([*kernel, '-serial', 'null', '-serial', 'null'], 'one serial port'),
            (['-M', 'none', '-serial', 'file:/dev/null'], '-M virt')):
        contains(t.run('ashlar', '-nodefaults', *arguments, status=1).stderr, why)


if __name__ == '__main__':
    main()
