"""An NBD client that says exactly what it is told to, right or wrong, for tests of what a server makes of it.

Numbers and names are those of the NBD specification (doc/proto.md). Nothing here checks that the test is a good client;
what is received is checked for its form, and every wait ends after PATIENCE.
"""
import os
import socket
import struct
from collections import namedtuple

from ashlar_test import PATIENCE

IHAVEOPT = 0x49484156454f5054
OPTION_REPLY_MAGIC = 0x3e889045565a9
REQUEST_MAGIC = 0x25609513
EXTENDED_REQUEST_MAGIC = 0x21e41c71
SIMPLE_REPLY_MAGIC = 0x67446698
STRUCTURED_REPLY_MAGIC = 0x668e33ef
EXTENDED_REPLY_MAGIC = 0x6e8a278c

(OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_STARTTLS, OPT_INFO, OPT_GO, OPT_STRUCTURED_REPLY, OPT_LIST_META_CONTEXT,
 OPT_SET_META_CONTEXT, OPT_EXTENDED_HEADERS) = 1, 2, 3, 5, 6, 7, 8, 9, 10, 11
REP_ACK, REP_SERVER, REP_INFO, REP_META_CONTEXT = 1, 2, 3, 4
(REP_ERR_UNSUP, REP_ERR_POLICY, REP_ERR_INVALID, REP_ERR_PLATFORM, REP_ERR_TLS_REQD, REP_ERR_UNKNOWN, REP_ERR_SHUTDOWN,
 REP_ERR_BLOCK_SIZE_REQD, REP_ERR_TOO_BIG) = (0x80000000 | n for n in range(1, 10))
INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE = range(4)

CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM, CMD_CACHE, CMD_WRITE_ZEROES, CMD_BLOCK_STATUS = range(8)
FLAG_FUA, FLAG_NO_HOLE, FLAG_DF, FLAG_REQ_ONE, FLAG_FAST_ZERO, FLAG_PAYLOAD_LEN = (1 << n for n in range(6))
TRANS_HAS_FLAGS, TRANS_READ_ONLY, TRANS_SEND_FLUSH, TRANS_SEND_FUA = (1 << n for n in range(4))
TRANS_SEND_TRIM, TRANS_SEND_WRITE_ZEROES, TRANS_SEND_DF, TRANS_MULTI_CONN = (1 << n for n in range(5, 9))
CHUNK_NONE, CHUNK_DATA, CHUNK_HOLE, CHUNK_BLOCK_STATUS, CHUNK_BLOCK_STATUS_EXT = 0, 1, 2, 5, 6
CHUNK_ERROR, CHUNK_ERROR_OFFSET = 0x8001, 0x8002
EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = 1, 5, 12, 22, 28, 75, 95, 108

# A whole answer, of whichever kind. chunks: the types of its chunks; extents: of each meta context, (length, flags).
Reply = namedtuple('Reply', 'cookie error data chunks extents', defaults=((), {}))
OptionReply = namedtuple('OptionReply', 'type data')


def request_bytes(command, offset=0, length=0, data=b'', flags=0, cookie=1, magic=REQUEST_MAGIC):
    return struct.pack('>IHHQQI', magic, flags, command, cookie, offset, length) + data


def extended_request_bytes(command, offset=0, length=0, data=b'', flags=0, cookie=1, magic=EXTENDED_REQUEST_MAGIC):
    return struct.pack('>IHHQQQ', magic, flags, command, cookie, offset, length) + data


def meta_query(name, *contexts):
    return (struct.pack('>I', len(name)) + name + struct.pack('>I', len(contexts)) +
            b''.join(struct.pack('>I', len(context)) + context for context in contexts))


class Closed(Exception):
    """The server has closed the connection."""


class RawNbd:
    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.socket.connect(address)
        self.socket.settimeout(PATIENCE)
        self.structured = self.extended = False
        self.contexts = {}      # id -> name
        self.size = self.flags = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    # Bytes

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise Closed from None

    def recv(self, count):
        data = bytearray()
        while len(data) < count:
            try:
                part = self.socket.recv(count - len(data))
            except ConnectionResetError:
                part = b''
            if not part:
                raise Closed(f'{len(data)} of {count} bytes came')
            data += part
        return bytes(data)

    def unpack(self, form):
        return struct.unpack(form, self.recv(struct.calcsize(form)))

    def is_closed_by_server(self):
        """Waits until the server hangs up; what it says until then is thrown away."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError:
            return False
        return True

    # Handshake

    def greet(self, flags=3):
        """Receives the greeting and sends the client's flags (None: nothing); returns the server's."""
        magic, option_magic, server_flags = self.unpack('>8sQH')
        assert magic == b'NBDMAGIC' and option_magic == IHAVEOPT, (magic, option_magic)
        if flags is not None:
            self.send(struct.pack('>I', flags))
        return server_flags

    def send_option(self, option, data=b'', length=None, magic=IHAVEOPT):
        self.send(struct.pack('>QII', magic, option, len(data) if length is None else length) + data)

    def recv_option_reply(self, option):
        magic, of, kind, length = self.unpack('>QIII')
        assert magic == OPTION_REPLY_MAGIC and of == option, (hex(magic), of)
        assert length <= 1 << 20, length
        return OptionReply(kind, self.recv(length))

    def option(self, option, data=b'', **more):
        """Sends an option and returns the replies up to the last, which is an acknowledgement or an error."""
        self.send_option(option, data, **more)
        replies = []
        while not replies or not (replies[-1].type == REP_ACK or replies[-1].type & 0x80000000):
            replies.append(self.recv_option_reply(option))
        return replies

    @staticmethod
    def go_data(name=b'', infos=()):
        return struct.pack('>I', len(name)) + name + struct.pack(f'>H{len(infos)}H', len(infos), *infos)

    def go(self, name=b'', infos=(), option=OPT_GO):
        """Enters the transmission phase; returns what the server told: information type -> its bytes."""
        *told, last = self.option(option, self.go_data(name, infos))
        assert last.type == REP_ACK, (hex(last.type), last.data)
        found = {struct.unpack('>H', r.data[:2])[0]: r.data[2:] for r in told}
        self.size, self.flags = struct.unpack('>QH', found[INFO_EXPORT])
        return found

    def negotiate_structured(self):
        answer = self.option(OPT_STRUCTURED_REPLY)[-1].type
        assert answer == REP_ACK, hex(answer)
        self.structured = True

    def negotiate_extended(self):
        answer = self.option(OPT_EXTENDED_HEADERS)[-1].type
        assert answer == REP_ACK, hex(answer)
        self.structured = self.extended = True

    def set_contexts(self, name, *contexts):
        """Returns what the server has selected: id -> name."""
        *selected, last = self.option(OPT_SET_META_CONTEXT, meta_query(name, *contexts))
        assert last.type == REP_ACK, (hex(last.type), last.data)
        self.contexts = {struct.unpack('>I', r.data[:4])[0]: r.data[4:] for r in selected}
        return self.contexts

    @classmethod
    def connected(cls, address, name=b'', structured=False):
        client = cls(address)
        client.greet()
        if structured:
            client.negotiate_structured()
        client.go(name)
        return client

    # Transmission

    def send_request(self, *request, **more):
        self.send((extended_request_bytes if self.extended else request_bytes)(*request, **more))

    def recv_reply(self, read_length=0):
        """One whole reply. `read_length`: of the READ that a simple reply would answer."""
        magic = self.unpack('>I')[0]
        if magic == SIMPLE_REPLY_MAGIC:
            error, cookie = self.unpack('>IQ')
            return Reply(cookie, error, b'' if error else self.recv(read_length))
        error, parts, cookie, chunks, extents = 0, {}, None, [], {}
        while True:
            if self.extended:
                assert magic == EXTENDED_REPLY_MAGIC, hex(magic)
                flags, kind, of, _, length = self.unpack('>HHQQQ')
            else:
                assert magic == STRUCTURED_REPLY_MAGIC and self.structured, hex(magic)
                flags, kind, of, length = self.unpack('>HHQI')
            assert cookie in (None, of), 'chunks of several replies are mixed: wait for each reply'
            cookie = of
            chunks.append(kind)
            payload = self.recv(length)
            if kind == CHUNK_DATA:
                parts[struct.unpack('>Q', payload[:8])[0]] = payload[8:]
            elif kind == CHUNK_HOLE:
                at, hole = struct.unpack('>QI', payload)
                parts[at] = bytes(hole)
            elif kind == CHUNK_BLOCK_STATUS:
                assert not self.extended, 'a block status of 32 bits'
                extents[self.contexts[struct.unpack('>I', payload[:4])[0]]] = list(struct.iter_unpack('>II', payload[4:]))
            elif kind == CHUNK_BLOCK_STATUS_EXT:
                context, count = struct.unpack('>II', payload[:8])
                extents[self.contexts[context]] = list(struct.iter_unpack('>QQ', payload[8:]))
                assert len(extents[self.contexts[context]]) == count, count
            elif kind & 0x8000:
                error = struct.unpack('>I', payload[:4])[0]
                assert error, 'an error chunk without an error'
            else:
                assert kind == CHUNK_NONE and length == 0 and flags & 1, (kind, length, flags)
            if flags & 1:
                break
            magic = self.unpack('>I')[0]
        return Reply(cookie, error, b''.join(parts[at] for at in sorted(parts)), chunks, extents)

    def request(self, command, offset=0, length=0, data=b'', flags=0, cookie=None):
        """Sends a request and returns its reply, which must be to it."""
        cookie = int.from_bytes(os.urandom(8), 'big') if cookie is None else cookie
        self.send_request(command, offset, length, data, flags, cookie=cookie)
        reply = self.recv_reply(length if command == CMD_READ else 0)
        assert reply.cookie == cookie, (reply.cookie, cookie)
        return reply

    def read(self, offset, length):
        reply = self.request(CMD_READ, offset, length)
        assert reply.error == 0, reply.error
        return reply.data

    def write(self, offset, data, flags=0):
        flags |= FLAG_PAYLOAD_LEN if self.extended else 0
        return self.request(CMD_WRITE, offset, len(data), data, flags).error

    def disconnect(self):
        self.send_request(CMD_DISC)
        self.close()
