#!/usr/bin/python3
"""The host fails: no space left, an image that shrinks, that is removed, that is not what it was."""
import ctypes
import os

from ashlar_test import KIB, MIB, check, equal, libc, main, qemu_in_our_place, skip
from raw_nbd import CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, EINVAL, EIO, ENOSPC, FLAG_NO_HOLE, RawNbd

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18


def small_file_system(t, size):
    """A tmpfs that only this test program and its children see, and that is gone when they are."""
    if os.geteuid() != 0:
        skip('mounting a small file system takes root')
    point = t.path('small')
    point.mkdir()

    def mount(source, target, kind, flags, data):
        if libc.mount(source, os.fsencode(target), kind, ctypes.c_ulong(flags), data):
            skip(f'mount: {os.strerror(ctypes.get_errno())}')

    if libc.unshare(CLONE_NEWNS):
        skip(f'unshare: {os.strerror(ctypes.get_errno())}')
    mount(b'none', '/', None, MS_REC | MS_PRIVATE, None)
    mount(b'none', point, b'tmpfs', 0, f'size={size}'.encode())
    t.at_end(lambda: libc.umount2(os.fsencode(point), 2))
    return point


def test_no_space_left_reaches_the_client_who_can_go_on(t):
    image = small_file_system(t, 4 * MIB) / 'disk'
    with open(image, 'wb') as f:
        f.truncate(16 * MIB)
    server = t.serve(image, '--discard=unmap')
    with RawNbd.connected(server.address, structured=True) as client:
        block = b'a' * 256 * KIB
        errors = [client.write(at, block) for at in range(0, 16 * MIB, len(block))]
        written = errors.index(ENOSPC)
        check(4 <= written <= 16, f'{written} blocks fitted')
        equal(set(errors), {0, ENOSPC}, 'the set of errors')
        equal(client.request(CMD_WRITE_ZEROES, 8 * MIB, MIB, flags=FLAG_NO_HOLE).error, ENOSPC,
              'the error of writing zeroes that have to take space')
        equal(client.read(0, len(block)) == block, True, 'what was written is there: this')
        equal(client.write(0, b'b' * 4096), 0, 'the error of a write that takes no more space')
        equal(client.request(CMD_TRIM, 0, MIB).error, 0, 'the error of trimming')
        equal(client.write(9 * MIB, block), 0, 'the error of a write when there is space again')
        equal(client.request(CMD_FLUSH).error, 0, 'the error of flushing')
    server.stop()


def test_an_image_truncated_behind_our_back(t):
    image = t.image('disk', 8 * MIB)
    start = image.read_bytes()[:4 * MIB]
    server = t.serve(image)
    with RawNbd.connected(server.address, structured=True) as client:
        os.truncate(image, 4 * MIB)
        for offset, length in [(6 * MIB, 4096), (4 * MIB - 2048, 4096), (4 * MIB - 4096, MIB)]:
            reply = client.request(CMD_READ, offset, length)
            inside = max(0, min(length, 4 * MIB - offset))
            check(reply.error == EIO or
                  reply.error == 0 and reply.data == start[offset:offset + inside] + bytes(length - inside),
                  f'a read of {length} bytes at {offset} is refused, or what is missing is zero')
        equal(client.read(1000, 5000), start[1000:6000], 'what is still there')
        equal(client.write(6 * MIB, b'new' * 1000), 0, 'the error of a write past the end')
        equal(client.read(6 * MIB, 3000), b'new' * 1000, 'what was written past the end')
        equal(client.request(CMD_FLUSH).error, 0, 'the error of flushing')
    t.run('nbdinfo', '--map', server.uri)
    server.stop()


def test_an_image_truncated_to_nothing_while_it_is_mapped_and_read(t):
    image = t.image('disk', 8 * MIB)
    server = t.serve(image)
    os.truncate(image, 0)
    t.run('nbdinfo', '--map', server.uri)
    t.run('nbdcopy', server.uri, 'null:', status=None)
    os.truncate(image, 8 * MIB)
    with RawNbd.connected(server.address) as client:
        equal(client.read(0, 4096), bytes(4096), 'the data')
    server.stop()


def test_a_removed_image_is_served_on(t):
    image = t.image('disk', MIB)
    data = image.read_bytes()
    server = t.serve(image)
    with RawNbd.connected(server.address) as client:
        image.unlink()
        equal(client.read(0, MIB) == data, True, 'the data is there: this')
        equal(client.write(0, b'x' * 512), 0, 'the error of a write')
        equal(client.request(CMD_FLUSH).error, 0, 'the error of flushing')
    server.stop()


def test_an_image_made_larger_keeps_the_size_that_was_told(t):
    image = t.image('disk', MIB)
    server = t.serve(image)
    with RawNbd.connected(server.address) as client:
        os.truncate(image, 2 * MIB)
        check(client.request(CMD_READ, MIB, 512).error != 0, 'a read past the size that was told fails')
        equal(client.request(CMD_WRITE, MIB, 512, b'x' * 512).error, EINVAL if qemu_in_our_place() else ENOSPC,
              'the error of a write past it')
        equal(len(client.read(MIB - 512, 512)), 512, 'the length of the last sector')
    server.stop()


if __name__ == '__main__':
    main()
