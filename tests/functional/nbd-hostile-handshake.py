#!/usr/bin/python3
"""What a client may get wrong before it has an export: refused, forgotten, and nobody else notices."""
import struct
import time

import nbd_served
from ashlar_test import MIB, check, diag, equal, main, qemu_in_our_place, sanitized
from raw_nbd import (CMD_READ, IHAVEOPT, INFO_BLOCK_SIZE, INFO_DESCRIPTION, INFO_EXPORT, INFO_NAME, OPT_ABORT,
                     OPT_EXPORT_NAME, OPT_GO, OPT_INFO, OPT_LIST, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT,
                     OPT_STARTTLS, OPT_STRUCTURED_REPLY, REP_ACK, REP_ERR_INVALID, REP_ERR_TOO_BIG, REP_ERR_UNKNOWN,
                     REP_ERR_UNSUP, REP_META_CONTEXT, REP_SERVER, Closed, RawNbd, meta_query,
                     request_bytes)

NAME = b'disk'


class Served(nbd_served.Served):
    def __init__(self, t, *options):
        super().__init__(t, MIB, '-D', 'a disk', *options, name=NAME)

    def client(self, **more):
        client = RawNbd(self.server.address)
        client.greet(**more)
        return client


def last(client, option, data=b'', **more):
    return client.option(option, data, **more)[-1].type


def goes_on(client):
    client.go(NAME)
    client.read(0, 512)


def refused(client, option, data, *errors):
    """The option gets one of these errors, and the connection is as good as before."""
    error = last(client, option, data)
    check(error in errors, f'option {option} with {data[:60]!r} is answered with {error:#x}')


def test_a_client_that_leaves_after_any_byte(t):
    whole = (struct.pack('>I', 3) + struct.pack('>QII', IHAVEOPT, OPT_STRUCTURED_REPLY, 0) +
             struct.pack('>QII', IHAVEOPT, OPT_SET_META_CONTEXT, len(meta_query(NAME, b'base:'))) +
             meta_query(NAME, b'base:') +
             struct.pack('>QII', IHAVEOPT, OPT_GO, len(RawNbd.go_data(NAME))) + RawNbd.go_data(NAME) +
             request_bytes(CMD_READ, 0, 4096))
    with Served(t) as served:
        for length in range(len(whole) + 1):
            for greeted in (False, True):
                client = RawNbd(served.server.address)
                if greeted:
                    client.greet(flags=None)
                client.send(whole[:length])
                client.close()


def test_everything_at_once_and_byte_by_byte(t):
    go = RawNbd.go_data(NAME)
    handshake = struct.pack('>IQII', 3, IHAVEOPT, OPT_GO, len(go)) + go
    request = request_bytes(CMD_READ, 0, 4096)
    with Served(t) as served:
        for step in (len(handshake + request), 1):
            client = RawNbd(served.server.address)
            for at in range(0, len(handshake + request), step):
                client.send((handshake + request)[at:at + step])
            client.greet(flags=None)
            while client.recv_option_reply(OPT_GO).type != REP_ACK:
                pass
            equal(client.recv_reply(4096).data, bytes(served.data[:4096]), 'the data')
            client.close()


def test_client_flags_of_the_future_end_the_connection(t):
    with Served(t) as served:
        for flags in (4, 0x80000000, 0xffffffff):
            client = served.client(flags=flags)
            check(client.is_closed_by_server(), f'the server hangs up on flags {flags:#x}')
            client.close()


def test_a_wrong_magic_ends_the_connection(t):
    with Served(t) as served:
        client = served.client()
        client.send_option(OPT_LIST, magic=IHAVEOPT ^ 1)
        check(client.is_closed_by_server(), 'the server hangs up')
        client.close()


def test_unknown_options_are_refused_and_their_data_skipped(t):
    with Served(t) as served, served.client() as client:
        for option, length in [(4, 0), (12, 1), (99, 100), (0xffffffff, 4096), (0, 5)]:
            equal(last(client, option, b'\xff' * length), REP_ERR_UNSUP, f'the reply to option {option}')
        check(last(client, OPT_STARTTLS) & 0x80000000, 'STARTTLS is refused')
        goes_on(client)


def test_an_option_of_huge_length_is_not_believed(t):
    with Served(t) as served:
        for option in (OPT_GO, OPT_LIST, OPT_SET_META_CONTEXT, OPT_EXPORT_NAME, 99):
            for length in (0xffffffff, 0x80000000, 1 << 26):
                before = served.server.memory()
                client = served.client()
                try:
                    client.send_option(option, b'x' * 100000, length=length)
                    if option != OPT_EXPORT_NAME:
                        reply = client.recv_option_reply(option)
                        check(reply.type & 0x80000000, f'option {option} of {length} bytes is refused')
                except Closed:
                    pass
                check(sanitized() or served.server.memory() - before < 4 * MIB, 'no memory is set aside for it')
                client.close()


def test_long_names(t):
    longest = b'n' * 4096
    with Served(t) as served, served.client() as client:
        refused(client, OPT_INFO, RawNbd.go_data(longest), REP_ERR_UNKNOWN)
        refused(client, OPT_GO, RawNbd.go_data(longest), REP_ERR_UNKNOWN)
        goes_on(client)
        for length in (4097, 5000, 65536):
            with served.client() as other:
                try:
                    refused(other, OPT_GO, RawNbd.go_data(b'n' * length), REP_ERR_UNKNOWN, REP_ERR_INVALID,
                            REP_ERR_TOO_BIG)
                    goes_on(other)
                except Closed:
                    check(qemu_in_our_place(), f'the connection outlives a name of {length} bytes')


def test_names_that_are_not_text(t):
    with Served(t) as served, served.client() as client:
        for name in (b'\xff\xfe', b'disk\0', b'\xc3', b'di\0sk', b'\xed\xa0\x80'):
            refused(client, OPT_INFO, RawNbd.go_data(name), REP_ERR_UNKNOWN, REP_ERR_INVALID)
            refused(client, OPT_GO, RawNbd.go_data(name), REP_ERR_UNKNOWN, REP_ERR_INVALID)
        goes_on(client)


def test_lengths_that_disagree(t):
    with Served(t) as served, served.client() as client:
        for data in (b'', b'\0', struct.pack('>I', 5) + b'disk', struct.pack('>I', 0xffffffff) + b'disk\0\0',
                     struct.pack('>I', 4) + b'disk',                        # no count of informations
                     struct.pack('>I', 4) + b'disk\0',
                     struct.pack('>I', 4) + b'disk\0\1',                    # a count, but no information
                     struct.pack('>I', 4) + b'disk\0\1\0',
                     struct.pack('>I', 4) + b'disk\xff\xff\0\3',
                     struct.pack('>I', 4) + b'disk\0\0\0\0'):               # more than was announced
            refused(client, OPT_GO, data, REP_ERR_INVALID)
            refused(client, OPT_INFO, data, REP_ERR_INVALID)
        refused(client, OPT_LIST, b'x', REP_ERR_INVALID)
        refused(client, OPT_STRUCTURED_REPLY, b'x', REP_ERR_INVALID)
        goes_on(client)


def test_meta_contexts_out_of_order_or_malformed(t):
    with Served(t) as served, served.client() as client:
        refused(client, OPT_SET_META_CONTEXT, meta_query(NAME, b'base:allocation'), REP_ERR_INVALID)
        client.negotiate_structured()
        good = meta_query(NAME, b'base:allocation')
        for data in (b'', good[:3], good[:8], good[:-1], good[:-1] if qemu_in_our_place() else good + b'x', struct.pack('>I', 0xffffffff) + good[4:],
                     struct.pack('>I', 4) + NAME + struct.pack('>I', 0xffffffff),
                     struct.pack('>I', 4) + NAME + struct.pack('>II', 1, 0xffffffff) + b'base:allocation'):
            for option in (OPT_SET_META_CONTEXT, OPT_LIST_META_CONTEXT):
                refused(client, option, data, REP_ERR_INVALID, REP_ERR_TOO_BIG)
        for option in (OPT_SET_META_CONTEXT, OPT_LIST_META_CONTEXT):
            refused(client, option, meta_query(b'other', b'base:allocation'), REP_ERR_UNKNOWN)
        strange = meta_query(NAME, b'', b'base', b':', b'base:nonsense', b'x-future:thing', b'b' * 4096)
        equal([r.type for r in client.option(OPT_SET_META_CONTEXT, strange)], [REP_ACK], 'the contexts that were set')
        found = client.option(OPT_LIST_META_CONTEXT, meta_query(NAME, b'base:'))
        equal([(r.type, r.data[4:]) for r in found], [(REP_META_CONTEXT, b'base:allocation'), (REP_ACK, b'')],
              'the contexts of base:')
        goes_on(client)


def test_abort_is_acknowledged_and_ends_it(t):
    with Served(t) as served, served.client() as client:
        equal(last(client, OPT_ABORT), REP_ACK, 'the reply')
        check(client.is_closed_by_server(), 'the server hangs up')


def test_export_name_with_and_without_padding(t):
    with Served(t) as served:
        for flags, padding in ((3, 0), (1, 124), (0, 124)):
            with served.client(flags=flags) as client:
                client.send_option(OPT_EXPORT_NAME, NAME)
                size, _ = client.unpack('>QH')
                equal(size, MIB, 'the size')
                equal(client.recv(padding), bytes(padding), 'the padding')
                equal(client.read(0, 4096), bytes(served.data[:4096]), 'the data')
        with served.client() as client:
            client.send_option(OPT_EXPORT_NAME, b'other')
            check(client.is_closed_by_server(), 'the server hangs up on an unknown name')


def test_list_and_info_leave_the_handshake_open(t):
    with Served(t) as served, served.client() as client:
        for _ in range(3):
            first, ack = client.option(OPT_LIST)
            equal(first.type, REP_SERVER, 'the reply to LIST')
            equal(first.data[4:4 + len(NAME)], NAME, 'the name')
            told = client.go(NAME, [INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE, 0x7fff], option=OPT_INFO)
            equal(told[INFO_NAME], NAME, 'the name')
            equal(told[INFO_DESCRIPTION], b'a disk', 'the description')
            check(INFO_EXPORT in told and INFO_BLOCK_SIZE in told, 'the export and the block sizes are told')
        goes_on(client)


def test_a_flood_of_options_whose_answers_are_not_read(t):
    option = struct.pack('>QII', IHAVEOPT, OPT_LIST, 0)
    with Served(t) as served:
        before = served.server.memory()
        flooding = served.client()
        flooding.socket.settimeout(1)
        try:
            for _ in range(2000):
                flooding.send(option * 1000)
        except (TimeoutError, Closed):
            pass
        served.use()
        if not sanitized():
            check(served.server.memory() - before < 4 * MIB, 'the server does not collect what it cannot send')
        flooding.close()


def test_random_bytes(t):
    with Served(t) as served:
        for _ in range(300):
            client = RawNbd(served.server.address)
            client.greet(flags=t.random.choice([None, 0, 1, 3]))
            data = bytearray(t.random.randbytes(t.random.randrange(200)))
            if t.random.randrange(2):
                data[:0] = struct.pack('>QII', IHAVEOPT, t.random.randrange(12), t.random.choice(
                    [len(data), t.random.randrange(1 << 32), t.random.randrange(300)]))
            try:
                client.send(bytes(data))
            except Closed:
                pass
            client.close()


def test_a_silent_client_keeps_nobody_waiting(t):
    with Served(t) as served:
        silent = [RawNbd(served.server.address) for _ in range(50)]
        start = time.monotonic()
        served.use()
        diag(f'a good client took {(time.monotonic() - start) * 1e3:.0f} ms beside 50 silent ones')
        for client in silent:
            client.close()


if __name__ == '__main__':
    main()
