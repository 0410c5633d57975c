"""A guest of our own for the tests of the machine: a small Linux, and the first process that does what a test says.

The kernel is built once, in the build folder (scripts/build-guest-kernel); the tests are skipped where the cross
compiler or the kernel's sources are not installed.
"""
import fcntl
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from ashlar_test import BUILD, PATIENCE, equal, program, qemu_in_our_place, skip, wait_until

SOURCE = Path(__file__).resolve().parent.parent.parent
COMPILER = 'riscv64-linux-gnu-gcc'
LIBC = Path('/usr/riscv64-linux-gnu/lib/libc.a')


def kernel():
    """The path of the kernel's image."""
    done = subprocess.run([SOURCE / 'scripts' / 'build-guest-kernel', BUILD], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    if done.returncode == 3:
        skip(f'THE GUEST CANNOT BE BUILT: {done.stderr.strip()}')
    if done.returncode:
        raise AssertionError(f'the kernel cannot be built: {done.stderr}')
    return done.stdout.splitlines()[-1]


def initrd():
    """The path of the initial RAM disk with our init."""
    if not shutil.which(COMPILER) or not LIBC.exists():
        skip(f'THE GUEST CANNOT BE BUILT: {COMPILER} or its static libc is not installed')
    folder = BUILD / 'guest'
    folder.mkdir(exist_ok=True)
    with open(folder / 'init.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        source, init, archive = SOURCE / 'tests/guest/init.c', folder / 'init', folder / 'initrd'
        if not archive.exists() or archive.stat().st_mtime < source.stat().st_mtime:
            subprocess.run([COMPILER, '-O2', '-Wall', '-Werror', '-static', '-s', '-o', init, source], check=True)
            subprocess.run([sys.executable, SOURCE / 'tests/guest/make-initrd.py', init, archive], check=True)
    return str(archive)


def linux(script=None, append=''):
    """The arguments that boot Linux, which then does what `script` says, a list of commands of tests/guest/init.c."""
    words = ['console=ttyS0', 'quiet', 'panic=-1', append]
    if script:
        words.append('script=' + ';'.join(command.replace(' ', '+') for command in script))
    return ['-kernel', kernel(), '-initrd', initrd(), '-append', ' '.join(words)]


def emulator(*arguments):
    """The command that runs the machine: ours, or QEMU's in our place."""
    if qemu_in_our_place():
        return [program('qemu-system-riscv64'), '-M', 'virt', '-display', 'none', '-global',
                'virtio-mmio.force-legacy=false', *map(str, arguments)]
    return [program('ashlar'), '-M', 'virt', '-display', 'none', *map(str, arguments)]


def disk(path, number=0):
    """The arguments for a raw image that is a disk of the guest."""
    return ['-drive', f'if=none,id=d{number},format=raw,file={path}',
            '-device', f'virtio-blk-device,drive=d{number}']


def run(t, *arguments, status=0, timeout=4 * PATIENCE):
    """Runs the machine to its end with what is printed on its serial port, which is returned."""
    done = subprocess.run(emulator('-no-reboot', '-monitor', 'none', '-serial', 'stdio', *arguments),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=t.dir,
                          timeout=timeout)
    text = done.stdout.decode(errors='replace').replace('\r', '')
    if done.returncode != status:
        raise AssertionError(f'the machine ends with {done.returncode}, not {status}:\n{text[-4000:]}')
    return text


def said(text):
    """What the first process has printed."""
    return re.findall(r'^init: (.*)$', text, re.MULTILINE)


def make_ext4(t, name, size):
    path = t.path(name)
    with open(path, 'wb') as f:
        f.truncate(size)
    t.run('mkfs.ext4', '-q', '-F', path)
    return path


def check_ext4(t, path):
    """What the guest has left is in order."""
    t.run('e2fsck', '-f', '-n', path)


class Console:
    """A machine whose serial port is here, or a virtio console at the chardev `console`."""

    def __init__(self, t, *arguments, virtio=False):
        self.path = t.path(f'serial-{t.count()}.sock')
        self.log = t.path(f'machine-{t.count()}.log')
        place = ['-serial', 'null', '-chardev', f'socket,id=console,path={self.path},server=on'] if virtio else [
            '-serial', f'unix:{self.path},server=on']
        self.process = t.start(emulator('-monitor', 'none', *place, *arguments), log=self.log)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        wait_until(self.connects, 'the serial port takes a connection')
        self.text = ''

    def connects(self):
        if self.process.poll() is not None:
            raise AssertionError(f'the machine has ended with {self.process.returncode}: {self.log.read_text()}')
        try:
            self.socket.connect(str(self.path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def expect(self, part):
        """Waits until it is printed; returns what was until then."""
        while part not in self.text:
            data = self.socket.recv(65536)
            if not data:
                raise AssertionError(f'the machine has ended without {part!r}:\n{self.text[-4000:]}')
            self.text += data.decode(errors='replace')
        at = self.text.index(part) + len(part)
        before, self.text = self.text[:at], self.text[at:]
        return before

    def type(self, text):
        self.socket.sendall(text.encode())

    def do(self, command):
        """A command of the first process; returns what it has printed."""
        self.type(command + '\n')
        return said(self.expect('init: done').replace('\r', ''))[:-1]

    def wait(self, status=0):
        equal(self.process.wait(PATIENCE), status, "the machine's exit status")
