#!/usr/bin/python3
"""ashlar-img on chains of backing files: rebase keeps what an image shows, commit moves it down, and qemu-img agrees."""
from ashlar_test import KIB, MIB, check, equal, main

CLUSTER = 64 * KIB


class Chain:
    """base <- mid <- top, of different lengths, with random data; and what each shows."""

    def __init__(self, t, sizes=(2 * MIB, 1 * MIB, 3 * MIB)):
        self.t = t
        self.names = ['base.qcow2', 'mid.qcow2', 'top.qcow2']
        self.shown = []
        for i, (name, size) in enumerate(zip(self.names, sizes)):
            backing = ['-b', self.names[i - 1], '-F', 'qcow2'] if i else []
            t.run('ashlar-img', 'create', '-q', '-f', 'qcow2', *backing, t.path(name), size)
            below = self.shown[i - 1] if i else bytes()
            data = bytearray((below + bytes(size))[:size])
            commands = []
            for _ in range(6):
                offset = t.random.randrange(size // KIB) * KIB
                length = min(t.random.randrange(1, 200) * KIB, size - offset)
                pattern = t.random.randrange(256)
                zero = t.random.randrange(4) == 0
                data[offset:offset + length] = bytes(length) if zero else bytes([pattern]) * length
                commands += ['-c', f'write -z {offset} {length}' if zero else f'write -P {pattern} {offset} {length}']
            t.run('qemu-io', '-f', 'qcow2', *commands, t.path(name))
            self.shown.append(bytes(data))

    def check(self, name, expected):
        t = self.t
        t.run('qemu-img', 'check', t.path(name))
        t.run('qemu-img', 'convert', '-O', 'raw', t.path(name), t.path('seen.raw'))
        seen = t.path('seen.raw').read_bytes()
        equal(len(seen), len(expected), f'{name}: the length')
        for at in range(0, len(expected), KIB):
            check(seen[at:at + KIB] == expected[at:at + KIB], f'{name}: other contents at {at}')

    def image(self, *arguments):
        return self.t.run('ashlar-img', *arguments)


def test_rebase_keeps_what_the_image_shows(t):
    for number in range(3):
        chain = Chain(t)
        top = t.path('top.qcow2')
        for backing in 'base.qcow2', 'mid.qcow2', '', 'other.qcow2', 'mid.qcow2':
            chain.image('create', '-q', '-f', 'qcow2', t.path('other.qcow2'), MIB + 3 * CLUSTER // 2)
            more = ['-c'] if number == 1 else []
            chain.image('rebase', *more, '-b', backing, *(['-F', 'qcow2'] if backing else []), top)
            chain.check('top.qcow2', chain.shown[2])
            equal(chain.image('info', '-U', top).stdout.count('backing file: '), int(backing != ''), 'backing files')


def test_rebase_onto_a_file_of_the_chain_copies_only_what_is_between(t):
    chain = Chain(t)
    chain.image('rebase', '-b', 'mid.qcow2', '-F', 'qcow2', t.path('top.qcow2'))
    before = t.path('top.qcow2').stat().st_size
    chain.image('rebase', '-b', 'mid.qcow2', '-F', 'qcow2', t.path('top.qcow2'))
    equal(t.path('top.qcow2').stat().st_size, before, 'the size of the image')


def test_unsafe_rebase_changes_the_name_only(t):
    chain = Chain(t)
    before = t.path('top.qcow2').stat().st_size
    chain.image('rebase', '-u', '-b', 'not-there.qcow2', '-F', 'qcow2', t.path('top.qcow2'))
    equal(t.path('top.qcow2').stat().st_size, before, 'the size of the image')
    chain.image('rebase', '-u', '-b', 'mid.qcow2', '-F', 'qcow2', t.path('top.qcow2'))
    chain.check('top.qcow2', chain.shown[2])


def test_commit_moves_the_contents_down_and_empties_the_image(t):
    for _ in range(3):
        chain = Chain(t)
        chain.image('commit', t.path('top.qcow2'))
        chain.check('mid.qcow2', chain.shown[2])
        chain.check('top.qcow2', chain.shown[2])
        mapped = chain.image('map', '--output=json', t.path('top.qcow2')).stdout
        check('"depth": 0, "present": true' not in mapped, f'the image is not empty: {mapped}')


def test_commit_into_the_base_of_a_longer_chain(t):
    for _ in range(3):
        chain = Chain(t)
        chain.image('commit', '-b', 'base.qcow2', t.path('top.qcow2'))
        chain.check('base.qcow2', chain.shown[2])
        chain.check('top.qcow2', chain.shown[2])


def test_commit_with_d_leaves_the_image_as_it_is(t):
    chain = Chain(t)
    before = t.path('top.qcow2').stat().st_size
    chain.image('commit', '-d', t.path('top.qcow2'))
    chain.check('mid.qcow2', chain.shown[2])
    equal(t.path('top.qcow2').stat().st_size, before, 'the size of the image')


def test_convert_with_a_backing_file_copies_the_top_layer_only(t):
    chain = Chain(t)
    chain.image('convert', '-O', 'qcow2', '-B', 'mid.qcow2', '-F', 'qcow2', t.path('top.qcow2'), t.path('copy.qcow2'))
    chain.check('copy.qcow2', chain.shown[2])
    chain.image('convert', '-c', '-O', 'qcow2', t.path('top.qcow2'), t.path('flat.qcow2'))
    chain.check('flat.qcow2', chain.shown[2])


def test_info_looks_at_a_chain_of_which_a_part_is_missing(t):
    Chain(t)
    t.path('base.qcow2').unlink()
    t.run('ashlar-img', 'info', t.path('top.qcow2'))
    t.run('ashlar-img', 'info', '--backing-chain', t.path('top.qcow2'), status=1)
    t.run('ashlar-img', 'info', t.path('mid.qcow2'))


def test_a_loop_of_backing_files_ends(t):
    chain = Chain(t)
    chain.image('rebase', '-u', '-b', t.path('top.qcow2'), '-F', 'qcow2', t.path('base.qcow2'))
    done = t.run('ashlar-img', 'info', '--backing-chain', t.path('top.qcow2'), status=1)
    check('creates an infinite loop' in done.stderr, done.stderr)


if __name__ == '__main__':
    main()
