#!/usr/bin/python3
"""I/O errors of the image, by blkdebug: the client gets the right one, and goes on."""
import errno

from ashlar_test import MIB, check, contains, equal, main, qemu_in_our_place
from raw_nbd import (CMD_BLOCK_STATUS, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE_ZEROES, EINVAL, EIO, ENOMEM,
                     ENOSPC, EPERM, FLAG_FUA, RawNbd)


def serve(t, *rules, **more):
    """An image of which blkdebug makes something fail; a rule is key=value,key=value,..."""
    image = t.path('disk')
    image.write_bytes(t.random.randbytes(MIB))      # no holes: those are not read
    options = [f'driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename={image}']
    for number, rule in enumerate(rules):
        options += [f'file.inject-error.{number}.{setting}' for setting in rule.split(',')]
    return image, t.serve(','.join(options), '--image-opts', '--discard=unmap', format=None, **more)


def structured_unless_qemu():
    """qemu-nbd hangs up when it cannot read for a structured reply."""
    return not qemu_in_our_place()


def still_usable(client, image):
    with open(image, 'rb') as f:
        f.seek(512 * 1024)
        equal(client.read(512 * 1024, 8192), f.read(8192), 'what is read afterwards')


def test_each_error_reaches_the_client(t):
    for host, told in [(errno.EIO, EIO), (errno.ENOSPC, ENOSPC), (errno.ENOMEM, ENOMEM), (errno.EPERM, EPERM),
                       (errno.EINVAL, EINVAL), (errno.ENODEV, EINVAL if qemu_in_our_place() else EIO),
                       (errno.EDQUOT, ENOSPC)]:
        for structured in {False, structured_unless_qemu()}:
            image, server = serve(t, f'event=read_aio,errno={host},once=on,sector=8')
            with RawNbd.connected(server.address, structured=structured) as client:
                equal(client.request(CMD_READ, 4096, 512).error, told, f'the error for {errno.errorcode[host]}')
                equal(client.request(CMD_READ, 4096, 512).error, 0, 'the error of the next read')
                still_usable(client, image)
            server.stop()


def test_a_write_error_reaches_the_client(t):
    image, server = serve(t, 'event=write_aio,errno=28,sector=16,once=off')
    with RawNbd.connected(server.address) as client:
        for _ in range(3):
            equal(client.write(8192, b'x' * 4096), ENOSPC, 'the error')
        equal(client.write(0, b'y' * 4096), 0, 'the error of a write elsewhere')
        equal(client.read(0, 4096), b'y' * 4096, 'what was written elsewhere')
        still_usable(client, image)
    server.stop()


def test_a_flush_error_reaches_the_client(t):
    image, server = serve(t, 'iotype=flush,event=flush_to_disk,errno=5,once=off')
    with RawNbd.connected(server.address) as client:
        equal(client.write(0, b'x' * 512), 0, 'the error of a write')
        equal(client.request(CMD_FLUSH).error, EIO, 'the error of a flush')
        # A write with FUA needs no flush of the node where the driver of the file does it alone.
        check(client.write(0, b'x' * 512, FLAG_FUA) in (0, EIO), 'a write with FUA')
        check(client.request(CMD_WRITE_ZEROES, 4096, 4096, flags=FLAG_FUA).error in (0, EIO), 'zeroes with FUA')
        equal(client.request(CMD_TRIM, 4096, 4096, flags=FLAG_FUA).error, EIO, 'that of a trim with FUA')
        still_usable(client, image)
    server.process.terminate()
    server.wait(status=0 if qemu_in_our_place() else 1)     # the flush at the end fails as well
    if not qemu_in_our_place():
        contains(server.log.read_text(), 'cannot flush')


def test_other_commands_fail_alone(t):
    image, server = serve(t, 'iotype=write-zeroes,event=none,errno=5,once=off',
                          'iotype=discard,event=none,errno=28,once=off',
                          'iotype=block-status,event=none,errno=12,once=on')
    client = RawNbd(server.address)
    client.greet()
    client.negotiate_structured()
    client.set_contexts(b'', b'base:allocation')
    client.go()
    equal(client.request(CMD_BLOCK_STATUS, 0, MIB).error, ENOMEM, 'the error of a block status')
    equal(client.request(CMD_WRITE_ZEROES, 4096, 4096).error, EIO, 'the error of writing zeroes')
    equal(client.request(CMD_TRIM, 4096, 4096).error, ENOSPC, 'the error of a trim')
    equal(client.write(4096, b'x' * 512), 0, 'the error of a write')
    still_usable(client, image)
    client.disconnect()
    server.stop()


def test_an_error_among_many_requests_hits_only_its_own(t):
    image, server = serve(t, 'event=read_aio,errno=5,sector=1000,once=off')
    data = image.read_bytes()
    with RawNbd.connected(server.address, structured=structured_unless_qemu()) as client:
        for sector in range(900, 1100):
            client.send_request(CMD_READ, sector * 512, 512, cookie=sector)
        replies = [client.recv_reply(512) for _ in range(900, 1100)]
    equal(sorted(r.cookie for r in replies), list(range(900, 1100)), 'the cookies')
    for reply in replies:
        equal(reply.error, EIO if reply.cookie == 1000 else 0, f'the error of sector {reply.cookie}')
        if not reply.error:
            equal(reply.data, data[reply.cookie * 512:][:512], f'sector {reply.cookie}')
    server.stop()


def test_real_clients_see_the_error(t):
    _, server = serve(t, 'event=read_aio,errno=5,sector=8,once=off')
    out = t.run('qemu-io', '-f', 'raw', '-r', '-c', 'read 4k 4k', server.uri, status=1)
    equal(out.stdout.strip() + out.stderr.strip(), 'read failed: Input/output error', "qemu-io's message")
    t.run('nbdcopy', server.uri, 'null:', status=1)
    t.run('qemu-io', '-f', 'raw', '-r', '-c', 'read 8k 4k', server.uri)
    server.stop()


def test_a_read_error_of_a_multi_part_request_is_the_error_of_the_whole(t):
    _, server = serve(t, 'event=read_aio,errno=5,sector=1024,once=off')
    with RawNbd.connected(server.address, structured=structured_unless_qemu()) as client:
        equal(client.request(CMD_READ, 0, MIB).error, EIO, 'the error')
    server.stop()


if __name__ == '__main__':
    main()
