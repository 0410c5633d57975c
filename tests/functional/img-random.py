#!/usr/bin/env python3
"""Random histories of qcow2 images. Each step is made by ashlar's tools or by QEMU's, by turns of a coin; after each the
contents are those of a simple model, whoever reads them, and nobody's check finds anything."""
import json

from ashlar_test import KIB, MIB, diag, equal, main

STEPS = 25


class Kind:
    """A variety of qcow2, and what can be done with it."""

    def __init__(self, options, cluster=64 * KIB, backing=None, v2=False, data_file=False, snapshots=True):
        self.options, self.cluster, self.backing, self.v2, self.data_file = options, cluster, backing, v2, data_file
        self.snapshots = snapshots and not data_file


class History:
    def __init__(self, t, kind):
        self.t, self.kind, self.random = t, kind, t.random
        self.commands = []
        self.top, self.base = t.path('top.qcow2'), None
        self.size = 24 * max(kind.cluster, 4 * KIB) + self.random.choice([0, 512, 7 * 512])
        options = kind.options
        if kind.data_file:
            options += f',data_file={t.path("top.data")}'
        create = ['create', '-q', '-f', 'qcow2', '-o', options]
        self.model = bytearray(self.size)
        if kind.backing:
            # Shorter than the image: behind its end there are zeroes.
            self.base = t.path(f'base.{kind.backing}')
            held = self.size - self.random.choice([0, 3 * 512])
            raw = t.path('base.contents')
            self.model[:held] = self.random.randbytes(held)
            raw.write_bytes(self.model[:held])
            self.img('convert', '-f', 'raw', '-O', kind.backing, raw, self.base)
            create += ['-b', self.base, '-F', kind.backing]
        self.img(*create, self.top, self.size)
        self.snapshots = {}

    # Who does it

    def img(self, *arguments):
        tool = self.random.choice(['ashlar-img', 'qemu-img'])
        self.commands.append(' '.join(map(str, [tool, *arguments])))
        return self.t.run(tool, *arguments)

    def io(self, command):
        tool = self.random.choice(['ashlar-io', 'qemu-io'])
        more = ['-f', 'qcow2', '-d', 'unmap', '-c', command, self.top]
        self.commands.append(' '.join(map(str, [tool, *more])))
        return self.t.run(tool, *more)

    # The steps

    def range(self, alignment):
        blocks = self.size // alignment
        start = self.random.randrange(blocks)
        length = min(self.random.choice([1, 1, 2, 3, 10, blocks]), blocks - start)
        return start * alignment, length * alignment

    def put(self, offset, data):
        self.model[offset:offset + len(data)] = data

    def write(self):
        offset, length = self.range(512)
        pattern = self.random.randrange(1, 256)
        self.io(f'write -P {pattern} {offset} {length}')
        self.put(offset, bytes([pattern]) * length)

    def write_compressed(self):
        offset, length = self.range(self.kind.cluster)
        pattern = self.random.randrange(256)
        self.io(f'discard {offset} {self.kind.cluster}')    # QEMU compresses nothing into what is allocated
        self.io(f'write -c -P {pattern} {offset} {self.kind.cluster}')
        self.put(offset, bytes([pattern]) * self.kind.cluster)

    def write_zeroes(self):
        offset, length = self.range(self.random.choice([512, self.kind.cluster]))
        self.io(f'write -z {self.random.choice(["-u", ""])} {offset} {length}')
        self.put(offset, bytes(length))

    def discard(self):
        """Each byte keeps its value or becomes zero."""
        offset, length = self.range(self.random.choice([512, self.kind.cluster]))
        self.io(f'discard {offset} {length}')
        found = self.contents()
        for at in range(offset, offset + length, 512):
            if found[at:at + 512] == bytes(512):
                self.put(at, bytes(512))

    def snapshot(self):
        name = f's{len(self.snapshots)}-{self.t.count()}'
        self.img('snapshot', '-c', name, self.top)
        self.snapshots[name] = bytes(self.model)

    def apply(self):
        name = self.random.choice(sorted(self.snapshots))
        self.img('snapshot', '-a', name, self.top)
        self.model = bytearray(self.snapshots[name])
        self.size = len(self.model)

    def delete(self):
        name = self.random.choice(sorted(self.snapshots))
        self.img('snapshot', '-d', name, self.top)
        del self.snapshots[name]

    def read_snapshot(self):
        name = self.random.choice(sorted(self.snapshots))
        out = self.t.path('snapshot.raw')
        self.img('convert', '-l', f'snapshot.name={name}', '-f', 'qcow2', '-O', 'raw', self.top, out)
        found, expected = out.read_bytes(), self.snapshots[name]
        if len(found) == len(expected):     # QEMU takes the size of the image as it is now
            self.compare(found, expected)

    def resize(self):
        new = self.size + 512 * self.random.randrange(60)
        if self.random.randrange(2):
            # To whole clusters: what QEMU leaves behind the end shows when the image grows again.
            new = self.kind.cluster * max(1, self.size // self.kind.cluster - self.random.randrange(3))
        self.img('resize', '-q', '-f', 'qcow2', '--shrink', self.top, new)
        self.model = self.model[:new] + bytes(max(0, new - len(self.model)))
        self.size = new

    def amend(self):
        choices = []
        if not self.kind.v2:
            choices += ['lazy_refcounts=on', 'lazy_refcounts=off']
            if self.kind.cluster < MIB:         # QEMU takes minutes
                choices += ['refcount_bits=32', 'refcount_bits=8']
        if not (self.kind.v2 and self.snapshots):
            choices.append(f'size={self.size}')
        if choices:
            self.img('amend', '-f', 'qcow2', '-o', self.random.choice(choices), self.top)

    def commit(self):
        self.img('commit', '-q', '-f', 'qcow2', self.top)

    def rebase(self):
        """To another file with other contents, or to none: nothing that is read changes."""
        to = self.t.path(f'base-{self.t.count()}.raw')
        to.write_bytes(self.random.randbytes(self.size // 2))
        if self.random.randrange(2):
            self.img('rebase', '-f', 'qcow2', '-b', to, '-F', 'raw', self.top)
        else:
            self.img('rebase', '-f', 'qcow2', '-b', '', self.top)
            self.base = None

    def convert(self):
        """Into an image of another make, which takes its place."""
        to = self.t.path('converted.qcow2')
        more = self.random.choice([[], ['-c'], ['-S', '0'], ['-W', '-m', '4'], ['-o', 'preallocation=metadata']])
        self.img('convert', *more, '-f', 'qcow2', '-O', 'qcow2', '-o', f'cluster_size={self.kind.cluster}', self.top, to)
        to.rename(self.top)
        self.base, self.snapshots = None, {}

    def bitmap(self):
        name = f'b{self.t.count()}'
        self.img('bitmap', '--add', '-g', 64 * KIB, '-f', 'qcow2', self.top, name)
        info = json.loads(self.img('info', '--output=json', self.top).stdout)
        names = [b['name'] for b in info['format-specific']['data']['bitmaps']]
        equal(name in names, True, f'that {name} is among {names}')
        self.img('bitmap', '--remove', '-f', 'qcow2', self.top, name)

    # What holds after each

    def contents(self):
        out = self.t.path('contents.raw')
        self.img('convert', '-f', 'qcow2', '-O', 'raw', self.top, out)
        self.commands.pop()
        return out.read_bytes()

    def compare(self, found, expected):
        if found == expected:
            return
        equal(len(found), len(expected), 'the length')
        at = next(i for i in range(len(found)) if found[i] != expected[i])
        raise AssertionError(f'byte {at} is {found[at]}, not {expected[at]}')

    def verify(self):
        self.compare(self.contents(), self.model)
        for tool in 'ashlar-img', 'qemu-img':
            self.t.run(tool, 'check', '-q', '-f', 'qcow2', self.top)

    def step(self):
        steps = [self.write, self.write, self.write, self.write_zeroes, self.discard, self.amend]
        if not self.kind.data_file:
            steps.append(self.convert)
            if not (self.kind.v2 and self.base):        # version 2 has no zeroes that hide what is below
                steps.append(self.write_compressed)
        if self.kind.snapshots:
            steps.append(self.snapshot)
        if self.snapshots:
            steps += [self.apply, self.delete, self.read_snapshot]
        if not (self.kind.v2 and self.snapshots) and not (self.kind.data_file):
            steps.append(self.resize)
        if not self.kind.v2:
            steps.append(self.bitmap)
        if self.base and not self.snapshots:        # which would see another base
            steps += [self.commit, self.rebase]
        self.random.choice(steps)()
        self.verify()


def play(t, *arguments, **more):
    history = History(t, Kind(*arguments, **more))
    for _ in range(STEPS):
        try:
            history.step()
        except Exception:
            diag('\n'.join(history.commands))
            raise


def test_version_3(t):
    play(t, 'compat=1.1')


def test_version_2(t):
    play(t, 'compat=0.10', v2=True)


def test_version_2_over_raw(t):
    play(t, 'compat=0.10', v2=True, backing='raw')


def test_version_3_over_qcow2(t):
    play(t, 'compat=1.1', backing='qcow2')


def test_clusters_of_512_bytes(t):
    play(t, 'cluster_size=512', cluster=512, backing='raw')


def test_clusters_of_2_mib(t):
    play(t, 'cluster_size=2M', cluster=2 * MIB)


def test_subclusters(t):
    play(t, 'extended_l2=on,cluster_size=16k', cluster=16 * KIB)


def test_subclusters_over_raw(t):
    play(t, 'extended_l2=on,cluster_size=128k', cluster=128 * KIB, backing='raw')


def test_reference_counts_of_1_bit(t):
    play(t, 'refcount_bits=1,cluster_size=4k', cluster=4 * KIB, snapshots=False)


def test_reference_counts_of_64_bits(t):
    play(t, 'refcount_bits=64,cluster_size=4k', cluster=4 * KIB)


def test_lazy_reference_counts(t):
    play(t, 'lazy_refcounts=on')


def test_zstd(t):
    play(t, 'compression_type=zstd,cluster_size=32k', cluster=32 * KIB)


def test_data_file(t):
    play(t, 'cluster_size=64k', data_file=True)


def test_raw_data_file(t):
    play(t, 'data_file_raw=on', data_file=True)


if __name__ == '__main__':
    main()
