"""Guests: programs of tests/hw/ for the machine `virt`, which run on `ashlar` and on qemu-system-riscv64."""
import struct
import tempfile
from pathlib import Path

from ashlar_test import PATIENCE, equal, program, wait_until
from qmp import Qmp

BUILT = tempfile.TemporaryDirectory(prefix='ashlar-test-')  # for all tests of a program
SOURCE = Path(__file__).resolve().parent.parent / 'hw'
QEMU = 'qemu-system-riscv64'
LEGACY, MODERN = ('-global', 'virtio-mmio.force-legacy=true'), ('-global', 'virtio-mmio.force-legacy=false')

# What disk.c does, and features that it is to leave alone.
CHECK, LOAD, MEASURE, COMPUTE = 1, 2, 3, 4
INDIRECT, EVENT_INDEX = 1 << 28, 1 << 29
SECTOR = 512
FIRST_LOADED = 128  # the sector where LOAD begins


def build(t, name, base=0x80000000):
    """The program tests/hw/NAME.c as an ELF file, which is loaded at `base`."""
    output = Path(BUILT.name) / f'{name}.elf'
    if not output.exists():
        t.run('riscv64-linux-gnu-gcc', '-O2', '-march=rv64imac_zicsr_zifencei', '-mabi=lp64', '-mcmodel=medany',
              '-ffreestanding', '-fno-pic', '-no-pie', '-static', '-nostdlib', '-Wl,--build-id=none',
              f'-Wl,--defsym=program_base={base:#x}', '-T', SOURCE / 'virt.ld', '-o', f'{output}.new',
              SOURCE / f'{name}.c', timeout=4 * PATIENCE)
        Path(f'{output}.new').rename(output)
    return output


def task(mode, passes=1, depth=1, sectors=1, writes=False, unwanted=0):
    """Sector 0 for disk.c."""
    return struct.pack('<6IQ', 0x6b736174, mode, passes, depth, sectors, writes, unwanted).ljust(SECTOR, b'\0')


def machine(boot):
    """The arguments of a machine, of either emulator, that runs a program, or what other arguments boot."""
    if not isinstance(boot, list):
        boot = ['-bios', 'none', '-kernel', boot]
    return ['-M', 'virt', '-m', '64M', *map(str, boot), '-display', 'none', '-monitor', 'none']


def task_image(t, name, size, **more):
    path = t.path(name)
    with open(path, 'wb') as f:
        f.write(task(**more))
        f.truncate(size)
    return path


def loaded_sector(sector, number):
    """What LOAD leaves in a sector in pass `number`."""
    mask = (1 << 64) - 1
    return struct.pack('<64Q', *(((sector * 64 + i) * 0x9e3779b97f4a7c15 + number) & mask for i in range(64)))


def check_loaded(path, number, sectors):
    """All that was written by pass `number`, of `sectors` a request, is there."""
    with open(path, 'rb') as f:
        data = f.read()
    end = len(data) // SECTOR
    end -= (end - FIRST_LOADED) % sectors
    for sector in range(FIRST_LOADED, end):
        equal(data[sector * SECTOR:(sector + 1) * SECTOR], loaded_sector(sector, number), f'sector {sector}')


class Guest:
    """A machine that runs a program, a kernel or what other arguments boot it; its serial port is in a file."""

    def __init__(self, t, boot, *arguments, emulator='ashlar', qmp=False):
        self.t = t
        number = t.count()
        self.log = t.path(f'guest-{number}.log')
        self.serial = t.path(f'guest-{number}.serial')
        self.socket = t.path(f'guest-{number}.qmp')
        more = ['-qmp', f'unix:{self.socket},server=on,wait=off'] if qmp else []
        self.process = t.start([program(emulator), *machine(boot), '-serial', f'file:{self.serial}', *more,
                                *map(str, arguments)], log=self.log)
        self.qmp = Qmp(self.socket, ended=self.ended) if qmp else None

    def ended(self):
        return self.process.poll() is not None

    def output(self):
        return self.serial.read_text() if self.serial.exists() else ''

    def wait_for(self, text, patience=PATIENCE):
        wait_until(lambda: text in self.output() or self.ended(), f'the guest says {text!r}', patience)
        if text not in self.output():
            raise AssertionError(f'the guest has ended without {text!r}: {self.output()}\n{self.log.read_text()}')

    def wait(self, status=0, patience=4 * PATIENCE):
        """Until the guest has ended the machine; what it has said."""
        wait_until(self.ended, f'the guest ends; so far:\n{self.output()}', patience)
        if self.process.returncode != status:
            raise AssertionError(f'exit status {self.process.returncode}:\n{self.output()}\n{self.log.read_text()}')
        return self.output()


def disk(image, *options, name='d0', format='raw', drive=''):
    """The arguments of a disk."""
    return ['-drive', f'file={image},format={format},if=none,id={name}{drive}',
            '-device', ','.join([f'virtio-blk-device,drive={name}', *options])]
