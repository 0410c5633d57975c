#!/usr/bin/python3
"""QEMU's own client, by way of qemu-img and qemu-io."""
import json

from ashlar_test import KIB, MIB, contains, digest, equal, main


def qemu_io(t, server, *commands, status=0, options=()):
    arguments = [argument for command in commands for argument in ('-c', command)]
    return t.run('qemu-io', '-f', 'raw', *options, *arguments, server.uri, status=status).stdout


def test_convert_from_and_to_an_export(t):
    image = t.image('disk', 64 * MIB)
    target = t.image('target', 64 * MIB, data=False)
    here, there = t.serve(image), t.serve(target)
    t.run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', here.uri, t.path('copy.qcow2'))
    t.run('qemu-img', 'check', t.path('copy.qcow2'))
    t.run('qemu-img', 'convert', '-n', '-f', 'qcow2', '-O', 'raw', t.path('copy.qcow2'), there.uri)
    here.stop()
    there.stop()
    equal(digest(target), digest(image), 'the digest after both conversions')


def test_compare_sees_that_they_are_equal_and_where_not(t):
    image = t.image('disk', 16 * MIB)
    server = t.serve(image)
    copy = t.path('copy')
    copy.write_bytes(image.read_bytes())
    t.run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', server.uri, copy)
    with open(copy, 'r+b') as f:
        f.seek(9 * MIB)
        byte = f.read(1)[0]
        f.seek(9 * MIB)
        f.write(bytes([byte ^ 1]))
    compared = t.run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', server.uri, copy, status=1)
    contains(compared.stdout, f'offset {9 * MIB}')
    server.stop()


def test_qemu_img_info_and_map(t):
    image = t.image('disk', 8 * MIB, data=False)
    with open(image, 'r+b') as f:
        f.seek(MIB)
        f.write(b'x' * MIB)
    server = t.serve(image)
    info = json.loads(t.run('qemu-img', 'info', '--output=json', '-f', 'raw', server.uri).stdout)
    equal(info['virtual-size'], 8 * MIB, 'the size')
    extents = json.loads(t.run('qemu-img', 'map', '--output=json', '-f', 'raw', server.uri).stdout)
    equal([(e['start'], e['length'], e['data']) for e in extents],
          [(0, MIB, False), (MIB, MIB, True), (2 * MIB, 6 * MIB, False)], 'the map')
    server.stop()


def test_qemu_io_writes_and_verifies_patterns(t):
    image = t.image('disk', 4 * MIB)
    server = t.serve(image, '--discard=unmap')
    qemu_io(t, server, 'write -P 0x5a 0 64k', 'write -f -P 0xa5 64k 64k', 'write -z 256k 64k', 'write -z -u 512k 64k',
            'write -P 0x11 1001k 3k', 'discard 1M 64k', 'flush')
    for command in ['read -P 0x5a 0 64k', 'read -P 0xa5 64k 64k', 'read -P 0 256k 64k', 'read -P 0 512k 64k',
                    'read -P 0x11 1001k 3k', 'read -P 0 1M 64k']:
        out = qemu_io(t, server, command)
        assert 'verification failed' not in out, f'{command}: {out}'
    server.stop()
    with open(image, 'rb') as f:
        equal(f.read(128 * KIB), b'\x5a' * 64 * KIB + b'\xa5' * 64 * KIB, 'the file')


def test_qemu_io_vectors_and_asynchronous_requests(t):
    server = t.serve(t.image('disk', 4 * MIB))
    out = qemu_io(t, server, 'writev -P 0x77 512 1k 2k 512', 'readv -P 0x77 512 1k 2k 512', 'aio_write -P 0x12 1M 64k',
                  'aio_write -P 0x13 1088k 64k', 'aio_flush', 'read -P 0x12 1M 64k', 'read -P 0x13 1088k 64k')
    assert 'failed' not in out, out
    server.stop()


def test_a_read_only_export_refuses_writes(t):
    image = t.image('disk', MIB)
    before = digest(image)
    server = t.serve(image, '-r')
    qemu_io(t, server, 'write 0 512', status=1)
    qemu_io(t, server, 'read 0 512', options=['-r'])
    server.stop()
    equal(digest(image), before, 'the digest of the image')


def test_an_image_offset_exposes_the_rest(t):
    image = t.image('disk', 4 * MIB)
    server = t.serve(image, '-o', MIB)
    t.run('nbdcopy', server.uri, t.path('copy'))
    server.stop()
    with open(image, 'rb') as f:
        f.seek(MIB)
        equal(t.path('copy').read_bytes() == f.read(), True, 'the copy is the part from the offset on: this')


if __name__ == '__main__':
    main()
