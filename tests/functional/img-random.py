#!/usr/bin/env python3
"""Random histories of qcow2 images. Each step is made by ashlar's tools or by QEMU's, by turns of a coin; after each the
contents and the dirty bitmaps are those of a simple model, whoever reads them, and nobody's check finds anything."""
import json

from ashlar_test import KIB, MIB, check, diag, equal, main, sanitized
from qcow2_bitmaps import stored_bitmaps

STEPS = 8 if sanitized() else 25


class Kind:
    """A variety of qcow2, and what can be done with it."""

    def __init__(self, options, cluster=64 * KIB, backing=None, v2=False, data_file=False, snapshots=True):
        self.options, self.cluster, self.backing, self.v2, self.data_file = options, cluster, backing, v2, data_file
        self.snapshots = snapshots and not data_file


def random_kind(random):
    """Any that there can be."""
    v2, extended = random.choice([(True, False), (False, True), (False, False), (False, False)])
    cluster = 1 << random.randrange(14 if extended else 9, 22)
    backing = random.choice([None, None, 'raw', 'qcow2'])
    if v2:
        return Kind(f'compat=0.10,cluster_size={cluster}', cluster=cluster, backing=backing, v2=True)
    width = 1 << random.randrange(7)
    options = f'cluster_size={cluster},refcount_bits={width},compression_type={random.choice(["zlib", "zstd"])}'
    if extended:
        options += ',extended_l2=on'
    data_file = random.randrange(4) == 0
    if data_file and not backing and random.randrange(2):
        options += ',data_file_raw=on'
    # (Snapshots may be too many for narrow counts.)
    if not data_file and random.randrange(2):
        options += ',lazy_refcounts=on'
    return Kind(options, cluster=cluster, backing=backing, data_file=data_file, snapshots=width >= 16)


class Bitmap:
    """What a dirty bitmap is to say: the granules that must be dirty, and those that may be besides."""

    def __init__(self, granularity, size, enabled):
        self.granularity, self.enabled = granularity, enabled
        self.must, self.may = set(), set()
        self.resize(size)

    def resize(self, size):
        self.granules = -(-size // self.granularity)
        self.must, self.may = ({i for i in some if i < self.granules} for some in (self.must, self.may))

    def mark(self, offset, length):
        if self.enabled and length:
            self.must |= set(range(offset // self.granularity, -(-(offset + length) // self.granularity)))

    def mark_perhaps(self):
        if self.enabled:
            self.may = set(range(self.granules))

    def clear(self):
        self.must, self.may = set(), set()

    def merge(self, other, size):
        enabled, self.enabled = self.enabled, True
        for i in other.must:
            self.mark(i * other.granularity, min(other.granularity, size - i * other.granularity))
        self.enabled = enabled

    def compare(self, name, found):
        """With the granules that have been found to be dirty, which is known from now on."""
        check(self.must <= found, f'bitmap {name}: {sorted(self.must - found)[:8]} are not dirty')
        check(found <= self.must | self.may, f'bitmap {name}: {sorted(found - self.must - self.may)[:8]} are dirty')
        self.must, self.may = found, set()


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
        self.snapshots, self.bitmaps = {}, {}

    # Who does it

    def img(self, *arguments, tool=None):
        tool = tool or self.random.choice(['ashlar-img', 'qemu-img'])
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
        self.mark(offset, len(data))

    def mark(self, offset, length):
        for bitmap in self.bitmaps.values():
            bitmap.mark(offset, length)

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
        self.mark(offset, length)
        found = self.contents()
        for at in range(offset, offset + length, 512):
            if found[at:at + 512] == bytes(512):
                self.model[at:at + 512] = bytes(512)

    def snapshot(self):
        name = f's{len(self.snapshots)}-{self.t.count()}'
        self.img('snapshot', '-c', name, self.top)
        self.snapshots[name] = bytes(self.model)

    def apply(self):
        name = self.random.choice(sorted(self.snapshots))
        # QEMU refuses to where there are bitmaps.
        self.img('snapshot', '-a', name, self.top, tool='ashlar-img' if self.bitmaps else None)
        self.model = bytearray(self.snapshots[name])
        self.set_size(len(self.model))
        self.mark(0, self.size)     # anything may have changed

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
        self.set_size(new)

    def set_size(self, size):
        self.size = size
        for bitmap in self.bitmaps.values():
            bitmap.resize(size)

    def amend(self):
        choices = []
        if not self.kind.v2:
            choices += ['lazy_refcounts=on', 'lazy_refcounts=off']
            choices += ['refcount_bits=32', 'refcount_bits=8']
        if not (self.kind.v2 and self.snapshots):
            choices.append(f'size={self.size}')
        if choices:
            option = self.random.choice(choices)
            # QEMU takes minutes to change the counts of large clusters.
            slow = 'refcount_bits' in option and self.kind.cluster > 64 * KIB
            self.img('amend', '-f', 'qcow2', '-o', option, self.top, tool='ashlar-img' if slow else None)

    def commit(self):
        self.img('commit', '-q', '-f', 'qcow2', self.top)
        self.mark_perhaps()

    def mark_perhaps(self):
        """What was written is the tool's business."""
        for bitmap in self.bitmaps.values():
            bitmap.mark_perhaps()

    def rebase(self):
        """To another file with other contents, or to none: nothing that is read changes."""
        to = self.t.path(f'base-{self.t.count()}.raw')
        to.write_bytes(self.random.randbytes(self.size // 2))
        if self.random.randrange(2):
            self.img('rebase', '-f', 'qcow2', '-b', to, '-F', 'raw', self.top)
        else:
            self.img('rebase', '-f', 'qcow2', '-b', '', self.top)
            self.base = None
        self.mark_perhaps()

    def convert(self):
        """Into an image of another make, which takes its place."""
        to = self.t.path('converted.qcow2')
        more = self.random.choice([[], ['-c'], ['-S', '0'], ['-W', '-m', '4'], ['-o', 'preallocation=metadata']])
        if self.bitmaps and self.random.randrange(2):
            more = [*more, '--bitmaps']
        else:
            self.bitmaps = {}
        self.img('convert', *more, '-f', 'qcow2', '-O', 'qcow2', '-o', self.kind.options, self.top, to)
        to.rename(self.top)
        self.base, self.snapshots = None, {}

    def bitmap(self):
        """Made, changed or removed."""
        if not self.bitmaps or (len(self.bitmaps) < 3 and self.random.randrange(2)):
            name, enabled = f'b{self.t.count()}', self.random.randrange(4) > 0
            granularity = 512 << self.random.randrange(10)
            self.img('bitmap', '--add', *([] if enabled else ['--disable']), '-g', granularity, '-f', 'qcow2', self.top,
                     name)
            self.bitmaps[name] = Bitmap(granularity, self.size, enabled)
            return
        name, other = (self.random.choice(sorted(self.bitmaps)) for _ in range(2))
        bitmap = self.bitmaps[name]
        action = self.random.choice(['remove', 'clear', 'enable', 'disable', 'merge'])
        source = [other] if action == 'merge' else []
        self.img('bitmap', f'--{action}', *source, '-f', 'qcow2', self.top, name)
        if action == 'remove':
            del self.bitmaps[name]
        elif action == 'clear':
            bitmap.clear()
        elif action == 'merge':
            bitmap.merge(self.bitmaps[other], self.size)
        else:
            bitmap.enabled = action == 'enable'

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

    def verify_bitmaps(self):
        stored = stored_bitmaps(self.top)
        equal(sorted(stored), sorted(self.bitmaps), 'the bitmaps')
        for name, bitmap in self.bitmaps.items():
            found = stored[name]
            equal((found.granularity, found.flags), (bitmap.granularity, ['auto'] if bitmap.enabled else []), name)
            bitmap.compare(name, found.granules)

    def verify_exported_bitmaps(self):
        """As servers show them."""
        for name, bitmap in self.bitmaps.items():
            shown = f'--map=qemu:dirty-bitmap:{name}'
            if self.random.randrange(2):
                server = self.t.serve(self.top, '-r', '-B', name, format='qcow2')
                text = self.t.run('nbdinfo', '--json', shown, server.uri).stdout
                server.stop()
            else:
                text = self.t.run('nbdinfo', '--json', shown, '--', '[', 'qemu-nbd', '-r', '-f', 'qcow2', '-B', name,
                                  self.top, ']').stdout
            found = set()
            for extent in json.loads(text):
                if extent['type'] == 1:
                    found |= set(range(extent['offset'] // bitmap.granularity,
                                       -(-(extent['offset'] + extent['length']) // bitmap.granularity)))
            bitmap.compare(name, found)

    def verify(self):
        self.compare(self.contents(), self.model)
        self.verify_bitmaps()
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
            steps += [self.bitmap, self.bitmap]
        if self.base and not self.snapshots:        # which would see another base
            steps += [self.commit, self.rebase]
        self.random.choice(steps)()
        self.verify()


def play(t, *arguments, **more):
    play_kind(t, Kind(*arguments, **more))


def play_kind(t, kind):
    history = History(t, kind)
    try:
        for _ in range(STEPS):
            history.step()
        history.verify_exported_bitmaps()
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


def test_any_kind_1(t):
    play_kind(t, random_kind(t.random))


def test_any_kind_2(t):
    play_kind(t, random_kind(t.random))


def test_any_kind_3(t):
    play_kind(t, random_kind(t.random))


def test_any_kind_4(t):
    play_kind(t, random_kind(t.random))


if __name__ == '__main__':
    main()
