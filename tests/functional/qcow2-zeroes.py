#!/usr/bin/python3
"""Zeroes and discards in qcow2 images: what lies where afterwards is what it is after QEMU has done the same, so that an
image shows the same when it is given another backing file."""
import json
import os

from ashlar_test import KIB, equal, main

REGION = 256 * KIB
# What is in a region before, each in a region of its own.
BEFORE = [
    [],
    ['write {} 256k'],
    ['write -z {} 256k'],
    ['write {} 256k', 'discard {} 256k'],
    ['write -c {} 64k'],
]
# What is then done in each of them, at offsets and of lengths in KiB.
STEPS = [('write -z', 0, 128), ('write -z -u', 0, 128), ('write -z -n', 0, 128), ('discard', 0, 128),
         ('write -z', 4, 8), ('write -z -u', 60, 72), ('discard', 4, 8)]


def commands(kind):
    for region, before in enumerate(BEFORE):
        for command in before:
            if not ('data_file' in kind and '-c' in command):   # which holds nothing that is compressed
                yield command.format(region * REGION)


def mapping(t, image):
    """Where it lies in the file is not the question."""
    merged = []
    for extent in json.loads(t.run('qemu-img', 'map', '--output=json', image).stdout):
        # Whether data that are there are a hole in a data file as well is the file system's business.
        extent['zero'] = extent['zero'] and not extent['data']
        kind = [extent[key] for key in ('depth', 'present', 'zero', 'data')]
        if merged and merged[-1][1] == kind:
            merged[-1][0] += extent['length']
        else:
            merged.append([extent['length'], kind])
    return merged


def played(t, who, kind, backing, step):
    """The image, its mapping, and its contents as they are over another backing file."""
    folder = t.path(f'{who}-{t.count()}')
    folder.mkdir()
    image = folder / 'image.qcow2'
    options = kind.replace('DATA', str(folder / 'data'))
    t.run(f'{who}-img', 'create', '-q', '-f', 'qcow2', '-o', options, *backing, image, len(BEFORE) * REGION)
    if 'data_file' in kind:
        (folder / 'data').write_bytes(b'')      # in which QEMU allocates the first block
        os.truncate(folder / 'data', len(BEFORE) * REGION)
    operation, start, length = step
    places = [region * REGION + start * KIB for region in range(len(BEFORE))]
    run = [*commands(kind), *(f'{operation} {place} {length * KIB}' for place in places)]
    said = t.run(f'{who}-io', '-f', 'qcow2', '-d', 'unmap', *(word for c in run for word in ('-c', c)), image,
                 status=None)
    t.run('qemu-img', 'check', '-q', image)
    shown = mapping(t, image)
    if 'data_file_raw' in kind:     # what lies in it is what the disk says, which has nothing below
        t.run('qemu-img', 'compare', '-q', '-f', 'qcow2', '-F', 'raw', image, folder / 'data')
    else:
        t.run(f'{who}-img', 'rebase', '-u', '-f', 'qcow2', '-b', t.path('other.raw'), '-F', 'raw', image)
    raw = folder / 'contents.raw'
    t.run(f'{who}-img', 'convert', '-f', 'qcow2', '-O', 'raw', image, raw)
    return [line for line in said.stderr.splitlines() if 'failed' in line], shown, raw.read_bytes()


def steps(kind):
    """In a raw data file we write parts of clusters out, where QEMU knows that the rest is zero."""
    plain = 'data_file_raw' in kind and 'extended_l2' not in kind
    return [step for step in STEPS if not (plain and step[1] % 64)]


def compare(t, kind):
    size = len(BEFORE) * REGION
    t.path('base.raw').write_bytes(bytes(size))     # of zeroes that are data
    t.path('sparse.raw').touch()
    with open(t.path('sparse.raw'), 'r+b') as sparse:
        sparse.truncate(size)
    t.path('other.raw').write_bytes(b'\x77' * size)
    for base in [None] if 'data_file_raw' in kind else [None, 'base.raw', 'sparse.raw']:
        backing = ['-b', t.path(base), '-F', 'raw'] if base else []
        for step in steps(kind):
            ours, theirs = (played(t, who, kind, backing, step) for who in ('ashlar', 'qemu'))
            for what, a, b in zip(('what is said', 'the mapping', 'the contents'), ours, theirs):
                if what == 'the contents' and a != b:
                    at = next(i for i in range(size) if a[i] != b[i])
                    raise AssertionError(f'{kind} over {base}: {step}: byte {at} is {a[at]}, not {b[at]}')
                equal(a, b, f'{kind} over {base}: {step}: {what}')


def test_version_3(t):
    compare(t, 'compat=1.1')


def test_version_2(t):
    compare(t, 'compat=0.10')


def test_subclusters(t):
    compare(t, 'extended_l2=on')


def test_data_file(t):
    compare(t, 'data_file=DATA')


def test_raw_data_file(t):
    compare(t, 'data_file=DATA,data_file_raw=on')


def test_raw_data_file_with_subclusters(t):
    compare(t, 'data_file=DATA,data_file_raw=on,extended_l2=on')


if __name__ == '__main__':
    main()
