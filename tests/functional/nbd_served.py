"""A server with an image, and the certainty afterwards that it still serves and has forgotten everybody."""
from ashlar_test import equal, wait_until
from raw_nbd import RawNbd


class Served:
    def __init__(self, t, size, *options, name=b''):
        self.name = name
        self.image = t.image('disk', size)
        self.data = bytearray(self.image.read_bytes())
        self.server = t.serve(self.image, '-x', name.decode(), *options)
        self.use()
        self.files = self.server.open_files()

    def use(self):
        with RawNbd.connected(self.server.address, self.name, structured=True) as client:
            equal(client.read(0, 4096), bytes(self.data[:4096]), 'what a good client reads')

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.use()
            wait_until(lambda: self.server.open_files() <= self.files, 'the server has closed every connection')
            self.server.stop()
