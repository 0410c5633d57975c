#!/usr/bin/python3
"""ashlar-img's command lines are qemu-img's: a table of them, run by both on equal images, gives equal output, equal
messages, equal exit statuses and equal images."""
import re

from ashlar_test import KIB, MIB, check, contains, main
from qemu_pair import Pair, compare_runs, neutral, same_contents, words


def raw_images(pair):
    random = pair.test.random.randbytes
    pair.file('a.raw', [(64 * KIB, random(64 * KIB)), (512 * KIB, random(100))], MIB)
    pair.file('b.raw', [(64 * KIB, bytes(10))], MIB)
    pair.file('long.raw', [], 2 * MIB)
    pair.file('tail.raw', [(1300 * KIB, b'x')], 2 * MIB)
    pair.file('odd.raw', [(999, b'y')], 1000)


USAGE = words("""
foo
--foo
create
create -Z
create --foo
create -f
create -f raw a.raw 1M 2M
create -f raw x.raw abc
create -f raw x.raw 16E
create -f raw x.raw
create -f nofmt x 1M
create -f raw -o foo=1 x.raw 1M
create -f raw -o size=1M x.raw 1M
create -f raw -o size=abc x.raw
create -f raw -b a.raw -F raw x.raw
create -f raw -F raw x.raw 1M
create -f raw nodir/x.raw 1M
create -f raw -o help
create -f raw -o help x.raw
info
info a.raw b.raw
info nofile
info -f nofmt a.raw
info --output=foo a.raw
check
check -r foo a.raw
check a.raw
compare a.raw
compare -f raw -F raw a.raw nofile
compare -f raw -F nofmt a.raw b.raw
compare -T foo a.raw b.raw
convert
convert a.raw
convert -f raw -O nofmt a.raw x
convert -f nofmt -O raw a.raw x
convert -f raw -O raw nofile x
convert -n -f raw -O raw a.raw nofile
convert -c -f raw -O raw a.raw x
convert -m 0 -f raw -O raw a.raw x
convert -m 17 -f raw -O raw a.raw x
convert -m x -f raw -O raw a.raw x
convert -S x -f raw -O raw a.raw x
convert -S 1000 -f raw -O raw a.raw x
convert -C -S 4k -f raw -O raw a.raw x
convert -C -c -f raw -O raw a.raw x
convert -C --salvage -f raw -O raw a.raw x
convert -n -o size=1 -f raw -O raw a.raw x
convert --target-is-zero -f raw -O raw a.raw x
convert --target-image-opts -f raw -O raw a.raw x
convert --image-opts -f raw -O raw a.raw x
convert -o help -f raw -O raw a.raw x
convert -t foo -f raw -O raw a.raw x
convert -T foo -f raw -O raw a.raw x
convert -r foo -f raw -O raw a.raw x
convert -l foo -f raw -O raw a.raw x
convert -l snapshot.foo=foo -f raw -O raw a.raw x
convert -l foo -f raw -O raw a.raw b.raw x
convert --bitmaps -f raw -O raw a.raw x
convert -f raw -O raw -B foo a.raw x
convert -f raw -O raw -F raw a.raw x
convert -f raw -O raw -o foo=bar a.raw x
convert -n -f raw -O raw long.raw a.raw
map
map -f raw --start-offset=x a.raw
map -f raw --max-length=foo a.raw
measure
measure a.raw b.raw
measure --size 1G a.raw
measure --size 1G -f raw
measure --size 1G --image-opts
measure --size 1G -l x
measure --size abc
measure -O nofmt a.raw
resize
resize a.raw
resize nofile 1M
resize -f raw a.raw abc
resize -f raw a.raw -10M
resize -f raw --preallocation=foo a.raw 10M
resize -f raw a.raw 512k
resize -f raw a.raw b.raw 1000
snapshot
snapshot -l -c x a.raw
snapshot -l a.raw
amend
amend -f raw -o size=4k a.raw
amend -f raw -o help a.raw
bitmap
bitmap --add a.raw
bitmap --add -f raw a.raw b1
bitmap -g 64k --clear a.raw b0
bitmap -b a.raw --clear a.raw b0
bitmap --merge x -F raw a.raw b0
bitmap --add -g x a.raw b0
commit
commit -f raw a.raw
commit -r x a.raw
rebase
rebase a.raw
rebase -b b.raw -F nofmt -f raw a.raw
rebase -b b.raw -F raw -f raw a.raw
rebase -u -b b.raw -F raw -f raw a.raw
dd if=a.raw
dd if=a.raw of=x bs=0
dd if=a.raw of=x bs=x
dd if=a.raw of=x count=x
dd if=a.raw of=x foo=x
dd if=a.raw of=x foo
dd -f raw -O nofmt if=a.raw of=x
dd -f raw if=nofile of=x
bench
bench -f raw -c x a.raw
bench -f raw -o x a.raw
bench -f raw -i x a.raw
bench -f raw --flush-interval=x a.raw
bench -f raw --flush-interval=10 a.raw
bench -f raw --flush-interval=10 -w -d 20 a.raw
bench -f raw --pattern=500 a.raw
bench -f raw -t foo a.raw
bench -f raw -S x a.raw
""")

RAW = words("""
create -f raw new.raw 1M
create -q -f raw new2.raw 1000
create -f raw -o preallocation=full new3.raw 64k
info -f raw a.raw
compare -f raw -F raw a.raw a.raw
compare -f raw -F raw a.raw b.raw
compare -f raw -F raw b.raw a.raw
compare -f raw -F raw b.raw long.raw
compare -s -f raw -F raw b.raw long.raw
compare -f raw -F raw b.raw tail.raw
compare -f raw -F raw tail.raw b.raw
compare -q -f raw -F raw tail.raw b.raw
convert -f raw -O raw a.raw c1.raw
convert -W -m 16 -f raw -O raw a.raw c2.raw
convert -S 0 -f raw -O raw a.raw c3.raw
convert -C -f raw -O raw a.raw c4.raw
convert -f raw -O raw a.raw odd.raw b.raw c5.raw
convert -f raw -O raw odd.raw c6.raw
convert -n -f raw -O raw a.raw long.raw
convert -n --target-is-zero -f raw -O raw a.raw new.raw
convert --salvage -r 100M -f raw -O raw a.raw c7.raw
convert -t none -f raw -O raw a.raw c8.raw
convert -n --target-image-opts -f raw a.raw driver=raw,file.filename=tail.raw
convert --image-opts -O raw driver=raw,file.filename=a.raw,offset=64k,size=128k c9.raw
dd -f raw if=a.raw of=d1.raw
dd -f raw if=a.raw of=d2.raw bs=1k count=10 skip=60
dd -f raw if=a.raw of=d3.raw bs=3000 count=7 skip=20
dd -f raw if=a.raw of=d4.raw bs=64k skip=1000
map -f raw a.raw
map -f raw --start-offset=2M long.raw
measure -f raw a.raw
measure --size 1G
resize -f raw new.raw 3M
resize -f raw new.raw +1M
resize -q -f raw --shrink new.raw -1M
resize -f raw --preallocation=full new.raw 4M
""")
RAW_FILES = ('new.raw new2.raw new3.raw c1.raw c2.raw c3.raw c4.raw c5.raw c6.raw c7.raw c8.raw c9.raw d1.raw d2.raw d3.raw '
             'd4.raw long.raw tail.raw a.raw').split()


# A right use of every command. FILE is replaced by what is no image, and to each line every mistake is added.
RIGHT = words("""
amend -f qcow2 -o compat=v3 FILE
bench -f qcow2 -c 1 FILE
bitmap -f qcow2 --add FILE b0
check -f qcow2 FILE
commit -f qcow2 FILE
compare -f qcow2 -F qcow2 FILE FILE
convert -f qcow2 -O raw FILE out
create -f qcow2 FILE 1M
dd -f qcow2 -O raw if=FILE of=out
info -f qcow2 FILE
map -f qcow2 FILE
measure -f qcow2 -O qcow2 FILE
rebase -f qcow2 -u -b base -F raw FILE
resize -f qcow2 FILE 2M
snapshot -l FILE
""")
NO_IMAGES = ['nofile', 'nodir/x', 'dir', '', 'json:{', 'json:{}', 'nosuchprotocol:x', 'nbd:unix:/nosuch']
MISTAKES = words("""
-Z
--nosuchoption
one two three
-f nofmt
-F nofmt
-O nofmt
--image-opts
--object nosuchtype,id=x
--object secret,id=x
-t nosuchmode
-T nosuchmode
--output=nosuchformat
-o nosuch=1
-o ,
-o
-o size=abc
-c x
-m 0
-m x
-r nosuch
-l nosuch
-S x
-s x
-g 3
-n
-U
-B base
--size x
--preallocation=nosuch
--start-offset=x
--max-length=-1
--bitmaps
--skip-broken-bitmaps
--target-is-zero
--pattern=256
--flush-interval=1
--merge nosuch
--disable
""")
# Where the first line of what is said is another: the command lines, and why.
OTHER_WORDS = {
    r' dir( |$)|=dir ': 'ours says what it is instead',
    r'json:\{': 'ours says where the mistake is, or which parameter is missing',
    r'^create .*-f qcow2  1M': 'ours does not name the file twice when it has no name',
    r'^dd .*if= ': 'an empty name is none',
    r'^measure .* $': 'an empty name is none',
    r'^bench .*--object': "qemu-img's bench has no objects",
    r'^rebase .*-c x': "qemu-img 7.2's rebase does not compress",
    r'^create .*-F nofmt': 'without a backing file ours does not look at its format',
    r'nosuchprotocol': 'ours names the protocol',
}
# Where the exit status is another.
OTHER_STATUS = {r'^measure ': 'qemu-img goes on after options that it does not know'}


def listed(table, line):
    return any(re.search(pattern, line) for pattern in table)


def test_every_wrong_use_of_every_command_fails_alike(t):
    pair = Pair(t)
    for folder in pair.folders.values():
        t.run('qemu-img', 'create', '-q', '-f', 'qcow2', folder / 'image', '1M')
        (folder / 'dir').mkdir()
    pair.file('base', [], MIB)
    images = [(folder / 'image', (folder / 'image').read_bytes()) for folder in pair.folders.values()]
    differences, refused = [], 0
    for right in RIGHT:
        lines = [[word.replace('FILE', name) for word in right] for name in NO_IMAGES]
        # (The last word of resize is its size, whatever it is.)
        place = 1 if right[0] == 'resize' else len(right)
        right = [word.replace('FILE', 'image') for word in right]
        lines += [[*right[:place], *mistake, *right[place:]] for mistake in MISTAKES]
        for arguments in lines:
            line = ' '.join(arguments)
            for folder in pair.folders.values():
                (folder / 'out').unlink(missing_ok=True)
            theirs, ours = pair.both(arguments)
            first = [neutral(run.stderr).split('\n')[0] for run in (theirs, ours)]
            if ours.returncode != theirs.returncode and not (listed(OTHER_STATUS, line) and ours.returncode == 1):
                differences.append(f'{line}: the status is {ours.returncode}, not {theirs.returncode}: {first}')
            elif theirs.returncode and first[0] != first[1] and not listed(OTHER_WORDS, line):
                differences.append(f'{line}: {first}')
            refused += ours.returncode != 0
            check(ours.returncode >= 0, f'{line}: ended by signal {-ours.returncode}')
            if not ours.returncode or not theirs.returncode:
                for path, content in images:
                    path.write_bytes(content)
    check(not differences, '\n'.join([f'{len(differences)} command lines differ:', *differences]))
    check(refused > 300, f'only {refused} were refused')


def test_the_way_out_is_said(t):
    """In a second line, which qemu-img has not."""
    a = t.image('a.raw', MIB)
    t.run('qemu-img', 'create', '-q', '-f', 'qcow2', t.path('base'), '1M')
    t.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', t.path('base'), '-F', 'qcow2', t.path('top'))
    for line, said in {
        'create -f qcow x 1M': "Unknown file format 'qcow'\nIt accepts qcow2, raw.",
        'create -f qcow2 -o cluster_siz=4k x 1M': "did you mean 'cluster_size'?",
        'rebase -b base top': 'Specify it with -F.',
        'convert -f raw -O raw a.raw a.raw': 'It is open here already, as another image',
    }.items():
        contains(t.run('ashlar-img', *line.split(), status=1).stderr, said, f'what is said of {line}')
    check(a.stat().st_size == MIB, 'the source is what it was')


def test_wrong_command_lines_are_refused_in_the_same_words(t):
    pair = Pair(t)
    raw_images(pair)
    for arguments in USAGE:
        compare_runs(pair, arguments)
    same_contents(pair, 'a.raw', 'b.raw', 'x.raw')


def test_raw_images_are_handled_alike(t):
    pair = Pair(t)
    raw_images(pair)
    for arguments in RAW:
        compare_runs(pair, arguments)
    same_contents(pair, *RAW_FILES)


def test_JSON_of_raw_images_is_the_same(t):
    pair = Pair(t)
    raw_images(pair)
    for line in words("""
            info -f raw --output=json a.raw
            map -f raw --output=json a.raw
            map -f raw --output=json --start-offset=10k --max-length=70k a.raw
            map -f raw --output=json --start-offset=2M a.raw
            measure -f raw --output=json a.raw"""):
        compare_runs(pair, line, json_output=True)


if __name__ == '__main__':
    main()
