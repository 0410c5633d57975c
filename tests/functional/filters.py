#!/usr/bin/python3
"""The filters in real programs, with QEMU's tools to judge what they leave behind."""
import json
import struct

from ashlar_test import KIB, MIB, check, contains, equal, main

CLUSTER = 64 * KIB


def over(t, **options):
    """ashlar-nbd over the nodes that the options describe; `__` is a dot and `_` a dash."""
    chosen = ','.join(f'{key.replace("__", ".").replace("_", "-")}={value}' for key, value in options.items())
    return t.serve(chosen, '--image-opts', '--discard=unmap', format=None)


def qemu_io(t, where, *commands, format='raw'):
    arguments = [argument for command in commands for argument in ('-c', command)]
    out = t.run('qemu-io', '-f', format, *arguments, where).stdout
    check('failed' not in out, out)


def chain(t):
    base, top = t.path('base.qcow2'), t.path('top.qcow2')
    t.run('qemu-img', 'create', '-f', 'qcow2', base, '4M')
    qemu_io(t, base, 'write -P 1 0 1M', 'write -P 2 2M 1M', format='qcow2')
    t.run('qemu-img', 'create', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top)
    return base, top


def own_extents(t, image):
    """Where the image has clusters of its own."""
    extents = json.loads(t.run('qemu-img', 'map', '--output=json', image).stdout)
    return [(e['start'], e['length']) for e in extents if e['depth'] == 0 and e['present']]


def test_copy_on_read(t):
    base, top = chain(t)
    server = over(t, driver='copy-on-read', file__driver='qcow2', file__file__filename=top)
    qemu_io(t, server.uri, 'read -P 1 0 128k', 'read -P 2 2M 64k', 'write -P 3 3M 64k', 'read -P 3 3M 64k',
            f'read -P 1 {MIB - 64 * KIB} 64k')
    server.stop()
    equal(own_extents(t, top), [(0, 2 * CLUSTER), (MIB - CLUSTER, CLUSTER), (2 * MIB, CLUSTER), (3 * MIB, CLUSTER)],
          'what the image has of its own')
    t.run('qemu-img', 'check', top)
    # Without its backing file it still has what was read.
    t.run('qemu-img', 'rebase', '-u', '-b', '', top)
    qemu_io(t, top, 'read -P 1 0 128k', 'read -P 2 2M 64k', 'read -P 0 128k 64k', format='qcow2')


def test_a_whole_read_makes_the_backing_file_superfluous(t):
    base, top = chain(t)
    server = over(t, driver='copy-on-read', file__driver='qcow2', file__file__filename=top)
    t.run('nbdcopy', server.uri, 'null:')
    server.stop()
    t.run('qemu-img', 'check', top)
    t.run('qemu-img', 'convert', '-O', 'raw', base, t.path('before'))
    t.run('qemu-img', 'rebase', '-u', '-b', '', top)
    t.run('qemu-img', 'convert', '-O', 'raw', top, t.path('after'))
    equal(t.path('after').read_bytes() == t.path('before').read_bytes(), True, 'the contents being the same')


def test_compress(t):
    image = t.path('disk.qcow2')
    t.run('qemu-img', 'create', '-f', 'qcow2', image, '4M')
    server = over(t, driver='compress', file__driver='qcow2', file__file__filename=image)
    qemu_io(t, server.uri, 'write -P 7 0 1M', 'write -P 8 2M 10k', 'read -P 7 0 1M', 'read -P 8 2M 10k')
    server.stop()
    checked = json.loads(t.run('qemu-img', 'check', '--output=json', image).stdout)
    equal(checked['compressed-clusters'], 17, 'the number of compressed clusters')
    qemu_io(t, image, 'read -P 7 0 1M', 'read -P 8 2M 10k', 'read -P 0 2058k 100k', format='qcow2')
    raw = t.image('disk.raw', MIB)
    contains(t.run('ashlar-nbd', '-k', t.path('s'), '--image-opts', f'driver=compress,file.driver=raw,file.file.filename={raw}',
                   status=1).stderr, 'Compression is not supported for underlying format: raw')


def test_preallocate_under_a_format(t):
    image = t.path('disk.qcow2')
    t.run('qemu-img', 'create', '-f', 'qcow2', image, '64M')
    server = over(t, driver='qcow2', file__driver='preallocate', file__prealloc_size='8M', file__prealloc_align='1M',
                  file__file__driver='file', file__file__filename=image)
    qemu_io(t, server.uri, 'write -P 5 0 2M', 'write -P 6 10M 1M')
    check(image.stat().st_size >= 8 * MIB and image.stat().st_size % MIB == 0, f'a large file: {image.stat().st_size}')
    server.stop()
    check(image.stat().st_size < 5 * MIB, f'a file that has been cut: {image.stat().st_size}')
    t.run('qemu-img', 'check', image)
    qemu_io(t, image, 'read -P 5 0 2M', 'read -P 6 10M 1M', format='qcow2')


def parse_log(data):
    magic, version, entries, unit = struct.unpack_from('<QQQI', data)
    equal((magic, version), (0x6a736677736872, 1), 'magic and version of the log')
    at, found = unit, []
    for _ in range(entries):
        sector, sectors, flags, _ = struct.unpack_from('<QQQQ', data, at)
        at += unit
        content = b'' if flags & 4 else data[at:at + sectors * unit]
        at += len(content)
        found.append((sector * unit, sectors * unit, flags, content))
    return found


def test_the_log_of_writes_is_qemu_s(t):
    """The same requests to both: the same writes in the log, and replaying it gives the disk."""
    commands = ['write -P 1 0 4k', 'write -P 2 8k 64k', 'flush', 'write -z 64k 64k', 'write -P 3 1M 512', 'flush',
                'discard 128k 64k', 'write -P 4 70k 1k']
    logs = {}
    for name in ('ours', 'theirs'):
        disk, log = t.path(f'{name}.disk'), t.path(f'{name}.log')
        disk.write_bytes(bytes(2 * MIB))
        log.write_bytes(b'')
        options = (f'driver=blklogwrites,file.driver=file,file.filename={disk},log.driver=file,log.filename={log},'
                   'discard=unmap,file.discard=unmap')
        arguments = [argument for command in commands for argument in ('-c', command)]
        if name == 'theirs':
            t.run('qemu-io', *arguments, '--image-opts', options)
        else:
            server = t.serve(options, '--image-opts', format=None)
            t.run('qemu-io', '-f', 'raw', *arguments, server.uri)
            server.stop()
        logs[name] = parse_log(log.read_bytes())
        replayed = bytearray(2 * MIB)
        for offset, length, flags, content in logs[name]:
            replayed[offset:offset + length] = content if not flags & 4 else bytes(length)
        equal(bytes(replayed) == disk.read_bytes(), True, f'the replay of {name} being the disk')
    # Apart from FUA, which NBD clients ask for and QEMU's file has not.
    writes = {name: [(offset, length, flags & ~2, content) for offset, length, flags, content in log if length]
              for name, log in logs.items()}
    equal([e[:3] for e in writes['ours']], [e[:3] for e in writes['theirs']], 'the entries of our log')
    equal(writes['ours'] == writes['theirs'], True, "the data of our log being those of QEMU's")
    check(any(flags & 1 for _, _, flags, _ in logs['ours']), 'there are flushes')


def test_verifying_against_a_raw_copy(t):
    raw, image = t.path('raw'), t.path('disk.qcow2')
    raw.write_bytes(bytes(4 * MIB))
    t.run('qemu-img', 'create', '-f', 'qcow2', image, '4M')
    server = t.serve(f'blkverify:{raw}:{image}')
    qemu_io(t, server.uri, 'write -P 1 0 1M', 'write -z 512k 64k', 'write -P 2 2M 3k', 'read 0 4M', 'flush')
    server.stop()
    t.run('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', raw, image)
    qemu_io(t, raw, 'write -P 9 2M 1')
    server = t.serve(f'blkverify:{raw}:{image}')
    t.run('qemu-io', '-f', 'raw', '-c', 'read 2M 4k', server.uri, status=1)
    server.wait(1)
    contains(server.log.read_text(), f'blkverify: read offset={2 * MIB} bytes=4096 contents mismatch at offset {2 * MIB}')


def test_reading_an_internal_snapshot(t):
    image = t.path('disk.qcow2')
    t.run('qemu-img', 'create', '-f', 'qcow2', image, '4M')
    qemu_io(t, image, 'write -P 1 0 1M', format='qcow2')
    t.run('qemu-img', 'snapshot', '-c', 'then', image)
    qemu_io(t, image, 'write -P 2 0 512k', format='qcow2')
    server = t.serve(f'driver=snapshot-access,snapshot=then,file.driver=qcow2,file.file.filename={image}', '-r',
                     '--image-opts', format=None)
    t.run('qemu-io', '-r', '-f', 'raw', '-c', 'read -P 1 0 1M', server.uri)
    server.stop()
    failed = t.run('ashlar-nbd', '-k', t.path('s'), '-r', '--image-opts',
                   f'driver=snapshot-access,snapshot=never,file.driver=qcow2,file.file.filename={image}', status=1)
    contains(failed.stderr, "Can't find snapshot 'never'")


if __name__ == '__main__':
    main()
