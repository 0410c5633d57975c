#!/usr/bin/python3
"""What a client may get wrong once it has an export: each request fails alone, with the error that the spec wants."""
import threading

import nbd_served
from ashlar_test import KIB, MIB, check, diag, equal, main, qemu_in_our_place, sanitized, skip
from raw_nbd import (CMD_BLOCK_STATUS, CMD_CACHE, CMD_DISC, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES,
                     EINVAL, ENOSPC, EOVERFLOW, EPERM, FLAG_DF, FLAG_FUA, REQUEST_MAGIC, TRANS_READ_ONLY, Closed,
                     RawNbd, request_bytes)

SIZE = 8 * MIB
LARGEST = 32 * MIB      # the payload that is announced as the maximum


class Served(nbd_served.Served):
    """Afterwards the image is as expected, too."""

    def __init__(self, t, *options, size=SIZE):
        super().__init__(t, size, *options)

    def client(self, structured=False):
        return RawNbd.connected(self.server.address, structured=structured)

    def __exit__(self, kind, *more):
        super().__exit__(kind, *more)
        if kind is None:
            equal(self.image.read_bytes() == self.data, True, 'the image is as it should be: this')


def still_good(served, client):
    equal(client.read(4096, 512), bytes(served.data[4096:4608]), 'what is read afterwards')


def test_ranges_at_the_edges(t):
    edges = [(SIZE, 1), (SIZE - 511, 512), (SIZE + 512, 512), (0, SIZE + 512), (1 << 63, 512), ((1 << 64) - 512, 512),
             ((1 << 64) - 1, 1), ((1 << 64) - 4096, 8192), ((1 << 63) - 512, 512)]
    with Served(t) as served:
        for structured in (False, True):
            with served.client(structured) as client:
                for offset, length in edges:
                    where = f'{length} bytes at {offset}'
                    equal(client.request(CMD_READ, offset, length).error, EINVAL, f'the error of a read of {where}')
                    if not qemu_in_our_place():
                        equal(client.write(offset, bytes(length)), ENOSPC, f'the error of a write of {where}')
                        equal(client.request(CMD_WRITE_ZEROES, offset, length).error, ENOSPC, f'of zeroing {where}')
                    else:
                        check(client.write(offset, bytes(length)), 'it fails')
                    equal(client.request(CMD_TRIM, offset, length).error, EINVAL, f'the error of trimming {where}')
                    equal(client.request(CMD_CACHE, offset, length).error, EINVAL, f'the error of caching {where}')
                still_good(served, client)


def test_requests_of_length_zero_are_answered(t):
    with Served(t) as served:
        for structured in (False, True):
            with served.client(structured) as client:
                for command in (CMD_READ, CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES, CMD_CACHE):
                    for offset in (0, 512, SIZE):
                        check(client.request(command, offset, 0).error in (0, EINVAL), f'command {command} of nothing')
                still_good(served, client)


def test_a_read_that_is_too_large_is_refused(t):
    with Served(t, size=LARGEST + 8 * MIB) as served:
        for structured in (False, True):
            with served.client(structured) as client:
                for length in (LARGEST + 1, LARGEST + 512, 1 << 31, 0xffffffff):
                    check(client.request(CMD_READ, 0, length).error in (EINVAL, EOVERFLOW), f'a read of {length} bytes')
                still_good(served, client)


def test_a_write_that_is_too_large_is_drained_and_refused(t):
    with Served(t, size=LARGEST + 8 * MIB) as served, served.client() as client:
        payload = bytes(LARGEST + 512)
        try:
            check(client.write(0, payload) in (EINVAL, ENOSPC), 'it is refused')
            still_good(served, client)
        except Closed:
            check(qemu_in_our_place(), 'the connection outlives it')


def test_a_write_that_is_announced_as_4_gib_is_not_believed(t):
    with Served(t) as served, served.client() as client:
        before = served.server.memory()
        client.send_request(CMD_WRITE, 0, 0xffffffff, b'x' * 65536)
        served.use()
        if not sanitized():
            check(served.server.memory() - before < 4 * MIB, 'no memory is set aside for it')


def test_unknown_commands_and_flags(t):
    with Served(t) as served, served.client() as client:
        for command in (8, 9, 100, 0xffff):
            equal(client.request(command, 0, 512).error, EINVAL, f'the error of command {command}')
        for flags in (1 << 5, 1 << 15, 0xffe0):
            for command in (CMD_READ, CMD_TRIM, CMD_FLUSH, CMD_WRITE_ZEROES):
                length = 0 if command == CMD_FLUSH else 512
                equal(client.request(command, 0, length, flags=flags).error, EINVAL, f'of command {command}, {flags:#x}')
            equal(client.write(0, b'x' * 512, flags), EINVAL, f'the error of a write with flags {flags:#x}')
        equal(client.request(CMD_READ, 0, 512, flags=FLAG_DF).error, EINVAL, 'that of DF without structured replies')
        check(client.request(CMD_BLOCK_STATUS, 0, 512).error == EINVAL, 'block status without a context is refused')
        still_good(served, client)


def test_a_wrong_magic_ends_the_connection(t):
    with Served(t) as served, served.client() as client:
        client.send_request(CMD_READ, 0, 512, magic=REQUEST_MAGIC ^ 0x100)
        check(client.is_closed_by_server(), 'the server hangs up')


def test_a_read_only_export_is_not_changed(t):
    with Served(t, '-r') as served:
        for structured in (False, True):
            with served.client(structured) as client:
                check(client.flags & TRANS_READ_ONLY, 'it is announced')
                for error in (client.write(0, b'x' * 65536), client.request(CMD_WRITE_ZEROES, 0, 512).error,
                              client.request(CMD_TRIM, 0, 512).error, client.write(SIZE, b'x' * 512)):
                    equal(error, EINVAL if qemu_in_our_place() else EPERM, 'the error')
                equal(client.request(CMD_FLUSH).error, 0, 'the error of a flush')
                still_good(served, client)


def test_a_client_that_leaves_in_the_middle_of_a_request(t):
    request = request_bytes(CMD_WRITE, 0, 2048, b'x' * 2047)
    with Served(t) as served:
        for length in [*range(28), 28, 29, 1000, len(request)]:
            with served.client() as client:
                client.send(request[:length])
    # That nothing of it was written is checked when the image is compared.


def test_everything_in_flight_is_answered_before_a_disconnect(t):
    with Served(t) as served:
        for structured in (False, True):
            with served.client(structured) as client:
                client.send(b''.join(request_bytes(CMD_READ, i * 4096, 4096, cookie=i) for i in range(100)) +
                            request_bytes(CMD_DISC))
                cookies = []
                try:
                    cookies += (client.recv_reply(4096).cookie for _ in range(100))
                except Closed:
                    pass
                check(sorted(cookies) == list(range(100)) or qemu_in_our_place(), f'all are answered, not only {cookies}')
                check(client.is_closed_by_server(), 'the server hangs up then')


def test_nothing_after_a_disconnect_is_done(t):
    with Served(t) as served, served.client() as client:
        client.send(request_bytes(CMD_DISC) + request_bytes(CMD_WRITE, 0, 512, b'x' * 512, FLAG_FUA))
        check(client.is_closed_by_server(), 'the server hangs up')


def test_the_same_cookie_for_many_requests(t):
    with Served(t) as served, served.client() as client:
        for i in range(64):
            client.send_request(CMD_READ, 0, 512, cookie=0xffffffffffffffff)
        for i in range(64):
            equal(client.recv_reply(512)[:3], (0xffffffffffffffff, 0, bytes(served.data[:512])), 'the reply')


def test_a_client_that_never_reads_its_replies(t):
    with Served(t) as served:
        before = served.server.memory()
        stuck = [served.client() for _ in range(4)]
        for client in stuck:
            client.socket.settimeout(0.5)
            try:
                for i in range(20_000):
                    client.send_request(CMD_READ, 0, MIB, cookie=i)
            except TimeoutError:
                pass
        served.use()
        grown = (served.server.memory() - before) / len(stuck)
        diag(f'{grown / MIB:.1f} MiB for each client that does not read')
        if not sanitized() and not qemu_in_our_place():
            check(grown < 40 * MIB, 'what is prepared for such a client is bounded')
        for client in stuck:
            client.close()


def test_the_server_ends_although_nobody_reads_its_replies(t):
    if qemu_in_our_place():
        skip('qemu-nbd waits for such a client')
    served = Served(t)
    with served.client() as client:
        client.send(b''.join(request_bytes(CMD_READ, 0, MIB, cookie=i) for i in range(200)))
        served.use()
        served.server.stop()


def test_a_client_that_stalls_in_the_middle_of_a_write_holds_up_nobody(t):
    with Served(t) as served, served.client() as stalled:
        stalled.send_request(CMD_WRITE, 64 * KIB, 64 * KIB, b'x' * 100)
        with served.client() as client:
            for i in range(50):
                equal(client.write(64 * KIB, bytes([i]) * 4096), 0, 'the error of a write to the same place')
            equal(client.request(CMD_FLUSH).error, 0, 'the error of a flush')
        served.data[64 * KIB:64 * KIB + 4096] = bytes([49]) * 4096


def test_a_half_closed_connection_gets_its_answers(t):
    with Served(t) as served, served.client() as client:
        for i in range(16):
            client.send_request(CMD_READ, i * 4096, 4096, cookie=i)
        client.socket.shutdown(1)   # nothing more will come
        try:
            cookies = [client.recv_reply(4096).cookie for _ in range(16)]
            equal(sorted(cookies), list(range(16)), 'the cookies')
        except Closed:
            check(qemu_in_our_place(), 'the answers come before the end')
        check(client.is_closed_by_server(), 'the server hangs up then')


def test_a_valid_client_beside_hostile_ones(t):
    """Reads on while others send garbage after a good handshake."""
    with Served(t) as served:
        stop = threading.Event()
        wrong = []

        def read_on():
            try:
                with served.client(structured=True) as client:
                    while not stop.is_set():
                        equal(client.read(2 * MIB, 4096), bytes(served.data[2 * MIB:2 * MIB + 4096]), 'the data')
            except Exception as e:
                wrong.append(e)

        reader = threading.Thread(target=read_on)
        reader.start()
        try:
            for _ in range(300):
                with served.client(t.random.randrange(2) == 1) as client:
                    data = bytearray()
                    for _ in range(t.random.randrange(1, 6)):
                        # Anything but what would change the image.
                        command = t.random.choice([CMD_READ, CMD_FLUSH, CMD_CACHE, CMD_BLOCK_STATUS, 8, 77, 0xffff])
                        data += request_bytes(command, t.random.choice([0, SIZE, t.random.getrandbits(64)]),
                                              t.random.choice([0, 512, 4096, t.random.getrandbits(32)]),
                                              flags=t.random.choice([0, 0, 1, 4, 0xffff]),
                                              cookie=t.random.getrandbits(64))
                    data += t.random.randbytes(t.random.randrange(60))
                    try:
                        client.send(bytes(data))
                    except Closed:
                        pass
        finally:
            stop.set()
            reader.join()
        if wrong:
            raise wrong[0]


if __name__ == '__main__':
    main()
