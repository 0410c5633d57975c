#!/usr/bin/python3
"""SIGTERM in the middle of writing: whatever was acknowledged is in the file, and the server ends."""
import struct
import threading

from ashlar_test import MIB, check, diag, equal, main
from raw_nbd import CMD_FLUSH, CMD_WRITE, ESHUTDOWN, FLAG_FUA, Closed, RawNbd

BLOCK = 4096
BLOCKS = 64 * MIB // BLOCK
WRITERS = 4
DEPTH = 16


def content(number):
    return struct.pack('>Q', number + 1) * (BLOCK // 8)


class Writer(threading.Thread):
    """Writes each block of its part once, many at a time, with a flush now and then, until the server hangs up."""

    def __init__(self, server, number):
        super().__init__(daemon=True)
        self.client = RawNbd.connected(server.address)
        self.part = range(number, BLOCKS, WRITERS)
        self.acknowledged = set()   # blocks
        self.durable = set()        # those with FUA, and those acknowledged before a flush was sent that succeeded
        self.errors = set()
        self.wrong = None

    def run(self):
        try:
            self.write()
        except Closed:
            pass
        except Exception as e:
            self.wrong = e

    def write(self):
        in_flight = {}              # cookie -> block, or the set that a flush makes durable
        blocks = iter(self.part)
        block = next(blocks)
        cookie = 0
        while block is not None or in_flight:
            while block is not None and len(in_flight) < DEPTH:
                cookie += 1
                if cookie % 50 == 0:
                    in_flight[cookie] = set(self.acknowledged)
                    self.client.send_request(CMD_FLUSH, cookie=cookie)
                    continue
                in_flight[cookie] = block
                self.client.send_request(CMD_WRITE, block * BLOCK, BLOCK, content(block), cookie=cookie,
                                         flags=FLAG_FUA if cookie % 7 == 0 else 0)
                block = next(blocks, None)
            reply = self.client.recv_reply()
            what = in_flight.pop(reply.cookie)
            if reply.error:
                self.errors.add(reply.error)
            elif isinstance(what, set):
                self.durable |= what
            else:
                self.acknowledged.add(what)
                if reply.cookie % 7 == 0:
                    self.durable.add(what)


def lost(image, blocks):
    with open(image, 'rb') as f:
        data = f.read()
    return [b for b in sorted(blocks) if data[b * BLOCK:(b + 1) * BLOCK] != content(b)]


def terminate_under_load(t, *options):
    image = t.image('disk', BLOCKS * BLOCK, data=False)
    server = t.serve(image, *options)
    writers = [Writer(server, n) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    while any(len(w.acknowledged) < 300 for w in writers) and all(w.is_alive() for w in writers):
        threading.Event().wait(0.001)
    server.stop()
    for writer in writers:
        writer.join(60)
        check(not writer.is_alive(), 'the clients see the end')
        if writer.wrong:
            raise writer.wrong
        check(writer.errors <= {ESHUTDOWN}, f'errors that the clients saw: {writer.errors}')
    acknowledged = set.union(*(w.acknowledged for w in writers))
    durable = set.union(*(w.durable for w in writers))
    diag(f'{len(acknowledged)} of {BLOCKS} writes were acknowledged, {len(durable)} of them flushed')
    check(len(acknowledged) < BLOCKS, 'the server was told to end while it was being written to')
    check(durable, 'something was flushed')
    equal(lost(image, durable), [], 'the list of flushed blocks that are lost')
    equal(lost(image, acknowledged), [], 'the list of acknowledged blocks that are lost')


def test_sigterm_under_load_loses_nothing(t):
    terminate_under_load(t)


def test_sigterm_under_load_loses_nothing_without_write_cache(t):
    terminate_under_load(t, '--cache=writethrough')


def test_sigterm_under_load_loses_nothing_with_threads(t):
    terminate_under_load(t, '--aio=threads')


def test_the_server_ends_although_a_client_has_stopped_in_the_middle_of_a_write(t):
    server = t.serve(t.image('disk', MIB))
    with RawNbd.connected(server.address) as client:
        client.send_request(CMD_WRITE, 0, 65536, b'x' * 1000)
        server.stop()


if __name__ == '__main__':
    main()
