#!/usr/bin/python3
"""Parts of an image that are read again and again: they are sent from a map of it, and nobody can tell."""
import os

from ashlar_test import KIB, MIB, check, equal, main, skip
from raw_nbd import CMD_READ, EIO, RawNbd, request_bytes

SIZE = 5 * MIB + 512
WINDOW, HOT = 256 * KIB, 8    # that many reads make a part of this size hot


def warm_up(client, begin=0, end=SIZE):
    for at in range(begin, end, WINDOW):
        for _ in range(HOT + 1):
            client.read(at, 512)


def test_hot_reads_use_a_map(t):
    if tuple(map(int, os.uname().release.split('.')[:2])) < (6, 5):
        skip('this kernel does not tell what is in the page cache')
    image, events = t.image('disk', MIB), t.path('events')
    image.read_bytes()  # holes, too, are then in the page cache
    server = t.serve(image, f'--trace=enable=nbd_map_read,file={events}')
    with RawNbd.connected(server.address) as client:
        client.read(0, 4096)
        equal(events.read_text(), '', 'the events of one read')
        warm_up(client, 0, MIB)
        reply = client.request(CMD_READ, 5000, 4096, cookie=0x1234)
    server.stop()
    equal(reply.data, image.read_bytes()[5000:5000 + 4096], 'what is read')
    check('cookie 0x1234' in events.read_text(), 'a hot read is sent from a map')


def test_many_reads_of_all_sizes_at_once(t):
    image = t.image('disk', SIZE)
    data = bytearray(image.read_bytes())
    server = t.serve(image, '-e', '2')
    for structured in (False, True):
        with RawNbd.connected(server.address, structured=structured) as client:
            warm_up(client)
            for _ in range(30):
                requests = {}
                for cookie in range(t.random.choice((1, 5, 64))):
                    length = t.random.choice((1, 512, 4096, t.random.randrange(1, 40000), 4096, 32768, 300 * KIB))
                    # Some of them are refused.
                    offset = t.random.choice((t.random.randrange(SIZE - length), t.random.randrange(SIZE // 512) * 512))
                    requests[cookie] = offset, length
                for cookie, (offset, length) in requests.items():
                    client.send_request(CMD_READ, offset, length, cookie=cookie)
                while requests:
                    reply = recv_any(client, requests)
                    offset, length = requests.pop(reply.cookie)
                    equal(reply.error != 0, offset + length > SIZE, f'{length} bytes at {offset} are refused: this')
                    if not reply.error:
                        check(reply.data == data[offset:offset + length], f'{length} bytes at {offset} are right')
                offset = t.random.randrange(SIZE - 10000)
                data[offset:offset + 10000] = t.random.randbytes(10000)
                equal(client.write(offset, bytes(data[offset:offset + 10000])), 0, 'the error of a write')
                check(client.read(offset, 10000) == data[offset:offset + 10000], 'what was written is read at once')
    server.stop()


def recv_any(client, requests):
    """A simple reply does not say how long it is: whose it is must be known before its data are received."""
    if client.structured:
        return client.recv_reply()
    head = client.socket.recv(16, 0x102)     # MSG_PEEK | MSG_WAITALL
    return client.recv_reply(requests[int.from_bytes(head[8:], 'big')][1])


def test_a_hot_image_truncated_behind_our_back(t):
    image = t.image('disk', 8 * MIB)
    start = image.read_bytes()[:3 * MIB]
    server = t.serve(image)
    with RawNbd.connected(server.address, structured=True) as client:
        warm_up(client, 0, 8 * MIB)
        os.truncate(image, 3 * MIB)
        for offset, length in [(6 * MIB, 4096), (3 * MIB - 2048, 4096), (3 * MIB - 10000, 20000), (3 * MIB, 512)]:
            reply = client.request(CMD_READ, offset, length)
            inside = max(0, min(length, 3 * MIB - offset))
            check(reply.error == EIO or
                  reply.error == 0 and reply.data == start[offset:offset + inside] + bytes(length - inside),
                  f'a read of {length} bytes at {offset} is refused, or what is missing is zero')
        equal(client.read(2 * MIB + 1000, 5000), start[2 * MIB + 1000:2 * MIB + 6000], 'what is still there')
        equal(client.write(6 * MIB, b'new' * 1000), 0, 'the error of a write past the end')
        equal(client.read(6 * MIB, 3000), b'new' * 1000, 'what was written past the end')
    server.stop()


def test_a_client_that_receives_late_gets_all_of_it(t):
    image = t.image('disk', 4 * MIB)
    data = image.read_bytes()
    server = t.serve(image, '-e', '2')
    with RawNbd.connected(server.address) as late, RawNbd.connected(server.address) as other:
        warm_up(late, 0, 4 * MIB)
        places = [t.random.randrange(4 * MIB - 20000) for _ in range(1000)]
        lengths = [t.random.randrange(1, 20000) for _ in places]
        late.send(b''.join(request_bytes(CMD_READ, offset, length, cookie=number)
                           for number, (offset, length) in enumerate(zip(places, lengths))))
        for _ in range(100):
            equal(len(other.read(MIB, 4096)), 4096, 'the length of what another client reads meanwhile')
        left = {number: (offset, length) for number, (offset, length) in enumerate(zip(places, lengths))}
        while left:
            reply = recv_any(late, left)
            offset, length = left.pop(reply.cookie)
            check(reply.data == data[offset:offset + length], f'{length} bytes at {offset} are right')
    server.stop()


def test_a_client_that_receives_late_holds_nobody_up(t):
    image, socket = t.image('disk', MIB), str(t.path('nbd.sock'))
    options = {'driver': 'file', 'node-name': 'f', 'filename': str(image)}
    machine = t.machine()
    machine.qmp.command('blockdev-add', **options)
    machine.qmp.command('nbd-server-start', addr={'type': 'unix', 'data': {'path': socket}})
    machine.qmp.command('block-export-add', type='nbd', id='e', node_name='f', name='d')
    with RawNbd.connected(socket, b'd') as client:
        warm_up(client, 0, MIB)
        places = {number: (t.random.randrange(MIB - 20000), 20000) for number in range(1000)}
        client.send(b''.join(request_bytes(CMD_READ, offset, length, cookie=number)
                             for number, (offset, length) in places.items()))
        client.socket.recv(1, 2)     # MSG_PEEK: it has begun
        machine.qmp.command('blockdev-reopen', options=[{**options, 'read-only': True}])
        while places:
            reply = recv_any(client, places)
            offset, length = places.pop(reply.cookie)
            check(reply.data == image.read_bytes()[offset:offset + length], f'{length} bytes at {offset} are right')
    machine.quit()


if __name__ == '__main__':
    main()
