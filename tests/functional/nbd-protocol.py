#!/usr/bin/python3
"""What the protocol offers beyond reading and writing, by a client that looks at every chunk."""
from ashlar_test import KIB, MIB, check, contains, equal, main, qemu_in_our_place, skip
from raw_nbd import (CHUNK_DATA, CHUNK_HOLE, CMD_BLOCK_STATUS, CMD_CACHE, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE,
                     CMD_WRITE_ZEROES, EINVAL, ENOTSUP, FLAG_DF, FLAG_FAST_ZERO, FLAG_FUA, FLAG_NO_HOLE,
                     FLAG_PAYLOAD_LEN, FLAG_REQ_ONE, OPT_INFO, TRANS_MULTI_CONN, RawNbd, request_bytes)

GIB = 1 << 30
ALLOCATION, DEPTH = b'base:allocation', b'qemu:allocation-depth'
DATA, HOLE = 0, 3       # of base:allocation


def half_a_hole(t, size=MIB):
    """An image whose first half is a hole, and what it holds."""
    image = t.path('disk')
    data = t.random.randbytes(size // 2)
    with open(image, 'wb') as f:
        f.seek(size // 2)
        f.write(data)
    return image, bytes(size // 2) + data


def connect(server, *contexts, extended=False):
    client = RawNbd(server.address)
    client.greet()
    client.negotiate_extended() if extended else client.negotiate_structured()
    if contexts:
        equal(sorted(client.set_contexts(b'', *contexts).values()), sorted(contexts), 'the selected contexts')
    client.go()
    return client


def test_a_structured_read_shows_holes_unless_told_not_to(t):
    image, data = half_a_hole(t)
    server = t.serve(image)
    with connect(server) as client:
        reply = client.request(CMD_READ, 256 * KIB, 512 * KIB)
        equal(reply.data == data[256 * KIB:768 * KIB], True, 'the data is right: this')
        check(CHUNK_HOLE in reply.chunks and CHUNK_DATA in reply.chunks, f'a hole and data are in {reply.chunks}')
        reply = client.request(CMD_READ, 256 * KIB, 512 * KIB, flags=FLAG_DF)
        equal(reply.data == data[256 * KIB:768 * KIB], True, 'the data is right: this')
        equal(reply.chunks, [CHUNK_DATA], 'the chunks of a read that is not to be fragmented')
    with RawNbd.connected(server.address) as client:
        equal(client.read(256 * KIB, 512 * KIB) == data[256 * KIB:768 * KIB], True, 'the data is right: this')
    server.stop()


def test_block_status(t):
    image, _ = half_a_hole(t)
    server = t.serve(image)
    with connect(server, ALLOCATION) as client:
        for offset, length, flags, extents in [
            (0, MIB, 0, [(512 * KIB, HOLE), (512 * KIB, DATA)]),
            (256 * KIB, 512 * KIB, 0, [(256 * KIB, HOLE), (256 * KIB, DATA)]),
            (256 * KIB, 512 * KIB, FLAG_REQ_ONE, [(256 * KIB, HOLE)]),
            (MIB - 512, 512, 0, [(512, DATA)]),
        ]:
            reply = client.request(CMD_BLOCK_STATUS, offset, length, flags=flags)
            equal(reply.error, 0, 'the error')
            equal(reply.extents[ALLOCATION], extents, f'the status of {length} bytes at {offset}')
        equal(client.request(CMD_BLOCK_STATUS, MIB, 512).error, EINVAL, 'the error past the end')
        equal(client.request(CMD_BLOCK_STATUS, 0, 0).error, EINVAL, 'the error of no length')
    server.stop()


def test_allocation_depth(t):
    image, _ = half_a_hole(t)
    server = t.serve(image, '-A')
    with connect(server, ALLOCATION, DEPTH) as client:
        reply = client.request(CMD_BLOCK_STATUS, 0, MIB)
        equal(set(reply.extents), {ALLOCATION, DEPTH}, 'the contexts of the reply')
        equal(sum(length for length, _ in reply.extents[DEPTH]), MIB, 'the length that the depth is told of')
        check(all(depth == 1 for _, depth in reply.extents[DEPTH]), 'everything is in the first layer')
    server.stop()


def test_contexts_are_those_of_the_last_selection(t):
    image, _ = half_a_hole(t)
    server = t.serve(image)
    client = RawNbd(server.address)
    client.greet()
    client.negotiate_structured()
    client.set_contexts(b'', ALLOCATION)
    equal(client.set_contexts(b'', b'base:nonsense'), {}, 'the second selection')
    client.go()
    equal(client.request(CMD_BLOCK_STATUS, 0, 512).error, EINVAL, 'the error without a context')
    client.disconnect()
    server.stop()


def test_zeroes(t):
    image, data = half_a_hole(t)
    server = t.serve(image, '--discard=unmap')
    with connect(server, ALLOCATION) as client:
        at = 512 * KIB
        error = client.request(CMD_WRITE_ZEROES, at, 64 * KIB, flags=FLAG_FAST_ZERO).error
        check(error in (0, ENOTSUP), f'the error of fast zeroes: {error}')
        equal(client.read(at, 64 * KIB) == (data[at:at + 64 * KIB] if error else bytes(64 * KIB)), True,
              'all of it is zero, or nothing when it is not fast: this')
        equal(client.request(CMD_WRITE_ZEROES, at, 64 * KIB, flags=FLAG_NO_HOLE | FLAG_FUA).error, 0, 'the error')
        equal(client.read(at, 64 * KIB), bytes(64 * KIB), 'the zeroes')
        equal(client.request(CMD_WRITE_ZEROES, at + 1, 1000).error, 0, 'the error of an odd range')
        equal(client.request(CMD_WRITE_ZEROES, at + 64 * KIB, 64 * KIB).error, 0, 'the error')
        reply = client.request(CMD_BLOCK_STATUS, at + 64 * KIB, 64 * KIB)
        equal(reply.extents[ALLOCATION], [(64 * KIB, HOLE)], 'the status of zeroes that may be a hole')
    server.stop()


def test_fua_is_taken_with_everything_that_writes(t):
    image, _ = half_a_hole(t)
    server = t.serve(image, '--discard=unmap')
    with RawNbd.connected(server.address) as client:
        equal(client.write(0, b'x' * 512, FLAG_FUA), 0, 'the error of a write')
        equal(client.request(CMD_TRIM, 4096, 4096, flags=FLAG_FUA).error, 0, 'the error of a trim')
        equal(client.request(CMD_WRITE_ZEROES, 8192, 4096, flags=FLAG_FUA).error, 0, 'the error of zeroes')
        equal(client.request(CMD_CACHE, 0, MIB).error, 0, 'the error of a cache')
        equal(client.request(CMD_FLUSH).error, 0, 'the error of a flush')
    server.stop()


def test_info_tells_what_go_tells(t):
    server = t.serve(half_a_hole(t)[0])
    client = RawNbd(server.address)
    client.greet()
    client.negotiate_structured()
    told = client.go(option=OPT_INFO)
    equal(client.go(), told, 'what GO tells')
    check(client.flags & TRANS_MULTI_CONN, 'several connections see the same')
    client.disconnect()
    server.stop()


def test_a_write_on_one_connection_is_read_on_another_after_a_flush(t):
    server = t.serve(half_a_hole(t)[0])
    with RawNbd.connected(server.address) as one, RawNbd.connected(server.address) as other:
        for i in range(50):
            equal(one.write(i * 512, bytes([i + 1]) * 512), 0, 'the error of the write')
            equal(one.request(CMD_FLUSH).error, 0, 'the error of the flush')
            equal(other.read(i * 512, 512), bytes([i + 1]) * 512, 'what the other reads')
    server.stop()


def with_extended_headers(t, image, *options, contexts=()):
    if qemu_in_our_place():
        skip('this qemu-nbd has no extended headers')
    server = t.serve(image, *options)
    return server, connect(server, *contexts, extended=True)


def test_extended_headers_read_and_write(t):
    image, data = half_a_hole(t)
    server, client = with_extended_headers(t, image)
    equal(client.read(256 * KIB, 512 * KIB) == data[256 * KIB:768 * KIB], True, 'the data is right: this')
    equal(client.write(100, b'y' * 1000), 0, 'the error of a write')
    equal(client.read(100, 1000), b'y' * 1000, 'what was written')
    equal(client.request(CMD_READ, 0, 1 << 40).error, EINVAL, 'the error of a read of a tebibyte')
    equal(client.request(CMD_READ, (1 << 64) - 512, 1024).error, EINVAL, 'the error of a read around the end of it all')
    equal(client.request(77, 0, 1 << 63).error, EINVAL, 'the error of an unknown command')
    equal(client.request(CMD_FLUSH).error, 0, 'the error of a flush')
    client.send(request_bytes(CMD_READ, 0, 512) * 2)
    check(client.is_closed_by_server(), 'the server hangs up on a request with the other header')
    client.close()
    server.stop()


def test_extended_headers_reach_beyond_4_gib_at_once(t):
    image = t.path('disk')
    with open(image, 'wb') as f:
        f.truncate(9 * GIB)
        f.seek(GIB)
        f.write(b'x' * MIB)
        f.seek(8 * GIB)
        f.write(b'x' * MIB)
    server, client = with_extended_headers(t, image, '--discard=unmap', contexts=[ALLOCATION])
    reply = client.request(CMD_BLOCK_STATUS, 2 * GIB, 7 * GIB)
    equal(reply.extents[ALLOCATION], [(6 * GIB, HOLE), (MIB, DATA), (GIB - MIB, HOLE)], 'the status')
    equal(client.request(CMD_WRITE_ZEROES, 0, 5 * GIB).error, 0, 'the error of 5 GiB of zeroes')
    equal(client.read(GIB, 4096), bytes(4096), 'what was data')
    equal(client.request(CMD_TRIM, 4 * GIB, 5 * GIB).error, 0, 'the error of a trim of 5 GiB')
    equal(client.request(CMD_BLOCK_STATUS, 0, 9 * GIB).extents[ALLOCATION], [(9 * GIB, HOLE)], 'the status afterwards')
    equal(client.request(CMD_CACHE, 0, 5 * GIB).error, 0, 'the error of a cache of 5 GiB')
    client.disconnect()
    server.stop()
    equal(image.stat().st_blocks, 0, 'the number of blocks of the image')


def test_a_payload_that_the_header_does_not_announce(t):
    server, client = with_extended_headers(t, half_a_hole(t)[0])
    # Without PAYLOAD_LEN no payload follows: the write itself is refused, and the next request is understood.
    equal(client.request(CMD_WRITE, 0, 512).error, EINVAL, 'the error of a write without payload')
    # With it, a payload follows whatever the command: it has to be skipped.
    reply = client.request(CMD_READ, 0, 512, b'z' * 512, FLAG_PAYLOAD_LEN)
    equal(reply.error, EINVAL, 'the error of a read with a payload')
    equal(client.read(0, 512), bytes(512), 'what is read afterwards')
    client.disconnect()
    server.stop()


def test_libnbd_agrees_on_the_contexts(t):
    server = t.serve(half_a_hole(t)[0], '-A')
    contains(t.run('nbdinfo', '--map=qemu:allocation-depth', server.uri).stdout, 'local')
    server.stop()


if __name__ == '__main__':
    main()
