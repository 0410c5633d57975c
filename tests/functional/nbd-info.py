#!/usr/bin/python3
"""nbdinfo and nbdsh, which are libnbd: what they are told about an export, and each command once."""
import json

from ashlar_test import KIB, MIB, check, contains, equal, main, qemu_in_our_place


def info(t, server, *options):
    return json.loads(t.run('nbdinfo', '--json', *options, server.uri).stdout)


def nbdsh(t, server, script):
    return t.run('nbdsh', '-u', server.uri, '-c', script).stdout


def test_nbdinfo_shows_the_export(t):
    image = t.image('disk', 5 * MIB)
    server = t.serve(image, '-x', 'disk one', '-D', 'the first disk', export='disk%20one')
    shown = info(t, server)
    equal(shown['protocol'], 'newstyle-fixed')
    equal(shown['TLS'], False)
    equal(shown['structured'], True, 'structured replies')
    [export] = shown['exports']
    equal(export['export-name'], 'disk one')
    equal(export['description'], 'the first disk')
    equal(export['export-size'], 5 * MIB)
    for feature in ['can_multi_conn', 'can_flush', 'can_fua', 'can_trim', 'can_zero', 'can_df', 'can_cache',
                    'can_fast_zero']:
        equal(export[feature], True, feature)
    equal(export['is_read_only'], False, 'is_read_only')
    contains(export['contexts'], 'base:allocation', 'the list of contexts')
    check(export['block_size_minimum'] <= 512, 'a raw image takes requests of 512 bytes')
    equal(export['block_size_preferred'], 4096)
    equal(export['block_size_maximum'], 32 * MIB)
    server.stop()


def test_a_read_only_export_says_so(t):
    server = t.serve(t.image('disk', MIB), '-r')
    [export] = info(t, server)['exports']
    equal(export['is_read_only'], True, 'is_read_only')
    t.run('nbdinfo', '--is', 'read-only', server.uri)
    t.run('nbdinfo', '--can', 'write', server.uri, status=2)
    server.stop()


def test_the_size_is_that_of_the_file_to_the_byte(t):
    image = t.image('odd', 1000)
    server = t.serve(image)
    size = 1024 if qemu_in_our_place() else 1000    # qemu-nbd counts in sectors
    equal(t.run('nbdinfo', '--size', server.uri).stdout, f'{size}\n', 'the size')
    t.run('nbdcopy', server.uri, t.path('copy'))
    server.stop()
    equal(t.path('copy').read_bytes()[:1000], image.read_bytes(), 'the copy')


def test_nbdinfo_lists_the_exports(t):
    server = t.serve(t.image('disk', MIB), '-x', 'here', '-D', 'a disk', export='here')
    listed = info(t, server, '--list')['exports']
    equal([(e['export-name'], e.get('description')) for e in listed], [('here', 'a disk')], 'the list')
    server.stop()


def test_the_map_is_that_of_the_file(t):
    image = t.path('disk')
    with open(image, 'wb') as f:
        f.truncate(MIB)
        f.seek(256 * KIB)
        f.write(b'x' * 64 * KIB)
    server = t.serve(image)
    shown = json.loads(t.run('nbdinfo', '--map', '--json', server.uri).stdout)
    equal([(e['offset'], e['length'], e['type']) for e in shown],
          [(0, 256 * KIB, 3), (256 * KIB, 64 * KIB, 0), (320 * KIB, 704 * KIB, 3)], 'the map')
    server.stop()


def test_an_unknown_export_is_refused(t):
    server = t.serve(t.image('disk', MIB), '-x', 'here', export='here')
    refused = t.run('nbdinfo', server.uri.replace('/here?', '/there?'), status=1)
    contains(refused.stderr, 'there')
    info(t, server)
    server.stop()


def test_nbdsh_uses_each_command(t):
    image = t.image('disk', 4 * MIB)
    server = t.serve(image, '--discard=unmap')
    nbdsh(t, server, '''
data = bytes(range(256)) * 256
h.pwrite(data, 65536)
assert h.pread(65536, 65536) == data
h.pwrite(data[:1000], 65536 * 3 + 512 - 1, nbd.CMD_FLAG_FUA)
assert h.pread(1000, 65536 * 3 + 512 - 1) == data[:1000]
h.zero(65536, 65536)
assert h.pread(65536, 65536) == bytes(65536)
h.zero(4096, 8192, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
assert h.pread(4096, 8192) == bytes(4096)
h.trim(65536, 1 << 20)
assert h.pread(65536, 1 << 20) == bytes(65536)
h.cache(65536, 0)
h.flush()
holes = []
h.pread_structured(65536, 1 << 20, lambda data, offset, status, error: holes.append(status))
assert nbd.READ_HOLE in holes, holes
h.shutdown()
''')
    server.stop()
    with open(image, 'rb') as f:
        f.seek(65536)
        equal(f.read(65536), bytes(65536), 'the zeroed part of the file')
        f.seek(65536 * 3 + 511)
        equal(f.read(1000), (bytes(range(256)) * 256)[:1000], 'the written part of the file')


def test_many_commands_in_flight_are_answered_each_with_its_own_data(t):
    size = 8 * MIB
    image = t.path('disk')
    image.write_bytes(b''.join(i.to_bytes(8, 'big') * 512 for i in range(size // 4096)))
    server = t.serve(image)
    nbdsh(t, server, '''
import random
r = random.Random(1)
wanted = []
for _ in range(4000):
    offset = r.randrange(%d // 4096) * 4096
    length = r.randrange(1, 9) * 512
    while h.aio_in_flight() >= 200:
        h.poll(-1)
    buf = nbd.Buffer(length)
    wanted.append((h.aio_pread(buf, offset), buf, offset, length))
while h.aio_in_flight():
    h.poll(-1)
for cookie, buf, offset, length in wanted:
    assert h.aio_command_completed(cookie)
    assert buf.to_bytearray() == (offset // 4096).to_bytes(8, 'big') * (length // 8), offset
''' % size)
    server.stop()


if __name__ == '__main__':
    main()
