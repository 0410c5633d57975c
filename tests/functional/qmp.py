"""A QMP client: commands in order, and the events that come meanwhile."""
import errno
import json
import os
import socket
import time

PATIENCE = 60       # seconds that a program may take to start, to answer or to end


class QmpError(Exception):
    """What the server answers to a command that it refuses."""

    def __init__(self, error):
        super().__init__(f'{error["class"]}: {error["desc"]}')
        self.kind, self.desc = error['class'], error['desc']


class QmpClosed(Exception):
    """The server has closed the connection."""


class Qmp:
    def __init__(self, path, negotiate=True, ended=lambda: False):
        """Waits until somebody listens at `path`, unless the program that is to do so has ended."""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while (error := self.socket.connect_ex(str(path))) in (errno.ENOENT, errno.ECONNREFUSED):
            if ended() or time.monotonic() > deadline:
                break
            time.sleep(0.01)
        if error:
            raise OSError(error, os.strerror(error), str(path))
        self.file = self.socket.makefile('rb')
        self.events = []        # not yet asked for
        self.greeting = self.recv()['QMP']
        if negotiate:
            self.command('qmp_capabilities')

    def close(self):
        self.file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else json.dumps(data).encode())

    def recv(self):
        """The next message, an answer or an event."""
        try:
            line = self.file.readline()
        except ConnectionResetError:
            line = b''
        if not line:
            raise QmpClosed
        return json.loads(line)

    def answer(self):
        while 'event' in (message := self.recv()):
            self.events.append(message)
        return message

    def command(self, name, /, **arguments):
        """Returns what the command returns. An underscore in a key is a dash in QMP."""
        request = {'execute': name}
        if arguments:
            request['arguments'] = {key.replace('_', '-'): value for key, value in arguments.items()}
        self.send(request)
        answer = self.answer()
        if 'error' in answer:
            raise QmpError(answer['error'])
        return answer['return']

    def refusal(self, name, /, **arguments):
        """The error with which the command is refused."""
        try:
            value = self.command(name, **arguments)
        except QmpError as e:
            return e
        raise AssertionError(f'{name} is not refused but returns {value}')

    def event(self, name):
        """Waits for an event and returns its data; those before it are dropped."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            message = self.events.pop(0) if self.events else self.recv()
            assert 'event' in message, f'an answer to nothing: {message}'
            if message['event'] == name:
                return message.get('data', {})
        raise AssertionError(f'no event {name}')
