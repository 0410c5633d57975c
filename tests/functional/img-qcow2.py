#!/usr/bin/python3
"""qcow2 images, made, filled, examined and changed by ashlar-img as by qemu-img: the same output, and images of which
qemu-img says that they are in order and have the same contents."""
import json

from ashlar_test import KIB, MIB, contains, equal, main
from qemu_pair import Pair, compare_runs, neutral, words

STEPS = words("""
create -f qcow2 a.qcow2 64M
create -f qcow2 -b a.qcow2 -F qcow2 b.qcow2
create -f qcow2 -b a.qcow2 b2.qcow2
create -f qcow2 -b nofile -F qcow2 c.qcow2
create -f qcow2 -u -b nofile -F qcow2 c.qcow2
create -f qcow2 -b a.qcow2 -F nofmt c.qcow2 1M
create -f qcow2 -b c2.qcow2 -F raw c2.qcow2 1M
create -f qcow2 -o cluster_size=3 x.q 1M
create -f qcow2 -o cluster_size=128k,preallocation=metadata,lazy_refcounts=on x.q 1M
create -f qcow2 -o size=2M x2.q
create -f qcow2 -o preallocation=foo x3.q 3M
create -f qcow2 -o compat=0.10 v2.qcow2 10M
create -f qcow2 -o data_file=ext.raw,data_file_raw=on,extended_l2=on,compression_type=zstd e.qcow2 10M
info a.qcow2
info b.qcow2 --backing-chain
info e.qcow2
info v2.qcow2
info x.q
convert -f raw -O qcow2 a.raw cv.qcow2
check cv.qcow2
map --output=json cv.qcow2
convert -c -f raw -O qcow2 a.raw cvc.qcow2
map cvc.qcow2
compare cv.qcow2 cvc.qcow2
convert -O raw cvc.qcow2 cvc.raw
compare -f raw cvc.raw -F raw a.raw
convert -B a.qcow2 -f raw -O qcow2 a.raw cx.q
convert -B a.qcow2 -F qcow2 -f raw -O qcow2 a.raw cx.q
info cx.q
measure -O qcow2 a.qcow2
measure -O qcow2 cv.qcow2
measure --size 1G -O qcow2
measure --size 1G -O qcow2 -o preallocation=full,cluster_size=2M
resize cv.qcow2 3M
resize --shrink cv.qcow2 2M
snapshot -c s1 cv.qcow2
snapshot -a foo cv.qcow2
snapshot -d foo cv.qcow2
snapshot -a s1 cv.qcow2
convert -l s1 -O raw cv.qcow2 snap.raw
compare -f raw snap.raw -F raw a.raw
convert -l s2 -O raw cv.qcow2 snap.raw
snapshot -d s1 cv.qcow2
check cv.qcow2
dd -f raw -O qcow2 if=a.raw of=d.q bs=64k skip=1
rebase -b a.qcow2 -F qcow2 cv.qcow2
info cv.qcow2
rebase -b a.qcow2 cv.qcow2
rebase -b '' cv.qcow2
commit a.qcow2
commit b.qcow2
commit -b nofile b.qcow2
info a.qcow2
""")
# What has been made by then, and is to have the same contents.
IMAGES = ('cv.qcow2', 'cvc.qcow2', 'cx.q', 'd.q', 'x.q', 'v2.qcow2')


def prepare(pair):
    random = pair.test.random.randbytes
    pair.file('a.raw', [(0, random(KIB)), (100 * KIB, random(300 * KIB)), (512 * KIB, random(100))], MIB)
    return pair


def test_a_life_of_images_is_the_same(t):
    pair = prepare(Pair(t))
    for arguments in STEPS:
        compare_runs(pair, arguments, ignore=('disk size: ', 'Image end offset: '))
    ours, theirs = pair.folders['ashlar-img'], pair.folders['qemu-img']
    for name in IMAGES:
        t.run('qemu-img', 'check', ours / name)
        t.run('qemu-img', 'compare', ours / name, theirs / name)


AMENDING = words("""
create -f qcow2 a.qcow2 64M
create -f qcow2 -b a.qcow2 -F qcow2 b.qcow2
amend -o compat=v2 b.qcow2
info b.qcow2
amend -o compat=v3,lazy_refcounts=on b.qcow2
info b.qcow2
amend -o compat=v3,refcount_bits=8 a.qcow2
amend -o foo=on a.qcow2
amend -o cluster_size=4k a.qcow2
amend -o size=96M a.qcow2
amend -o refcount_bits=5 a.qcow2
amend -o backing_file=x,backing_fmt=raw b.qcow2
amend -o backing_file=a.qcow2,backing_fmt=qcow2 b.qcow2
info a.qcow2
check a.qcow2
""")


def test_images_are_amended_alike(t):
    pair = prepare(Pair(t))
    for arguments in AMENDING:
        compare_runs(pair, arguments, ignore=('disk size: ', 'Image end offset: '))


BITMAPS = words("""
create -f qcow2 a.qcow2 64M
bitmap --add a.qcow2 b0
bitmap --add --disable -g 128k a.qcow2 b1
bitmap --add a.qcow2 b1
bitmap --remove a.qcow2 b2
bitmap --clear a.qcow2 b2
bitmap --merge b0 a.qcow2 b1
bitmap --merge b7 a.qcow2 b1
bitmap --add -g 3k a.qcow2 b11
bitmap --add --merge b1 --disable a.qcow2 b9
info a.qcow2
create -q -f qcow2 c.qcow2 64M
bitmap --add --merge b1 -b a.qcow2 c.qcow2 x1
convert --bitmaps -O qcow2 a.qcow2 cb.qcow2
measure -O qcow2 a.qcow2
bitmap --remove a.qcow2 b9
check a.qcow2
check cb.qcow2
convert --bitmaps -f raw -O raw a.raw cx.q
convert --bitmaps -O raw a.qcow2 cx.raw
""")


def test_bitmaps_are_handled_alike(t):
    pair = prepare(Pair(t))
    for arguments in BITMAPS:
        compare_runs(pair, arguments, ignore=('disk size: ', 'Image end offset: '))
    for image in 'a.qcow2', 'c.qcow2', 'cb.qcow2':
        compare_runs(pair, ['info', '--output=json', image], json_output=True, ignore=('actual-size',))


def test_the_JSON_is_the_same(t):
    pair = prepare(Pair(t))
    for line in words("""
            create -q -f qcow2 a.qcow2 4M
            create -q -f qcow2 -b a.qcow2 -F qcow2 b.qcow2
            convert -n -f raw -O qcow2 a.raw a.qcow2"""):
        compare_runs(pair, line)
    for line in words("""
            info --output=json a.qcow2
            info --output=json --backing-chain b.qcow2
            check --output=json a.qcow2
            measure --output=json -O qcow2 a.qcow2
            measure --output=json -O qcow2 --size 1G"""):
        compare_runs(pair, line, json_output=True, ignore=('actual-size', 'image-end-offset'))


def test_every_kind_of_qcow2_is_converted_both_ways(t):
    pair = prepare(Pair(t))
    folder = pair.folders['ashlar-img']
    raw = folder / 'a.raw'
    for number, options in enumerate((
            '', 'compat=0.10', 'cluster_size=512', 'cluster_size=2M', 'extended_l2=on', 'refcount_bits=1', 'refcount_bits=64',
            'lazy_refcounts=on', 'compression_type=zstd', 'preallocation=metadata', 'preallocation=full',
            f'data_file={folder}/external.raw', f'data_file={folder}/external2.raw,data_file_raw=on')):
        for more in [], ['-c'], ['-W'], ['-C'], ['-S', '0'], ['-m', '1']:
            if more == ['-c'] and 'data_file' in options:
                continue
            image, back = folder / f'k{number}.qcow2', folder / f'k{number}.raw'
            chosen = ['-o', options] if options else []
            t.run('ashlar-img', 'convert', *more, '-f', 'raw', '-O', 'qcow2', *chosen, raw, image)
            t.run('qemu-img', 'check', image)
            t.run('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', raw, image)
            t.run('ashlar-img', 'convert', *[m for m in more if m != '-c'], '-f', 'qcow2', '-O', 'raw', image, back)
            equal(back.read_bytes() == raw.read_bytes(), True, f'{options} {more}: the contents are the same')


def test_an_image_that_cannot_be_made_leaves_no_data_file(t):
    data = t.path('data.raw')
    for image in t.path('nowhere') / 'a.qcow2', '/dev/full':
        for tool in 'qemu-img', 'ashlar-img':
            done = t.run(tool, 'create', '-f', 'qcow2', '-o', f'data_file={data}', image, '1M', status=None)
            equal(done.returncode, 1, f'the exit status of {tool} for {image}')
            equal(data.exists(), False, f'that there is a data file after {tool} for {image}')


def test_preallocation_where_the_file_cannot_become_longer(t):
    for options in ('preallocation=metadata', 'preallocation=falloc', 'preallocation=full',
                    'preallocation=metadata,compat=0.10', 'preallocation=full,extended_l2=on'):
        export = t.path('export')
        export.write_bytes(t.random.randbytes(4 * MIB))
        server = t.serve(export)
        t.run('ashlar-img', 'create', '-q', '-f', 'qcow2', '-o', options, server.uri, '2M')
        # All is there, and reads as zeroes whatever was in the export.
        equal(json.loads(t.run('qemu-img', 'map', '-f', 'qcow2', '--output=json', server.uri).stdout)[0]['depth'], 0,
              'the layer that the first part is in')
        t.run('qemu-img', 'check', '-f', 'qcow2', server.uri)
        t.run('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', server.uri, t.image('zeroes', 2 * MIB, data=False))
        large = t.run('ashlar-img', 'create', '-q', '-f', 'qcow2', '-o', options, server.uri, '4M', status=1)
        contains(large.stderr, 'Cannot grow NBD nodes')
        server.stop()


def test_broken_bitmaps_are_skipped_only_when_told(t):
    image, copy = t.path('image'), t.path('copy')
    t.run('ashlar-img', 'create', '-q', '-f', 'qcow2', image, '1M')
    t.run('ashlar-img', 'bitmap', '--add', image, 'broken')
    server = t.serve(image, format='qcow2')
    server.process.kill()
    server.process.wait()
    t.run('ashlar-img', 'bitmap', '--add', image, 'whole')
    for tool in 'qemu-img', 'ashlar-img':
        failed = t.run(tool, 'convert', '--bitmaps', '-f', 'qcow2', '-O', 'qcow2', image, copy, status=1)
        contains(failed.stderr, "Cannot copy inconsistent bitmap 'broken'\nTry --skip-broken-bitmaps")
        equal(copy.exists(), False, 'that there is a copy')
        done = t.run(tool, 'convert', '--bitmaps', '--skip-broken-bitmaps', '-f', 'qcow2', '-O', 'qcow2', image, copy)
        contains(done.stderr, "warning: Skipping inconsistent bitmap 'broken'")
        bitmaps = json.loads(t.run('qemu-img', 'info', '--output=json', copy).stdout)['format-specific']['data']['bitmaps']
        equal([b['name'] for b in bitmaps], ['whole'], 'the bitmaps of the copy')
        copy.unlink()


def test_what_cannot_be_resized_says_so(t):
    pair = Pair(t)
    server = t.serve(t.image('export', 4 * MIB))
    for line in ([['create', '-f', 'raw', *more, server.uri, '1M'] for more in
                  ([], ['-o', 'preallocation=off'], ['-o', 'preallocation=full'], ['-o', 'nocow=on'])] +
                 [['resize', '-f', 'raw', *more] for more in
                  (['--shrink', server.uri, '2M'], [server.uri, '4M'], ['--preallocation=full', server.uri, '8M'])]):
        theirs, ours = pair.both(line)
        equal(ours.returncode, theirs.returncode, f'{line}: the exit status ({ours.stderr})')
        # Growing is refused in the words for growing.
        if '8M' not in line:
            equal(neutral(ours.stderr), neutral(theirs.stderr), f'{line}: standard error')
        equal(neutral(ours.stdout), neutral(theirs.stdout), f'{line}: standard output')
    equal(t.run('ashlar-img', 'create', '-f', 'raw', '-o', 'help', 'nbd://localhost/').stdout,
          t.run('qemu-img', 'create', '-f', 'raw', '-o', 'help', 'nbd://localhost/').stdout, 'the options')


if __name__ == '__main__':
    main()
