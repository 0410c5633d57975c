"""What the functional tests share: TAP, a private folder, and programs that are started, waited for and ended.

A test program defines functions test_...(t), which are the tests, named for the promise they check, and ends with
`main()`. Each gets a Test of its own: a folder that is removed afterwards, and the processes that it has started,
which are killed afterwards, also when the test program itself is killed. A test fails by raising; skip() skips it.

    ASHLAR_BUILD      the build folder whose programs are tested (meson sets it; default: build/)
    ASHLAR_NBD        another NBD server with qemu-nbd's options in the place of ashlar-nbd, to test the tests:
                      ASHLAR_NBD=qemu-nbd tests/functional/nbd-copy.py
    ASHLAR            likewise: ASHLAR=qemu-system-x86_64 tests/functional/qmp-block.py
    ASHLAR_SANITIZER  meson's b_sanitize
    ASHLAR_TEST_SEED  the seed of random data and choices that a failed run has printed
"""
import ctypes
import hashlib
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from qmp import PATIENCE, Qmp

KIB, MIB = 1 << 10, 1 << 20
BUILD = Path(os.environ.get('ASHLAR_BUILD', Path(__file__).resolve().parent.parent.parent / 'build')).resolve()
# The distribution's python3, which has libnbd's module, and its daemons.
PATH = f'/usr/bin:/bin:/usr/sbin:/sbin:{os.environ["PATH"]}'

libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class Skip(Exception):
    pass


class CommandFailed(AssertionError):
    pass


def skip(reason):
    raise Skip(reason)


def diag(text):
    for line in str(text).rstrip().splitlines():
        print(f'# {line}', flush=True)


def equal(actual, expected, what='the value'):
    if actual != expected:
        raise AssertionError(f'{what} is {shorten(actual)}, not {shorten(expected)}')


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def contains(text, part, what='the output'):
    if part not in text:
        raise AssertionError(f'{what} has no {part!r}:\n{text}')


def shorten(value):
    text = repr(value)
    return text if len(text) <= 400 else f'{text[:400]}... ({len(text)} characters)'


def wait_until(condition, what, patience=PATIENCE):
    """Polls until condition() is true and returns its value."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f'after {patience} s: not yet: {what}')
        time.sleep(0.01)
    return value


def program(name):
    """The path of a program: one of ours from the build folder, another from $PATH; skips the test without it."""
    if name.startswith('ashlar'):
        override = os.environ.get(name.upper().replace('-', '_'))
        if not override:
            return str(BUILD / 'tools' / name)
        name = override
    found = shutil.which(name, path=PATH)
    return found or skip(f'{name} is not installed')


def qemu_in_our_place():
    return any('qemu' in os.environ.get(name, '') for name in ('ASHLAR', 'ASHLAR_NBD'))


def sanitized():
    """Whether our programs were built with a sanitizer, under which memory and time are no measure."""
    return os.environ.get('ASHLAR_SANITIZER', 'none') != 'none'


def digest(path):
    with open(path, 'rb') as f:
        return hashlib.file_digest(f, 'sha256').hexdigest()


def open_files(number):
    """Allows that many open files, here and in what is started, if this is allowed to us. Returns how many are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < number and os.geteuid() == 0:
        hard = number
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(number, hard)), hard))
    except (OSError, ValueError):
        pass
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Server:
    """An NBD server in the foreground, ready for connections."""

    def __init__(self, test, arguments, name='ashlar-nbd', socket_path=None, port=None, export=''):
        self.test, self.socket, self.port, self.export = test, socket_path, port, export
        self.pid_file = test.path(f'{name}-{test.count()}.pid')
        self.log = test.path(f'{name}-{test.count()}.log')
        where = ['-k', str(socket_path)] if socket_path else ['-b', '127.0.0.1', '-p', str(port)]
        command = [program(name), *where, '--pid-file', str(self.pid_file), *map(str, arguments)]
        self.process = test.start(command, log=self.log)
        wait_until(lambda: self.pid_file.exists() and self.pid_file.read_text().strip() or self.ended(),
                   f'{name} has written its pid file')
        if self.ended():
            raise AssertionError(f'{" ".join(command)}: ended with {self.process.returncode}: {self.log.read_text()}')

    def ended(self):
        return self.process.poll() is not None

    @property
    def pid(self):
        return self.process.pid

    @property
    def uri(self):
        if self.socket:
            return f'nbd+unix:///{self.export}?socket={self.socket}'
        return f'nbd://127.0.0.1:{self.port}/{self.export}'

    @property
    def address(self):
        return str(self.socket) if self.socket else ('127.0.0.1', self.port)

    def memory(self):
        """The bytes of memory that it has set aside: not the program's code, its own only while nobody else runs it."""
        fields = dict(line.split(':') for line in Path(f'/proc/{self.pid}/smaps_rollup').read_text().splitlines()[1:])
        return int(fields['Anonymous'].split()[0]) * KIB

    def open_files(self):
        return len(os.listdir(f'/proc/{self.pid}/fd'))

    def check_alive(self):
        if self.ended():
            raise AssertionError(f'the server has ended with {self.process.returncode}')

    def wait(self, status=0):
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError('the server does not end') from None
        equal(self.process.returncode, status, "the server's exit status")

    def stop(self):
        """Ends it in the orderly way, which must succeed."""
        self.check_alive()
        self.process.send_signal(signal.SIGTERM)
        self.wait()


class Machine:
    """`ashlar` with a QMP socket, and a client that has negotiated."""

    def __init__(self, test, arguments):
        # QEMU serves one client at a time on each socket, we any number.
        number = 8 if qemu_in_our_place() else 1
        self.sockets = [test.path(f'qmp-{test.count()}.sock') for _ in range(number)]
        self.log = test.path(f'ashlar-{test.count()}.log')
        more = ['-nodefaults', '-display', 'none'] if qemu_in_our_place() else []
        for path in self.sockets:
            more += ['-qmp', f'unix:{path},server=on,wait=off']
        self.process = test.start([program('ashlar'), '-M', 'none', *more, *arguments], log=self.log)
        wait_until(self.listens, 'the QMP socket takes connections')
        self.qmp = self.connect()

    def listens(self):
        if self.process.poll() is not None:
            raise AssertionError(f'{" ".join(self.process.args)}: ended with {self.process.returncode}: '
                                 f'{self.log.read_text()}')
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.sockets[-1])) == 0

    def connect(self, **more):
        """Another client."""
        return Qmp(self.sockets[0] if len(self.sockets) == 1 else self.sockets.pop(0), **more)

    def quit(self):
        """Ends it by QMP, in the orderly way."""
        self.qmp.command('quit')
        equal(self.process.wait(PATIENCE), 0, "the machine's exit status")
        self.qmp.close()


class Test:
    def __init__(self, name, seed):
        self.name = name
        self.dir = Path(tempfile.mkdtemp(prefix='ashlar-test-'))
        self.random = random.Random(f'{seed}/{name}')
        self._counter = 0
        self._processes = []
        self._at_end = []

    # Files

    def count(self):
        self._counter += 1
        return self._counter

    def path(self, name):
        return self.dir / name

    def image(self, name, size, data=True):
        """A raw image: random data of which some is zero and some a hole, or one hole."""
        path = self.path(name)
        with open(path, 'wb') as f:
            f.truncate(size)
            if data:
                chunk = 64 * KIB
                for at in range(0, size, chunk):
                    kind = self.random.randrange(4) if at else 1
                    length = min(chunk, size - at)
                    if kind:
                        f.seek(at)
                        f.write(self.random.randbytes(length) if kind > 1 or not at else bytes(length))
        return path

    # Processes

    def start(self, command, log=None, env=None, **more):
        out = open(log, 'w') if log else subprocess.DEVNULL
        process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=subprocess.STDOUT, cwd=self.dir, preexec_fn=die_with_parent,
                                   env=self.environment(env), **more)
        if log:
            out.close()
        self._processes.append((process, log))
        return process

    def environment(self, more=None):
        return {**os.environ, 'PATH': PATH, 'LC_ALL': 'C.UTF-8', **(more or {})}

    def run(self, *command, status=0, input=None, timeout=PATIENCE, env=None, text=True, **more):
        """Runs a client to its end and returns its output and errors; its exit status must be `status` (None: any)."""
        command = [program(str(command[0])), *map(str, command[1:])]
        try:
            done = subprocess.run(command, input=input, stdin=None if input is not None else subprocess.DEVNULL,
                                  capture_output=True, text=text, timeout=timeout, cwd=self.dir,
                                  preexec_fn=die_with_parent, env=self.environment(env), **more)
        except subprocess.TimeoutExpired as e:
            raise CommandFailed(f'{" ".join(command)}: does not end within {timeout} s\n{e.stdout}\n{e.stderr}') from None
        if status is not None and done.returncode != status:
            raise CommandFailed(f'{" ".join(command)}: status {done.returncode}\n{done.stdout}\n{done.stderr}')
        return done

    def serve(self, image, *options, tcp=False, format='raw', **more):
        """ashlar-nbd with this image for any number of clients."""
        where = {'port': free_port()} if tcp else {'socket_path': self.path(f'nbd-{self.count()}.sock')}
        chosen = ['-f', format] if format else []
        return Server(self, ['-t', '-e', '0', *chosen, *options, image], **where, **more)

    def machine(self, *arguments):
        return Machine(self, list(map(str, arguments)))

    def at_end(self, action):
        self._at_end.append(action)

    def adopt(self, pid):
        """Takes care of a process that has become a daemon."""
        self.at_end(lambda: kill(pid))

    def clean_up(self, show_logs):
        for action in reversed(self._at_end):
            action()
        for process, log in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if show_logs and log and log.exists() and log.read_text().strip():
                diag(f'{Path(process.args[0]).name} (status {process.returncode}) said:')
                diag(log.read_text()[-4000:])
        shutil.rmtree(self.dir, ignore_errors=True)


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def main():
    tests = [(name[5:].replace('_', '-'), f) for name, f in vars(sys.modules['__main__']).items()
             if name.startswith('test_')]
    chosen = [(name, f) for name, f in tests if len(sys.argv) < 2 or name in sys.argv[1:]]
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    seed = os.environ.get('ASHLAR_TEST_SEED') or str(random.SystemRandom().randrange(1 << 32))
    print(f'1..{len(chosen)}')
    diag(f'ASHLAR_TEST_SEED={seed}')
    failed = False
    for number, (name, test) in enumerate(chosen, 1):
        t = Test(name, seed)
        show_logs = False
        try:
            test(t)
            result = f'ok {number} {name}'
        except Skip as reason:
            result = f'ok {number} {name} # SKIP {reason}'
        except Exception:
            diag(traceback.format_exc())
            result = f'not ok {number} {name}'
            show_logs = failed = True
        finally:
            t.clean_up(show_logs)
        print(result, flush=True)
    sys.exit(failed)
