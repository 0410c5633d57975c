#!/usr/bin/python3
"""nbdfuse: an export as a file of the host, with a file system in it."""
import os
import subprocess
from pathlib import Path

from ashlar_test import MIB, check, digest, equal, main, program, skip, wait_until


def fuse_or_skip():
    try:
        os.close(os.open('/dev/fuse', os.O_RDWR))
    except OSError as e:
        skip(f'/dev/fuse: {e.strerror}')


def mount(t, server):
    point = t.path('mnt')
    point.mkdir()
    process = t.start([program('nbdfuse'), point, server.uri], log=t.path('nbdfuse.log'))
    t.at_end(lambda: subprocess.run([program('fusermount3'), '-uzq', point], check=False))
    wait_until(lambda: process.poll() is not None or Path(point / 'nbd').exists(), 'the file system is mounted')
    if process.poll() is not None:
        log = t.path('nbdfuse.log').read_text()
        if 'not permitted' in log:
            skip(f'mounting is not permitted: {log.strip()}')
        raise AssertionError(f'nbdfuse: {log}')
    return process, point / 'nbd'


def unmount(t, process, point):
    t.run('fusermount3', '-u', point)
    equal(process.wait(), 0, "nbdfuse's exit status")


def test_the_export_is_read_and_written_as_a_file(t):
    fuse_or_skip()
    image = t.image('disk', 16 * MIB)
    server = t.serve(image)
    process, file = mount(t, server)
    equal(file.stat().st_size, 16 * MIB, 'the size')
    equal(digest(file), digest(image), 'the digest')
    data = t.random.randbytes(3 * MIB)
    with open(file, 'r+b') as f:
        f.seek(5 * MIB + 17)
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    with open(image, 'rb') as f:
        f.seek(5 * MIB + 17)
        equal(f.read(len(data)) == data, True, 'the image holds what was written and synced: this')
    unmount(t, process, file.parent)
    server.stop()


def test_a_file_system_in_it_survives(t):
    fuse_or_skip()
    image = t.image('disk', 32 * MIB, data=False)
    server = t.serve(image)
    process, file = mount(t, server)
    content = t.path('content')
    content.mkdir()
    (content / 'big').write_bytes(t.random.randbytes(2 * MIB))
    (content / 'note').write_text('stone laid without mortar\n')
    t.run('mkfs.ext4', '-q', '-F', '-d', content, file)
    unmount(t, process, file.parent)
    server.stop()
    t.run('e2fsck', '-fn', image)
    out = t.run('debugfs', '-R', 'cat note', image).stdout
    equal(out, 'stone laid without mortar\n', 'the file in the file system')
    t.run('debugfs', '-R', f'dump big {t.path("big")}', image)
    check(t.path('big').read_bytes() == (content / 'big').read_bytes(), 'the big file is whole')


if __name__ == '__main__':
    main()
